"""Step `retrain`: retrains targets for the very spec of a request, so that its sample is judged beside its own kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow.entities import Run

from hf_mlops.audit.reference import Reference
from hf_mlops.audit.retraining import retrained
from hf_mlops.audit.tables import reference_summary
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.compute.device import choose_device
from hf_mlops.data.dataset import Dataset
from hf_mlops.population.target import Target
from hf_mlops.registry.names import REFERENCE
from hf_mlops.registry.runs import artifacts_of, log_dataset, step_run
from hf_mlops.steps.step import Step


@dataclass(frozen=True)
class Retrain(Step):
    """Retrains targets without a spec as those of a reference were, and logs how they fare.

    Args:
        reference: of the population that they are to be like.
        target: its target.
        dataset: that it was trained on.
        spec: what is to be forgotten.
        n: how many to retrain; each has a data order and sample weights of its own.
        device: `auto`, `cpu` or `cuda`.
    """

    name = "retrain"
    room = "audit"

    reference: Reference
    target: Target
    dataset: Dataset
    spec: ForgetSpec
    n: int
    device: str = "auto"

    @property
    def inputs(self) -> dict[str, Any]:
        return {
            "config": self.reference.config,
            "network": self.target.initialisation_digest,
            "data": self.dataset.digest,
            "spec": str(self.spec),
            "n": self.n,
            "device": choose_device(self.device).type,
        }

    def run(self) -> Run:
        params = {"dataset": self.dataset.name, "device": self.device, "spec": str(self.spec), "n": self.n}
        with step_run(self.name, self.fingerprint, params) as active:
            log_dataset(self.dataset, "retraining")
            made = retrained(self.reference, self.target, self.dataset, self.spec, self.n, device=self.device)
            with TemporaryDirectory() as folder:
                made.save(Path(folder))
                mlflow.log_artifacts(folder, REFERENCE)
            print(reference_summary(made).to_string(index=False, float_format="%.4f"))
        return active


def retrained_by(run: Run) -> Reference:
    """The reference that a run of `Retrain` has made."""
    return Reference.load(artifacts_of(run, REFERENCE))
