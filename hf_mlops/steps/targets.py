"""Step `targets`: trains a population of target classifiers and their retrain reference."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow.entities import Run

from hf_mlops.audit.reference import Reference
from hf_mlops.audit.tables import reference_summary
from hf_mlops.base.errors import BadRequest
from hf_mlops.compute.device import choose_device, describe_device
from hf_mlops.data.dataset import Dataset
from hf_mlops.export.weights import check_export
from hf_mlops.population.config import PopulationConfig
from hf_mlops.population.executor import Engine
from hf_mlops.population.networks import ARCHITECTURES
from hf_mlops.population.population import train_population
from hf_mlops.population.target import Target
from hf_mlops.registry.names import ARCHITECTURE, DATA_DIGEST, DATASET, POPULATION, PURGED
from hf_mlops.registry.runs import find_runs, log_dataset, say_what_is_stored, step_run
from hf_mlops.steps.step import Step


@dataclass(frozen=True)
class Targets(Step):
    """Trains a population and logs it.

    Args:
        config: of the population.
        dataset: to train on.
        device: `auto`, `cpu` or `cuda`.
        engine: where chunks are trained; the result is the same, so the fingerprint leaves it out.

    Raises:
        BadRequest: an architecture or a scope that cannot be trained, or not be exported to ONNX, which `forget` will do; or a
            device that is not there.
    """

    name = "targets"
    room = "population"

    config: PopulationConfig
    dataset: Dataset
    device: str = "auto"
    engine: Engine = Engine()

    def __post_init__(self) -> None:
        choose_device(self.device)
        target = self._target()
        if self.config.architecture not in ARCHITECTURES:  # others are tried in `run`: what is re-used does not wait
            check_export(target)

    def _target(self) -> Target:
        return Target.for_dataset(self.config.architecture, self.dataset, self.config.scope, self.config.seed)

    @property
    def inputs(self) -> dict[str, Any]:
        return {
            "config": asdict(self.config),
            "data": self.dataset.digest,
            "network": self._target().initialisation_digest,
            "device": choose_device(self.device).type,
        }

    def run(self) -> Run:
        config, dataset = self.config, self.dataset
        if config.architecture in ARCHITECTURES:
            check_export(self._target())
        tags = {DATASET: dataset.name, DATA_DIGEST: dataset.digest, ARCHITECTURE: config.architecture}
        params = {
            "dataset": dataset.name,
            "groups": dataset.grouping,
            "device": self.device,
            "engine": self.engine.name,
            **asdict(config),
        }
        with step_run(self.name, self.fingerprint, params, tags) as active:
            log_dataset(dataset, "training")
            population = train_population(config, dataset, self.device, self.engine)
            with TemporaryDirectory() as folder:
                population.save(Path(folder) / POPULATION)
                say_what_is_stored("population", Path(folder))
                mlflow.log_artifacts(folder)
            table = reference_summary(Reference.of(population, dataset))
            mlflow.log_text(table.to_csv(index=False), "reference.csv")
            mlflow.set_tags(describe_device(choose_device(self.device)))
            checkpoints = f"{len(population.weights)} checkpoints of {config.architecture} on {dataset.name}"
            print(f"population: {checkpoints}; retrained targets:")
            print(table.to_string(index=False, float_format="%.4f"))
        return active


def find_targets(dataset: Dataset, architecture: str, run_id: str = "") -> Run:
    """The run of the population to learn from: the one with this id, or the latest of an architecture on a data set.

    Raises:
        BadRequest: there is none; says which command makes one.
    """
    if run_id:
        return mlflow.get_run(run_id)
    runs = find_runs(Targets.name, tags={DATA_DIGEST: dataset.digest, ARCHITECTURE: architecture})
    found = next((run for run in runs if PURGED not in run.data.tags), None)
    if found is None:
        raise BadRequest(
            f"there is no finished population of {architecture} on {dataset.name}: run `mlflow run . -e targets` first"
        )
    return found
