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
from hf_mlops.base.spec import slug_of
from hf_mlops.registry.models import classifier_of
from hf_mlops.registry.names import EXPORTED, FORGET, alias_of
from hf_mlops.registry.runs import step_run
from hf_mlops.registry.versions import name_of
from hf_mlops.steps.step import Step


@dataclass(frozen=True)
class Export(Step):
    """Checks a registered classifier against what was audited, and writes it with its audit as JSON.

    Args:
        version: the classifier.
        output: the folder to write the folder `forget-<slug>` in.
    """

    name = "export"
    room = "serving"

    version: ModelVersion
    output: Path

    @property
    def inputs(self) -> dict[str, Any]:
        return {"classifier": name_of(self.version), "output": str(self.output)}

    def run(self) -> Run:
        with step_run(self.name, self.fingerprint, self.inputs) as active:
            classifier = classifier_of(self.version)
            folder = self.output / alias_of(slug_of(self.version.tags[FORGET].split(",")))
            audit = {"name": self.version.name, "version": int(self.version.version), **self.version.tags}
            with whole_directory(folder) as partial:
                (partial / EXPORTED).write_bytes(classifier.data)
                (partial / "audit.json").write_text(json.dumps(audit, indent=2))
            mlflow.log_artifacts(str(folder))
            print(f"exported    {folder}/{EXPORTED}, with its audit in {folder}/audit.json")
        return active
