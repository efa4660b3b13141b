"""Targets retrained on demand, for a spec that a reference lacks its own of."""

from __future__ import annotations

from dataclasses import replace

import torch

from hf_mlops.audit.reference import Reference
from hf_mlops.base.config import config_from
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Dataset
from hf_mlops.population.config import PopulationConfig
from hf_mlops.population.outputs import Outputs
from hf_mlops.population.population import retrain
from hf_mlops.population.target import Target


def retrained(
    reference: Reference, target: Target, dataset: Dataset, spec: ForgetSpec, n: int, seed: int = 0, device: str = "auto"
) -> Reference:
    """A reference for one spec alone: n targets retrained for it as those of another were, each in a data order of its own.

    Args:
        target: the population's.
        dataset: that the population was trained on, of tensors.
        seed: of data orders and sample weights, none of which the population has.
        device: `auto`, `cpu` or `cuda`.
    """
    forgotten = torch.tensor(spec.mask).repeat(n, 1)
    config = config_from(PopulationConfig, reference.config)
    weights = retrain(config, dataset, forgotten, seed, device, together=1)
    outputs = Outputs.of_targets(target, weights, dataset.audited, len(reference.groups))
    return replace(reference, forgotten=forgotten, outputs=outputs, held_out=torch.as_tensor(reference.held_out))
