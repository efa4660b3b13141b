"""The choice among samples of one request."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from hf_mlops.audit.measure import Measured, measure
from hf_mlops.base.errors import GateFailure
from hf_mlops.base.losses import log_losses
from hf_mlops.data.dataset import Dataset
from hf_mlops.population.target import Target
from hf_mlops.serving.prompts import Prompt
from hf_mlops.serving.sampler import Samples


def misfits(measured: Measured, prompt: Prompt) -> Float[Tensor, " models"]:
    """Distance of each classifier's losses on D_r and D_f from those asked for: the sum of squared differences of logs.

    Where nothing is forgotten only D_r counts. Of a classifier whose losses are not finite it is infinite.
    """
    sets = 2 if measured.spec.groups else 1
    observed = torch.stack(measured.loss_on_sets()[:sets], 1)  # (models, sets)
    asked = torch.tensor([prompt.retain_loss, prompt.forget_loss][:sets])
    distance = (log_losses(observed) - log_losses(asked)).square().sum(1)
    return distance.where(distance.isfinite(), torch.inf)


def best_fit(target: Target, samples: Samples, dataset: Dataset) -> int:
    """Index of the sample whose losses on `Dataset.conditioning` are closest to the prompt: of least `misfits`.

    Raises:
        GateFailure: the losses of no sample are finite.
    """
    distance, kept = misfits(measure(target, samples.weights, samples.spec, dataset.conditioning), samples.prompt).min(0)
    if not distance.isfinite():
        raise GateFailure(f"none of the {len(samples.seeds)} candidates can be kept: their losses on validation are not finite")
    return int(kept)
