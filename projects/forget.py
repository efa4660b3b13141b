"""Entry point `forget`: samples a classifier that has forgotten, audits it, exports it to ONNX and registers it."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import mlflow
import pandas as pd
import torch
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from torch import Tensor

from hf_mlops.audit.gates import Audit, Gates, audit_samples
from hf_mlops.audit.measure import measure
from hf_mlops.audit.select import best_fit
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Dataset
from hf_mlops.export.onnx import metadata, to_onnx, verify
from hf_mlops.hypernet.model import DEFAULT_START_TIME, Samples
from hf_mlops.population.target import Target
from hf_mlops.registry.models import CLASSIFIER, HYPERFORGET, alias_of, load_champion, load_start, register_classifier
from hf_mlops.registry.pyfunc import HyperForget
from hf_mlops.registry.runs import clear_errors, fingerprint, log_dataset, step_run
from projects import options


def fingerprint_of(champion: ModelVersion, dataset: Dataset, spec: ForgetSpec, settings: dict[str, Any], gates: Gates) -> str:
    """What decides the result of `run`."""
    inputs = {"champion": champion.run_id, "data": dataset.digest, "spec": str(spec), "gates": asdict(gates)}
    return fingerprint("forget", {**inputs, **settings})


def run(
    champion: tuple[HyperForget, ModelVersion],
    dataset: Dataset,
    spec: ForgetSpec,
    settings: dict[str, Any],
    gates: Gates,
    start: Tensor | None = None,
) -> Run:
    """Samples candidates, keeps the one that fits its prompt best, and registers it if it passes its gates.

    Args:
        settings: further arguments of `Hypernetwork.sample`; where they have `start`, it says what the weights are of.
        start: (P,) weights to stay near.
    """
    model, version = champion
    hypernetwork, made_by = model.hypernetwork, f"{HYPERFORGET}/{version.version}"
    logged = {"hypernetwork": made_by, "spec": str(spec), **settings, **asdict(gates)}
    with step_run("forget", fingerprint_of(version, dataset, spec, settings, gates), logged) as active:
        log_dataset(dataset, "audit")
        samples = hypernetwork.sample(spec, **{**settings, "start": start})
        evidence = audit_samples(hypernetwork.target, samples, dataset, model.reference)
        kept = best_fit(hypernetwork.target, samples, dataset)
        figures = evidence.figures(kept)
        mlflow.log_metrics(figures)
        mlflow.log_text(candidates(samples, evidence).to_csv(index=False), "candidates.csv")
        per_group = groups_table(evidence, kept)
        mlflow.log_text(per_group.to_csv(index=False), "groups.csv")
        click.echo(f"\nforget {spec}: candidate {kept + 1} of {len(samples.seeds)} from {made_by}, seed {samples.seeds[kept]}")
        table = sets_table(evidence, kept)
        if start is not None:
            churns = churn(hypernetwork.target, start, dataset, evidence)
            table.loc["retain set: predictions that change"] = churns[0][kept].item(), churns[1].mean().item()
            mlflow.log_metrics({"churn": churns[0][kept].item(), "reference_churn": churns[1].mean().item()})
        click.echo(table.to_string(float_format="%.4f"))
        failures = evidence.failures(gates, kept)
        if failures:
            raise ValueError("nothing was registered, the classifier fails its gates:\n  " + "\n  ".join(failures))
        weights = samples.weights[kept]
        onnx_model = to_onnx(hypernetwork.target, weights, spec, dataset.class_names, made_by, model.template)
        with torch.no_grad():
            expected = hypernetwork.target.logits(weights[None], dataset.test.images)[0]
        difference = verify(onnx_model, dataset.test.images, expected)
        tags = {
            "forget": str(spec),
            "seed": samples.seeds[kept],
            "hypernetwork": made_by,
            "data_digest": dataset.digest,
            "weights_sha256": metadata(onnx_model)["weights_sha256"],
            "reference": f"retrained without {evidence.reference.spec or 'nothing'}",
            "onnx_difference": f"{difference:.2g}",
            **{name: f"{value:.4f}" for name, value in figures.items()},
        }
        description = f"Classifier of {dataset.name} sampled by {made_by} as if retrained without: {spec}."
        registered, file = register_classifier(
            onnx_model, dataset.input_shape, len(dataset.class_names), spec.slug, tags, description
        )
        mlflow.set_tag("hf_mlops.version", registered.version)
        report(registered, spec, file)
    return active


def report(registered: ModelVersion, spec: ForgetSpec, file: Path) -> None:
    """Says where the classifier is."""
    click.echo(f"\nregistered  {CLASSIFIER} version {registered.version}: models:/{CLASSIFIER}@{alias_of(spec.slug)}")
    click.echo(f"ONNX file   {file}")


def churn(target: Target, start: Tensor, dataset: Dataset, evidence: Audit) -> tuple[Tensor, Tensor]:
    """Share of test images in D_r not predicted as by the start weights: of each sample, and of each retrained target."""
    spec = evidence.sampled.spec
    before = measure(target, start[None], spec, dataset.test).predictions[0]
    return evidence.sampled.churn(before), evidence.reference.churn(before, spec)


def candidates(samples: Samples, evidence: Audit) -> pd.DataFrame:
    """One row per candidate: its seed and figures."""
    return pd.DataFrame([{"seed": seed, **evidence.figures(index)} for index, seed in enumerate(samples.seeds)])


def groups_table(evidence: Audit, kept: int) -> pd.DataFrame:
    """One row per group: test accuracy and loss of the kept sample, beside the retrain reference."""
    sampled, reference = evidence.sampled, evidence.reference
    return pd.DataFrame(
        {
            "group": sampled.spec.group_names,
            "forgotten": sampled.spec.mask,
            "accuracy": sampled.accuracies[kept].tolist(),
            "retrained accuracy": reference.accuracies.mean(0).tolist(),
            "loss": sampled.losses[kept].tolist(),
            "retrained loss": reference.losses.mean(0).tolist(),
        }
    )


def sets_table(evidence: Audit, kept: int) -> pd.DataFrame:
    """Accuracy and loss on D_f and D_r of the kept sample, beside the retrain reference."""
    figures, reference = evidence.figures(kept), evidence.reference
    columns = {
        "sampled": "",
        f"retrained without {reference.spec or 'nothing'} (mean of {len(reference.losses)})": "reference_",
    }
    rows = {
        f"test {what} on the {name} set": [figures.get(f"{prefix}{name}_{what}", float("nan")) for prefix in columns.values()]
        for name in ("forget", "retain")
        for what in ("accuracy", "loss")
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(columns))


@click.command(help=__doc__)
@click.option("--forget-class", required=True, help="Forget spec: a class, or several joined by commas.")
@options.same_dataset
@options.data_dir
@options.samples(8)
@options.seed
@options.denoising_steps
@options.prompted_loss("retain")
@options.prompted_loss("forget")
@click.option(
    "--start",
    default="",
    metavar="CLASSIFIER",
    help="Classifier now in production, to stay near: an .onnx or .safetensors file, or models:/NAME@ALIAS.",
)
@click.option(
    "--start-time",
    type=click.FloatRange(0, 1, min_open=True),
    default=DEFAULT_START_TIME,
    show_default=True,
    help="How far to go from it: 1 is not to stay near at all.",
)
@options.gates
@options.dry_run
def command(
    forget_class: str,
    dataset: str,
    data_dir: str,
    n_samples: int,
    start: str,
    start_time: float,
    max_forget_accuracy: float,
    max_retain_gap: float,
    dry_run: bool,
    **settings: Any,
) -> None:
    with clear_errors():
        gates = Gates(max_forget_accuracy, max_retain_gap)
        settings = {"n": n_samples, **settings}
        near = {"start": start, "start_time": start_time} if start else {}
        if dry_run:
            return options.print_configuration(
                forget_class=forget_class, dataset=dataset, data_dir=data_dir, sample={**settings, **near}, gates=asdict(gates)
            )
        started = time.monotonic()
        champion = load_champion()
        hypernetwork = champion[0].hypernetwork
        spec = ForgetSpec.parse(forget_class, hypernetwork.groups.names, allow_empty=False)
        weights = load_start(start, hypernetwork.target) if start else None
        run(champion, options.trained_on(hypernetwork, dataset, data_dir), spec, {**settings, **near}, gates, weights)
        click.echo(f"took        {time.monotonic() - started:.1f} s after imports")


if __name__ == "__main__":
    command()
