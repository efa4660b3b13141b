"""Entry point `forget`: samples classifiers that have forgotten, audits them, exports them to ONNX and registers them."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import click

from hf_mlops.audit.gates import Gates
from hf_mlops.base.spec import split_specs
from hf_mlops.registry.permissions import EDIT, READ
from hf_mlops.steps.forget import Sampling
from hf_mlops.steps.requests import Requests
from projects import options
from projects.command import entry_point, needs


@click.command(help=__doc__)
@entry_point
@needs(runs=EDIT, model=READ, classifiers=EDIT)
@options.forget("Forget spec: a group, or several joined by commas; several specs, a request each, joined by |.")
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
@options.force
@options.requester
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
    force: str,
    requester: str,
    dry_run: bool,
    **sampled_by: Any,
) -> None:
    sampling = Sampling(n_samples, **sampled_by)
    places = {"dataset": dataset, "data_dir": data_dir, "groups": groups}
    if dry_run:
        specs = split_specs(forget_class, ())
        request = {"forget_class": specs if len(specs) > 1 else forget_class, "model": model, **places}
        request |= {"force": force, "requester": requester}
        return options.print_configuration(**request, sample=sampling.params, gates=asdict(gates), retrained=retrained)
    started = time.monotonic()
    Requests(forget_class, model, places, sampling, gates, retrained, force == "yes", requester).run()
    print(f"took        {time.monotonic() - started:.1f} s after imports")


if __name__ == "__main__":
    command()
