"""Entry point `main`: the whole path, each step a child run; finished steps with the same inputs are re-used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import mlflow
from mlflow.entities import Run

from hf_mlops.audit.gates import Gates
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.loading import load_dataset
from hf_mlops.hypernet.model import DEFAULT_STEPS
from hf_mlops.registry.models import CHAMPION, CLASSIFIER, HYPERFORGET, alias_of, find_classifier, load_champion, promote_again
from hf_mlops.registry.runs import clear_errors, find_run, step_run
from projects import evaluate, export, forget, hypernet, options, targets


def once(step: str, mark: str, work: Callable[[], Run], still_good: Callable[[Run], bool] = lambda run: True) -> Run:
    """The finished run of a step with this fingerprint, if it is still good; else a new one."""
    click.echo(f"\n== {step}")
    done = find_run(step, mark)
    if done is not None and still_good(done):
        click.echo(f"re-used the finished run {done.info.run_id}: same parameters, code and data")
    else:
        done = work()
    mlflow.set_tag(f"hf_mlops.{step}_run", done.info.run_id)
    return done


def version_of(run: Run) -> str | None:
    """The registered version that a run made."""
    return run.data.tags.get("hf_mlops.version")


@click.command(help=__doc__)
@options.dataset
@options.data_dir
@options.architecture
@options.scope
@options.runs
@options.recipe_field("target_steps", options.AT_LEAST_1, "Optimiser steps of each target.")
@options.variant
@options.space
@options.recipe_field("hypernet_steps", options.AT_LEAST_1, "Optimiser steps of the hypernetwork.")
@click.option("--forget-class", default="7", show_default=True, help="Forget spec of the classifier to register.")
@options.output
@options.gates
@options.seed
@options.device
@options.dry_run
def command(
    dataset: str,
    data_dir: str,
    architecture: str,
    scope: str,
    runs: int | None,
    target_steps: int | None,
    variant: str | None,
    space: str | None,
    hypernet_steps: int | None,
    forget_class: str,
    output: Path,
    max_forget_accuracy: float,
    max_retain_gap: float,
    seed: int,
    device: str,
    dry_run: bool,
) -> None:
    with clear_errors():
        data = load_dataset(dataset, data_dir)
        spec = ForgetSpec.parse(forget_class, data.groups.names, allow_empty=False)
        population, network = options.recipe_of(
            dataset,
            architecture,
            {"scope": scope, "runs": runs, "train_steps": target_steps},
            {"variant": variant, "space": space, "train_steps": hypernet_steps},
            seed,
        )
        gates = Gates(max_forget_accuracy, max_retain_gap)
        sampling: dict[str, Any] = {"n": 8, "seed": seed, "steps": DEFAULT_STEPS}
        evaluation = {**sampling, "n": 32}
        settings = {
            "dataset": data.name,
            "data_dir": data_dir,
            "device": device,
            "forget_class": str(spec),
            "population": asdict(population),
            "hypernet": asdict(network),
            "gates": asdict(gates),
        }
        if dry_run:
            return options.print_configuration(**settings)
        population_mark = targets.fingerprint_of(population, data, device)
        with step_run("main", "", {"forget_class": str(spec), "dataset": data.name}):
            mlflow.log_dict(settings, "configuration.json")
            population_run = once("targets", population_mark, lambda: targets.run(population, data, device))
            once(
                "hypernet",
                hypernet.fingerprint_of(network, gates, population_run, device),
                lambda: hypernet.run(network, gates, population_run, data, device),
                lambda run: promote_again(HYPERFORGET, CHAMPION, version_of(run)),
            )
            champion = load_champion()
            once(
                "evaluate",
                evaluate.fingerprint_of(champion[1], data, evaluation),
                lambda: evaluate.run(champion, data, evaluation),
            )
            once(
                "forget",
                forget.fingerprint_of(champion[1], data, spec, sampling, gates),
                lambda: forget.run(champion, data, spec, sampling, gates),
                lambda run: promote_again(CLASSIFIER, alias_of(spec.slug), version_of(run)),
            )
            click.echo("\n== export")
            export.run(find_classifier(spec.slug), spec.slug, output)
            uri = mlflow.get_tracking_uri()
            where = uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"
            click.echo(f"\nall runs, figures and pictures: {where}")


if __name__ == "__main__":
    command()
