"""Entry point `forget`: samples a classifier that has forgotten, audits it, exports it to ONNX and registers it."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import click

from hf_mlops.audit.gates import Gates
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.registry.models import load_champion
from hf_mlops.steps.data import trained_on
from hf_mlops.steps.forget import Forget, Sampling
from projects import options
from projects.command import entry_point


@click.command(help=__doc__)
@entry_point
@options.forget("Forget spec: a group, or several joined by commas.")
@options.model
@options.same_data
@options.samples(8)
@options.seed
@options.denoising_steps
@options.prompted_loss("retain")
@options.prompted_loss("forget")
@options.start
@options.start_time
@options.gates
@options.retrained
@options.dry_run
def command(
    forget_class: str,
    model: str,
    dataset: str,
    data_dir: str,
    groups: str,
    n_samples: int,
    gates: Gates,
    retrained: int,
    dry_run: bool,
    **sampled_by: Any,
) -> None:
    sampling = Sampling(n_samples, **sampled_by)
    if dry_run:
        request = {"forget_class": forget_class, "model": model, "dataset": dataset, "data_dir": data_dir, "groups": groups}
        return options.print_configuration(**request, sample=sampling.params, gates=asdict(gates), retrained=retrained)
    started, champion = time.monotonic(), load_champion(model)
    spec = ForgetSpec.parse(forget_class, champion.onnx.groups.names, allow_empty=False)
    data = trained_on(champion.onnx.made_from, dataset, data_dir, groups)
    Forget(champion, data, spec, gates, sampling, retrained).run()
    print(f"took        {time.monotonic() - started:.1f} s after imports")


if __name__ == "__main__":
    command()
