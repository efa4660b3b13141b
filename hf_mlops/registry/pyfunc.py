"""The registered model `hyperforget`, as MLflow models-from-code: `predict` samples unlearned weights for forget specs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext
from safetensors.torch import save

from hf_mlops.audit.reference import Reference
from hf_mlops.base.errors import BadRequest
from hf_mlops.hypernet.model import Hypernetwork
from hf_mlops.serving.classifier import OnnxClassifier


class HyperForget(PythonModel):
    """Samples classifiers that behave as if retrained without a forget set."""

    def load_context(self, context: PythonModelContext) -> None:
        folder = Path(context.artifacts["hypernetwork"])
        self.hypernetwork = Hypernetwork.load(folder)
        self.reference = Reference.load(folder)
        self.template = OnnxClassifier.read(folder / "template.onnx")

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row per sample.

        Args:
            model_input: column `forget`, forget specs as text: `"7"`, `"3,5"`, group names, `""` for none.
            params: `n_samples` of each row, `seed` of each row's first sample, denoising `steps`, and `retain_loss` and
                `forget_loss` to ask for (absent: those of retrained classifiers).

        Returns:
            `forget`, `sample` (from 0), `seed`, the prompted `retain_loss` and `forget_loss` (nats; NaN if nothing is
            forgotten), and `weights`, the bytes of a safetensors file with the network's complete state dict: the generated
            tensors and the shared ones.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE for a bad spec or parameter.
        """
        asked = dict(params or {})
        n = asked.pop("n_samples", 1)
        rows = []
        try:
            for forget in model_input["forget"]:  # one spec at a time: a row's samples cannot depend on its neighbours
                samples = self.hypernetwork.sample(forget, n, **asked)
                for index, seed in enumerate(samples.seeds):
                    state = self.hypernetwork.target.state_dict(samples.weights[index])
                    rows.append(
                        {
                            "forget": str(samples.spec),
                            "sample": index,
                            "seed": seed,
                            "retain_loss": samples.prompt.retain_loss,
                            "forget_loss": samples.prompt.forget_loss,
                            "weights": save({name: tensor.contiguous() for name, tensor in state.items()}),
                        }
                    )
        except BadRequest as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return pd.DataFrame(rows)


mlflow.models.set_model(HyperForget())
