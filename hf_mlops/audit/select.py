"""The choice among samples of one request."""

from __future__ import annotations

from math import inf, isfinite
from typing import Any

from array_api_compat import array_namespace
from jaxtyping import Float

from hf_mlops.audit.measure import Measured, measure
from hf_mlops.base.errors import GateFailure
from hf_mlops.base.losses import log_losses
from hf_mlops.data.dataset import Dataset
from hf_mlops.population.outputs import Answering
from hf_mlops.serving.prompts import Prompt
from hf_mlops.serving.sampler import Samples


def misfits(measured: Measured, prompt: Prompt) -> Float[Any, " models"]:
    """Distance of each classifier's losses on D_r and D_f from those asked for: the sum of squared differences of logs.

    Where nothing is forgotten only D_r counts. Of a classifier whose losses are not finite it is infinite.
    """
    sets = 2 if measured.spec.groups else 1
    xp = array_namespace(measured.outputs.log_probabilities)
    observed = xp.stack(measured.loss_on_sets()[:sets], axis=1)  # (models, sets)
    asked = xp.asarray([prompt.retain_loss, prompt.forget_loss][:sets], dtype=observed.dtype)
    distance = xp.sum((log_losses(observed) - log_losses(asked)) ** 2, axis=1)
    return xp.where(xp.isfinite(distance), distance, inf)


def best_fit(target: Answering, samples: Samples, dataset: Dataset) -> int:
    """Index of the sample whose losses on `Dataset.conditioning` are closest to the prompt: of least `misfits`.

    Raises:
        GateFailure: the losses of no sample are finite.
    """
    distances = misfits(measure(target, samples.weights, samples.spec, dataset.conditioning), samples.prompt)
    kept = int(array_namespace(distances).argmin(distances))
    if not isfinite(distances[kept]):
        raise GateFailure(f"none of the {len(samples.seeds)} candidates can be kept: their losses on validation are not finite")
    return kept
