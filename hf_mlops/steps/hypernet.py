"""Step `hypernet`: trains the hypernetwork on a population, audits it and registers it: as champion, or challenger."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from hf_mlops.audit.gates import Gates
from hf_mlops.audit.reference import Reference
from hf_mlops.audit.sweeps import audit_specs
from hf_mlops.audit.tables import SINGLE, kind_of, spec_table, summary
from hf_mlops.base import artifact
from hf_mlops.base.errors import BadRequest, DamagedArtifact, GateFailure
from hf_mlops.compute.device import choose_device, describe_device
from hf_mlops.data.dataset import Dataset
from hf_mlops.hypernet.model import HypernetConfig, Hypernetwork
from hf_mlops.hypernet.training import train_hypernetwork
from hf_mlops.population.population import Population
from hf_mlops.registry.hypernetworks import register_hypernetwork
from hf_mlops.registry.names import (
    CHALLENGER,
    CHECKPOINT,
    CHECKPOINTS,
    FINGERPRINT,
    POPULATION,
    PURGED,
    RESUMABLE,
    STANDING,
    TARGETS_RUN,
    VERSION,
)
from hf_mlops.registry.permissions import EDIT, require_permissions
from hf_mlops.registry.runs import BROKEN_OFF, artifacts_of, delete_artifacts, find_run, log_dataset, step_run
from hf_mlops.registry.store import was_allowed
from hf_mlops.registry.versions import Subject, could_belong, model_for, name_of, refuse_again
from hf_mlops.steps.card import model_card
from hf_mlops.steps.step import Step, made_by


@dataclass(frozen=True)
class Hypernet(Step):
    """Trains a hypernetwork, going on from the checkpoint of an interrupted run if there is one, and registers it.

    Args:
        config: of the hypernetwork.
        gates: what its samples of every single group must show on average, or it is not registered.
        targets: the run of the population to learn from.
        dataset: that the population was trained on.
        device: `auto`, `cpu` or `cuda`.
    """

    name = "hypernet"
    room = "audit"
    writes = ("registry/hypernetworks.py", "registry/pyfunc.py", "steps/card.py")

    config: HypernetConfig
    gates: Gates
    targets: Run
    dataset: Dataset
    device: str = "auto"

    @property
    def inputs(self) -> dict[str, Any]:
        return {
            "config": asdict(self.config),
            "gates": asdict(self.gates),
            "targets": self.targets.info.run_id,
            "device": choose_device(self.device).type,
        }

    def run(self) -> Run:
        refuse_again(FINGERPRINT, self.fingerprint)
        config, dataset, targets = self.config, self.dataset, self.targets.info.run_id
        if PURGED in self.targets.data.tags:
            raise BadRequest(
                f"the population of the targets run {targets} was deleted at {self.targets.data.tags[PURGED]}; allowed: a run"
                " that has its own; `mlflow run . -e targets` trains one"
            )
        population = Population.load(artifacts_of(self.targets, POPULATION))
        dataset.require(population.made_from)
        subject = Subject.trained_on(population.made_from, population.target.architecture, population.target.scope)
        require_permissions(models={model_for(subject, could_belong): EDIT})
        made_of = {"dataset": dataset.name, "device": self.device, "targets_run": targets}
        params = {**made_of, **asdict(config), **asdict(self.gates)}
        with TemporaryDirectory() as folder, step_run(self.name, self.fingerprint, params) as active:
            log_dataset(dataset, "training")
            interrupted = find_run(self.name, self.fingerprint, {RESUMABLE: "true"}, BROKEN_OFF)
            checkpoints = Checkpoints(Path(folder) / "checkpoint", active, interrupted)
            checkpoints.go_on()
            log, device = lambda step, figures: mlflow.log_metrics(figures, step), self.device
            hypernetwork = train_hypernetwork(config, population, dataset, device, log, checkpoints.folder, checkpoints.keep)
            mlflow.set_tags(describe_device(choose_device(device)))
            reference = Reference.of(population, dataset)
            table = check(hypernetwork, reference, dataset, self.gates)
            version = register_hypernetwork(
                hypernetwork,
                reference,
                dataset.class_names,
                Path(folder) / "model",
                {"variant": config.variant, "space": config.space, TARGETS_RUN: targets, **made_by(self)},
                model_card(hypernetwork, reference, dataset, table, self.gates),
            )
            mlflow.set_tag(VERSION, name_of(version))
            checkpoints.drop()
            print(summary(table).to_string(index=False, float_format="%.4f"))
            alias = version.tags[STANDING]
            print(f"registered {version.name} version {version.version}: models:/{version.name}@{alias}")
            if alias == CHALLENGER:
                print(f"to make it champion: mlflow run . -e promote -P model={version.name}")
        return active


@dataclass
class Checkpoints:
    """Checkpoints of a training as artifacts of its run, so that another run can go on from the last one.

    Args:
        folder: where the training leaves one, and looks for one at its start.
        active: the run of the training.
        interrupted: an earlier run with a checkpoint to go on from.
    """

    folder: Path
    active: Run
    interrupted: Run | None
    kept: list[str] = field(default_factory=list)

    def go_on(self) -> None:
        """Takes over the checkpoint of the interrupted run, if any; it is this run's own before it is deleted there."""
        if self.interrupted is None:
            return
        step = self.interrupted.data.tags[CHECKPOINT]
        try:
            shutil.copytree(artifacts_of(self.interrupted, step), self.folder)
            artifact.read(self.folder, "training")
        except (OSError, MlflowException, DamagedArtifact) as error:
            print(f"the checkpoint of the interrupted run {self.interrupted.info.run_id} cannot be used: {error}")
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            print(f"going on from the checkpoint of the interrupted run {self.interrupted.info.run_id}")
            self.keep(int(step.rpartition("/")[2]))
        if not was_allowed(partial(self._drop_of, self.interrupted)):
            print("it stays there as well: this user may not delete it")

    def keep(self, step: int) -> None:
        """Tags the run only with a checkpoint that is there whole, then drops the one before."""
        self.kept.append(f"{CHECKPOINTS}/{step}")
        mlflow.log_artifacts(str(self.folder), self.kept[-1])
        mlflow.set_tags({RESUMABLE: "true", CHECKPOINT: self.kept[-1]})
        for old in self.kept[-2:-1]:
            delete_artifacts(self.active, old)

    def drop(self) -> None:
        """Deletes them."""
        if self.kept:
            self._drop_of(self.active)

    @staticmethod
    def _drop_of(run: Run) -> None:
        mlflow.MlflowClient().set_tag(run.info.run_id, RESUMABLE, "false")
        delete_artifacts(run, CHECKPOINTS)


def check(hypernetwork: Hypernetwork, reference: Reference, dataset: Dataset, gates: Gates) -> pd.DataFrame:
    """The audits of samples of every single group, as a table, which is logged; refuses a hypernetwork that fails its gates.

    A group without which no test image is left is not audited: nothing could be said of what is kept.
    """
    singles = [spec for spec in reference.specs() if kind_of(spec, reference) == SINGLE]
    judged = [spec for spec in singles if reference.leaves_images(spec)]
    if aside := [str(spec) for spec in singles if spec not in judged]:
        print(f"not judged: forgetting {', '.join(aside)}, which leaves no test image to judge by")
    audits = audit_specs(hypernetwork, reference, dataset, judged)
    table = spec_table(audits, reference)
    mlflow.log_text(table.to_csv(index=False), "audit.csv")
    figures = {name: float(table[name].mean()) for name in ("forget_accuracy", "retain_accuracy", "reference_retain_accuracy")}
    mlflow.log_metrics(figures)
    failures = [f"forget {spec}: {text}" for spec, one in audits.items() for text in one.refused(gates).values()]
    if failures:
        raise GateFailure("the hypernetwork was not registered, it fails its gates:\n  " + "\n  ".join(failures))
    return table
