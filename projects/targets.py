"""Entry point `targets`: trains a population of target classifiers and their retrain reference."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import mlflow
from mlflow.entities import Run

from hf_mlops.audit.reference import Reference
from hf_mlops.audit.tables import reference_summary
from hf_mlops.compute.device import choose_device, describe_device
from hf_mlops.data.dataset import Dataset
from hf_mlops.data.loading import load_dataset
from hf_mlops.population.population import PopulationConfig, train_population
from hf_mlops.population.target import Target
from hf_mlops.registry.runs import clear_errors, fingerprint, log_dataset, step_run
from projects import options


def fingerprint_of(config: PopulationConfig, dataset: Dataset, device: str) -> str:
    """What decides the result of `run`; refuses an architecture or a scope that cannot be trained."""
    network = Target.for_dataset(config.architecture, dataset, config.scope, config.seed).initialisation_digest
    inputs = {"config": asdict(config), "data": dataset.digest, "network": network}
    return fingerprint("targets", {**inputs, "device": choose_device(device).type})


def run(config: PopulationConfig, dataset: Dataset, device: str) -> Run:
    """Trains and logs a population."""
    tags = {
        "hf_mlops.dataset": dataset.name,
        "hf_mlops.data_digest": dataset.digest,
        "hf_mlops.architecture": config.architecture,
    }
    settings = {"dataset": dataset.name, "device": device, **asdict(config)}
    with step_run("targets", fingerprint_of(config, dataset, device), settings, tags) as active:
        log_dataset(dataset, "training")
        population = train_population(config, dataset, device)
        with TemporaryDirectory() as folder:
            population.save(Path(folder) / "population")
            mlflow.log_artifacts(folder)
        table = reference_summary(Reference.of(population, dataset))
        mlflow.log_text(table.to_csv(index=False), "reference.csv")
        mlflow.set_tags(describe_device(choose_device(device)))
        click.echo(
            f"population: {len(population.weights)} checkpoints of {config.architecture} on {dataset.name}; retrained targets:"
        )
        click.echo(table.to_string(index=False, float_format="%.4f"))
    return active


@click.command(help=__doc__)
@options.dataset
@options.data_dir
@options.architecture
@options.scope
@options.runs
@options.recipe_field("train_steps", options.AT_LEAST_1, "Optimiser steps of each target.")
@options.recipe_field("checkpoints", options.AT_LEAST_1, "Weights kept of each target.")
@options.recipe_field("reference_runs", options.AT_LEAST_1, "Retrained targets of each reference spec.")
@options.seed
@options.device
@options.dry_run
def command(
    dataset: str,
    data_dir: str,
    architecture: str,
    seed: int,
    device: str,
    dry_run: bool,
    **settings: Any,
) -> None:
    with clear_errors():
        config, _ = options.recipe_of(dataset, architecture, settings, {}, seed)
        if dry_run:
            return options.print_configuration(dataset=dataset, data_dir=data_dir, device=device, population=asdict(config))
        run(config, load_dataset(dataset, data_dir), device)


if __name__ == "__main__":
    command()
