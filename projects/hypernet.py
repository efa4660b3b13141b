"""Entry point `hypernet`: trains the hypernetwork on the latest population, audits it and registers it as champion."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import mlflow
import pandas as pd
from mlflow.entities import Run

from hf_mlops.audit.gates import Gates
from hf_mlops.audit.reference import Reference
from hf_mlops.audit.sweeps import audit_specs
from hf_mlops.audit.tables import SINGLE, kind_of, spec_table, summary
from hf_mlops.compute.device import choose_device, describe_device
from hf_mlops.data.dataset import Dataset
from hf_mlops.data.loading import load_dataset
from hf_mlops.hypernet.model import HypernetConfig, Hypernetwork
from hf_mlops.hypernet.training import train_hypernetwork
from hf_mlops.population.population import Population
from hf_mlops.registry.models import CHAMPION, HYPERFORGET, register_hypernetwork
from hf_mlops.registry.runs import artifacts_of, clear_errors, delete_artifacts, find_run, fingerprint, log_dataset, step_run
from projects import options

CHECKPOINTS = "checkpoints"  # artifact folder, a folder in it for each step
RESUMABLE, CHECKPOINT = "hf_mlops.resumable", "hf_mlops.checkpoint"  # tags: whether to go on from a run, and from which folder


def fingerprint_of(config: HypernetConfig, gates: Gates, targets: Run, device: str) -> str:
    """What decides the result of `run`."""
    inputs = {"config": asdict(config), "gates": asdict(gates), "targets": targets.info.run_id}
    return fingerprint("hypernet", {**inputs, "device": choose_device(device).type})


def run(config: HypernetConfig, gates: Gates, targets: Run, dataset: Dataset, device: str) -> Run:
    """Trains a hypernetwork, going on from the checkpoint of an interrupted run if there is one, and registers it."""
    mark = fingerprint_of(config, gates, targets, device)
    interrupted = find_run("hypernet", mark, {RESUMABLE: "true"}, finished=False)
    population = Population.load(artifacts_of(targets, "population"))
    dataset.require(population.made_from)
    settings = {
        "dataset": dataset.name,
        "device": device,
        "targets_run": targets.info.run_id,
        **asdict(config),
        **asdict(gates),
    }
    with TemporaryDirectory() as folder, step_run("hypernet", mark, settings) as active:
        checkpoint, kept = Path(folder) / "checkpoint", []

        def keep_checkpoint(step: int) -> None:
            """Tags the run only with a checkpoint that is there whole, then drops the one before."""
            kept.append(f"{CHECKPOINTS}/{step}")
            mlflow.log_artifacts(str(checkpoint), kept[-1])
            mlflow.set_tags({RESUMABLE: "true", CHECKPOINT: kept[-1]})
            for old in kept[-2:-1]:
                delete_artifacts(active, old)

        log_dataset(dataset, "training")
        if interrupted is not None:
            click.echo(f"going on from the checkpoint of the interrupted run {interrupted.info.run_id}")
            shutil.copytree(artifacts_of(interrupted, interrupted.data.tags[CHECKPOINT]), checkpoint)
        hypernetwork = train_hypernetwork(
            config,
            population,
            dataset,
            device,
            lambda step, figures: mlflow.log_metrics(figures, step),
            checkpoint,
            keep_checkpoint,
        )
        mlflow.set_tags(describe_device(choose_device(device)))
        reference = Reference.of(population, dataset)
        table = check(hypernetwork, reference, dataset, gates)
        version = register_hypernetwork(
            hypernetwork,
            reference,
            Path(folder) / "model",
            {"variant": config.variant, "space": config.space, "dataset": dataset.name, "data_digest": dataset.digest},
            f"{config.variant} hypernetwork over the weights of {population.target.architecture} on {dataset.name}:"
            " `predict` samples classifiers that behave as if retrained without the classes in the column `forget`.",
        )
        mlflow.set_tag("hf_mlops.version", version.version)
        for unneeded in filter(None, (interrupted, active if kept else None)):
            mlflow.MlflowClient().set_tag(unneeded.info.run_id, RESUMABLE, "false")
            delete_artifacts(unneeded, CHECKPOINTS)
        click.echo(table.to_string(index=False, float_format="%.4f"))
        click.echo(f"registered {HYPERFORGET} version {version.version}, alias {CHAMPION}")
    return active


def check(hypernetwork: Hypernetwork, reference: Reference, dataset: Dataset, gates: Gates) -> pd.DataFrame:
    """Audits samples of every single group, logs the table, and refuses a hypernetwork that fails its gates."""
    singles = [spec for spec in reference.specs() if kind_of(spec, reference) == SINGLE]
    audits = audit_specs(hypernetwork, reference, dataset, singles)
    table = spec_table(audits, reference)
    mlflow.log_text(table.to_csv(index=False), "audit.csv")
    figures = {name: float(table[name].mean()) for name in ("forget_accuracy", "retain_accuracy", "reference_retain_accuracy")}
    mlflow.log_metrics(figures)
    failures = [f"forget {spec}: {text}" for spec, one in audits.items() for text in one.failures(gates)]
    if failures:
        raise ValueError("the hypernetwork was not registered, it fails its gates:\n  " + "\n  ".join(failures))
    return summary(table)


def find_targets(dataset: Dataset, architecture: str, run_id: str) -> Run:
    """The population to learn from: that of a run, or the latest of an architecture on a data set.

    Raises:
        ValueError: there is none; says which command makes one.
    """
    if run_id:
        return mlflow.get_run(run_id)
    found = find_run("targets", tags={"hf_mlops.data_digest": dataset.digest, "hf_mlops.architecture": architecture})
    if found is None:
        raise ValueError(
            f"there is no finished population of {architecture} on {dataset.name}: run `mlflow run . -e targets` first"
        )
    return found


@click.command(help=__doc__)
@options.dataset
@options.data_dir
@options.architecture
@click.option("--targets-run", default="", metavar="RUN_ID", help="Run of the population; by default the latest that fits.")
@options.variant
@options.space
@options.recipe_field("token_width", click.IntRange(min=0), "Coordinates in a token; 0: 128 raw parameters, or 16 latents.")
@options.recipe_field("components", options.AT_LEAST_1, "Principal components: of a long row (raw), of all weights (latent).")
@options.recipe_field("width", options.AT_LEAST_1, "Width of the transformer.")
@options.recipe_field("layers", options.AT_LEAST_1, "Layers of the transformer.")
@options.recipe_field("train_steps", options.AT_LEAST_1, "Optimiser steps.")
@options.recipe_field("behaviour", click.FloatRange(0, 1000), "Weight of the behavioural loss.")
@options.gates
@options.seed
@options.device
@options.dry_run
def command(
    dataset: str,
    data_dir: str,
    architecture: str,
    targets_run: str,
    seed: int,
    max_forget_accuracy: float,
    max_retain_gap: float,
    device: str,
    dry_run: bool,
    **settings: Any,
) -> None:
    with clear_errors():
        population, config = options.recipe_of(dataset, architecture, {}, settings, seed)
        gates = Gates(max_forget_accuracy, max_retain_gap)
        if dry_run:
            return options.print_configuration(
                dataset=dataset, data_dir=data_dir, device=device, hypernet=asdict(config), gates=asdict(gates)
            )
        data = load_dataset(dataset, data_dir)
        run(config, gates, find_targets(data, population.architecture, targets_run), data, device)


if __name__ == "__main__":
    command()
