"""Entry point `evaluate`: measures the champion over many forget specs, prompts and step counts, with pictures."""

from __future__ import annotations

import click
import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from hf_mlops.audit.sweeps import audit_specs, prompt_alignment, prompt_sweep, step_sweep
from hf_mlops.audit.tables import HELD_OUT_PAIR, SINGLE, accuracy_per_group, kind_of, spec_table, summary
from hf_mlops.data.dataset import Dataset
from hf_mlops.registry.models import HYPERFORGET, load_champion
from hf_mlops.registry.pyfunc import HyperForget
from hf_mlops.registry.runs import clear_errors, fingerprint, log_dataset, step_run
from hf_mlops.report import pictures
from projects import options


def fingerprint_of(champion: ModelVersion, dataset: Dataset, settings: dict[str, int]) -> str:
    """What decides the result of `run`."""
    return fingerprint("evaluate", {"champion": champion.run_id, "data": dataset.digest, **settings})


def run(champion: tuple[HyperForget, ModelVersion], dataset: Dataset, settings: dict[str, int]) -> Run:
    """Measures, prints and logs.

    Args:
        settings: `n` samples of each spec, `seed`, denoising `steps`.
    """
    model, version = champion
    hypernetwork, reference = model.hypernetwork, model.reference
    logged = {"hypernetwork": f"{HYPERFORGET}/{version.version}", **settings}
    with step_run("evaluate", fingerprint_of(version, dataset, settings), logged) as active:
        log_dataset(dataset, "evaluation")
        specs = reference.specs()
        singles = [spec for spec in specs if kind_of(spec, reference) == SINGLE]
        held_out = [spec for spec in specs if kind_of(spec, reference) == HELD_OUT_PAIR]
        audits = audit_specs(hypernetwork, reference, dataset, specs, **settings)
        table = spec_table(audits, reference)
        by_kind = summary(table)
        sweep = prompt_sweep(hypernetwork, dataset, [*singles, *held_out], seed=settings["seed"], steps=settings["steps"])
        alignment = prompt_alignment(sweep)
        steps = step_sweep(hypernetwork, reference, dataset, singles, seed=settings["seed"])
        for name, frame in (("specs", table), ("summary", by_kind), ("prompts", sweep), ("steps", steps)):
            mlflow.log_text(frame.to_csv(index=False), f"{name}.csv")
        mlflow.log_metrics({f"prompt_alignment_{name}": value for name, value in alignment.items()})
        for kind, row in by_kind.set_index("kind").iterrows():
            mlflow.log_metrics(
                {f"{kind}/{name}".replace("(points)", "in points"): value for name, value in row.dropna().items()}
            )
        per_group = accuracy_per_group({spec: audits[spec] for spec in singles})
        names = [str(spec) for spec in singles]
        mlflow.log_figure(pictures.accuracy_heat_map(*per_group, names, hypernetwork.groups.names), "accuracy_per_class.png")
        mlflow.log_figure(pictures.prompted_against_observed(sweep, alignment), "prompt_alignment.png")
        mlflow.log_figure(pictures.accuracy_over_steps(steps), "accuracy_over_steps.png")
        click.echo(by_kind.to_string(index=False, float_format="%.4f"))
        click.echo(
            "prompt alignment (R² of log losses): " + ", ".join(f"{name} {value:.3f}" for name, value in alignment.items())
        )
        click.echo(f"tables and pictures: artifacts of run {active.info.run_id}")
    return active


@click.command(help=__doc__)
@options.same_dataset
@options.data_dir
@options.samples(32)
@options.seed
@options.denoising_steps
@options.dry_run
def command(dataset: str, data_dir: str, n_samples: int, seed: int, steps: int, dry_run: bool) -> None:
    with clear_errors():
        settings = {"n": n_samples, "seed": seed, "steps": steps}
        if dry_run:
            return options.print_configuration(dataset=dataset, data_dir=data_dir, evaluate=settings)
        champion = load_champion()
        run(champion, options.trained_on(champion[0].hypernetwork, dataset, data_dir), settings)


if __name__ == "__main__":
    command()
