"""The choice among samples of one request."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from hf_mlops.audit.measure import Measured, measure
from hf_mlops.compute.losses import log_losses
from hf_mlops.data.dataset import Dataset
from hf_mlops.hypernet.model import Samples
from hf_mlops.hypernet.prompts import Prompt
from hf_mlops.population.target import Target


def misfits(measured: Measured, prompt: Prompt) -> Float[Tensor, " models"]:
    """Distance of each classifier's losses on D_r and D_f from those asked for: the sum of squared differences of logs."""
    observed = torch.stack(measured.on_sets(measured.losses), 1)  # (models, 2)
    asked = torch.tensor([prompt.retain_loss, prompt.forget_loss])
    difference = log_losses(observed) - log_losses(asked)
    return difference.square().nan_to_num().sum(1)  # a D_f that is empty has no loss


def best_fit(target: Target, samples: Samples, dataset: Dataset) -> int:
    """Index of the sample whose losses on the validation split are closest to the prompt: of least `misfits`."""
    return int(misfits(measure(target, samples.weights, samples.spec, dataset.validation), samples.prompt).argmin())
