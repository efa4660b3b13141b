"""Entry point `export`: takes a registered classifier out of the registry as verified files, ready to deploy."""

from __future__ import annotations

import json
from pathlib import Path

import click
import mlflow
import onnx
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from hf_mlops.base.artifact import whole_directory
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.export.onnx import metadata, weights_digest
from hf_mlops.registry.models import CLASSIFIER, alias_of, classifier_file, find_classifier, load_champion
from hf_mlops.registry.runs import clear_errors, fingerprint, step_run
from projects import options


def run(version: ModelVersion, slug: str, output: Path) -> Run:
    """Checks a registered classifier against what was audited, and writes `forget-<spec>.onnx` and its audit as JSON."""
    settings = {"classifier": f"{CLASSIFIER}/{version.version}", "output": str(output)}
    with step_run("export", fingerprint("export", settings), settings) as active:
        model = classifier_file(version).read_bytes()
        onnx.checker.check_model(model, full_check=True)
        found, audited = weights_digest(model), version.tags["weights_sha256"]
        if not found == metadata(model)["weights_sha256"] == audited:
            raise ValueError(
                f"{settings['classifier']} is not what was audited: its weights have SHA-256 {found}, audited were {audited}"
            )
        folder = output / alias_of(slug)
        with whole_directory(folder) as partial:
            (partial / "classifier.onnx").write_bytes(model)
            (partial / "audit.json").write_text(json.dumps({"version": int(version.version), **version.tags}, indent=2))
        mlflow.log_artifacts(str(folder))
        click.echo(f"exported    {folder}/classifier.onnx, with its audit in {folder}/audit.json")
    return active


@click.command(help=__doc__)
@click.option("--forget-class", required=True, help="Forget spec whose classifier to take out.")
@options.output
@options.dry_run
def command(forget_class: str, output: Path, dry_run: bool) -> None:
    with clear_errors():
        if dry_run:
            return options.print_configuration(forget_class=forget_class, output=str(output))
        spec = ForgetSpec.parse(forget_class, load_champion()[0].hypernetwork.groups.names, allow_empty=False)
        run(find_classifier(spec.slug), spec.slug, output)


if __name__ == "__main__":
    command()
