"""Tuning: one small budget for every rival alike, on validation images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from math import inf, isfinite
from types import ModuleType
from typing import Any

from benchmarks.rival.methods import Method
from hf_mlops.audit.measure import Measured
from hf_mlops.base.errors import BadRequest
from hf_mlops.base.noise import torch_seed_of


def objective(after: Measured, retrained: Measured) -> float:
    """How far classifiers are from targets retrained for their spec, on the same images: what tuning makes small.

    |accuracy on D_f - retrained's| + |accuracy on D_r - retrained's| + divergence of the answers on D_f from the mean of
    retrained ones', nats: means over the classifiers. Infinite for classifiers whose answers are not finite.
    """
    wanted = [values.mean() for values in retrained.accuracy_on_sets()]
    gaps = [(own - one).abs().mean().item() for own, one in zip(after.accuracy_on_sets(), wanted, strict=True)]
    found = sum(gaps) + after.divergence(retrained.answers).mean().item()
    return found if isfinite(found) else inf


@dataclass(frozen=True)
class Tuned:
    """Hyperparameters of a rival, their objective, and that of its defaults."""

    chosen: dict[str, float]
    objective: float
    by_default: float


def tuned(name: str, method: Method, judge: Callable[[dict[str, float]], float], trials: int, seed: int) -> Tuned:
    """The hyperparameters of a rival that are judged best: of its defaults, and of what Optuna's TPE tries after them.

    Args:
        name: of the rival, which its stream of random numbers comes from.
        judge: gives the objective of hyperparameters.
        trials: how many are tried, the defaults among them; one for a rival that has none.

    Raises:
        BadRequest: Optuna is not installed.

    Source: Bergstra et al., "Algorithms for hyper-parameter optimization" (NeurIPS 2011); Akiba et al., "Optuna" (KDD 2019).
    """
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=torch_seed_of("tuning", name, seed)))
    study.enqueue_trial({name: one.default for name, one in method.ranges.items()})

    def tried(trial: Any) -> float:
        return judge({name: trial.suggest_float(name, one.low, one.high, log=True) for name, one in method.ranges.items()})

    study.optimize(tried, n_trials=trials if method.ranges else 1)
    return Tuned(study.best_params, study.best_value, study.trials[0].value)


def _optuna() -> ModuleType:
    try:
        return import_module("optuna")
    except ImportError as error:
        raise BadRequest("rivals are tuned by Optuna, which is not installed: pip install 'hf_mlops[bench]'") from error
