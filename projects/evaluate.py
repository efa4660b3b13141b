"""Entry point `evaluate`: measures the champion over many forget specs, prompts and step counts, with pictures."""

from __future__ import annotations

import click

from hf_mlops.data.tensors import as_tensors
from hf_mlops.registry.models import load_champion
from hf_mlops.registry.permissions import EDIT, READ
from hf_mlops.steps.data import trained_on
from hf_mlops.steps.evaluate import Evaluate
from projects import options
from projects.command import entry_point, needs


@click.command(help=__doc__)
@entry_point
@needs(runs=EDIT, model=READ)
@options.model
@options.same_data
@options.samples(32)
@options.seed
@options.denoising_steps
@options.dry_run
def command(model: str, dataset: str, data_dir: str, groups: str, n_samples: int, seed: int, steps: int, dry_run: bool) -> None:
    if dry_run:
        sampling = {"n": n_samples, "seed": seed, "steps": steps}
        return options.print_configuration(model=model, dataset=dataset, data_dir=data_dir, groups=groups, evaluate=sampling)
    champion = load_champion(model)
    data = as_tensors(trained_on(champion.onnx.made_from, dataset, data_dir, groups))
    Evaluate(champion, data, n_samples, seed, steps).run()


if __name__ == "__main__":
    command()
