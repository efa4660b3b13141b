"""Step `export`: takes a registered classifier out of the registry as verified files, ready to deploy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from hf_mlops.base.artifact import whole_directory
from hf_mlops.base.errors import DamagedArtifact
from hf_mlops.registry.models import classifier_file
from hf_mlops.registry.names import alias_of
from hf_mlops.registry.runs import step_run
from hf_mlops.serving.classifier import OnnxClassifier
from hf_mlops.steps.step import Step


@dataclass(frozen=True)
class Export(Step):
    """Checks a registered classifier against what was audited, and writes it with its audit as JSON.

    Args:
        version: the classifier.
        slug: of its forget spec.
        output: the folder to write the folder `forget-<slug>` in.
    """

    name = "export"
    room = "serving"

    version: ModelVersion
    slug: str
    output: Path

    @property
    def _params(self) -> dict[str, str]:
        return {"classifier": f"{self.version.name}/{self.version.version}", "output": str(self.output)}

    @property
    def inputs(self) -> dict[str, Any]:
        return self._params

    def run(self) -> Run:
        with step_run(self.name, self.fingerprint, self._params) as active:
            classifier = OnnxClassifier.read(classifier_file(self.version))
            classifier.check()
            found, audited = classifier.digest, self.version.tags["weights_sha256"]
            if not found == classifier.metadata["weights_sha256"] == audited:
                raise DamagedArtifact(
                    f"{self._params['classifier']} is not what was audited: its weights have SHA-256 {found},"
                    f" audited were {audited}"
                )
            folder = self.output / alias_of(self.slug)
            audit = {"version": int(self.version.version), **self.version.tags}
            with whole_directory(folder) as partial:
                (partial / "classifier.onnx").write_bytes(classifier.data)
                (partial / "audit.json").write_text(json.dumps(audit, indent=2))
            mlflow.log_artifacts(str(folder))
            print(f"exported    {folder}/classifier.onnx, with its audit in {folder}/audit.json")
        return active
