"""Requests for samples: what `predict` was given, checked whole before any work is done, and what one request may ask for."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from mlflow.pyfunc import PyFuncModel, PythonModel

from hf_mlops.base.errors import BadRequest
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.registry.names import FORGET
from hf_mlops.serving.prompts import refuse_loss_on_nothing
from hf_mlops.serving.sampler import DEFAULT_STEPS

WHOLE_NUMBERS = {"n_samples": (1, 1), "seed": (0, 0), "steps": (DEFAULT_STEPS, 1)}  # parameters: default and least value
LOSSES = ("retain_loss", "forget_loss")  # parameters: by default those of retrained classifiers

MAX_STEPS = 500  # rows x samples x denoising steps of one request (python -m benchmarks.requests)
MAX_BYTES = 32_000_000  # of weights in one answer; it is held about four times over while it is written as JSON
SHOWN = 3  # bad rows that an error tells of


@dataclass(frozen=True)
class Request:
    """What is asked for: `n_samples` of each spec, the first with `seed`, in so many denoising steps, at given losses, nats."""

    specs: tuple[ForgetSpec, ...]
    n_samples: int
    seed: int
    steps: int
    retain_loss: float | None
    forget_loss: float | None

    @classmethod
    def of(cls, data: Any, params: Mapping[str, Any] | None, group_names: Sequence[str]) -> Request:
        """Reads what `predict` was given.

        Args:
            data: forget specs as text: a DataFrame or a dict with `forget`, a list of texts or of such dicts, a Series, an
                array, or a single text.
            params: `n_samples`, `seed`, `steps`, `retain_loss`, `forget_loss`; what is absent or None takes its default, and a
                whole number may come as a float.

        Raises:
            BadRequest: an unknown parameter, a value that is not allowed, or bad rows, the first of which it tells of.
        """
        given = {str(name): value for name, value in (params or {}).items() if value is not None}
        allowed = (*WHOLE_NUMBERS, *LOSSES)
        if unknown := [name for name in params or {} if name not in allowed]:
            raise BadRequest(f"unknown parameter {', '.join(map(repr, unknown))}; allowed: {', '.join(allowed)}")
        numbers: dict[str, Any] = {
            name: _whole(name, given.get(name, default), least) for name, (default, least) in WHOLE_NUMBERS.items()
        }
        losses: dict[str, Any] = {name: _loss(name, given[name]) if name in given else None for name in LOSSES}
        return cls(_specs(_rows(data), losses["forget_loss"], group_names), **numbers, **losses)

    def require_room(self, sample_bytes: int) -> None:
        """Holds the request against the limits.

        Args:
            sample_bytes: of one sample's weights in the answer.

        Raises:
            BadRequest: it asks for more than a server may be asked for at once.
        """
        samples = len(self.specs) * self.n_samples
        asked = f"rows = {len(self.specs)}, n_samples = {self.n_samples}, steps = {self.steps}"
        rest = f"ask for the rest in further requests: sample i of seed {self.seed} is sample 0 of seed {self.seed} + i"
        if samples * self.steps > MAX_STEPS:
            raise BadRequest(
                f"{asked}: {samples * self.steps} denoising steps are not allowed in one request; allowed: rows x n_samples x"
                f" steps up to {MAX_STEPS}; {rest}"
            )
        if samples > 1 and samples * sample_bytes > MAX_BYTES:
            raise BadRequest(
                f"{asked}: {samples * sample_bytes} bytes of weights are not allowed in one request; allowed: up to"
                f" {MAX_BYTES}, here {max(1, MAX_BYTES // sample_bytes)} samples; {rest}"
            )


def as_given(model: PythonModel, data: Any, params: Mapping[str, Any] | None) -> tuple[Any, Mapping[str, Any] | None]:
    """Data and parameters as the caller of MLflow's `predict` gave them to this model.

    MLflow drops parameters that the signature does not name, with no more than a line in a log, and turns lists and dicts into
    other things, before a model sees either. It has no hook there, so the arguments are read where they still are: in the call
    of `PyFuncModel.predict` that led here. Without one they are what this model was given.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "predict" and isinstance(caller := frame.f_locals.get("self"), PyFuncModel):
            if getattr(caller._model_impl, "python_model", None) is model:
                return frame.f_locals["data"], frame.f_locals["params"]
            break
        frame = frame.f_back  # type: ignore[assignment]
    return data, params


def _whole(name: str, value: Any, least: int) -> int:
    whole = isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())
    if isinstance(value, bool) or not whole or int(value) < least:
        raise BadRequest(f"{name} = {value!r} is not allowed; allowed: a whole number from {least}")
    return int(value)


def _loss(name: str, value: Any) -> float:
    with suppress(OverflowError):
        if isinstance(value, Real) and not isinstance(value, bool):
            return float(value)
    raise BadRequest(f"{name} = {value!r} is not allowed; allowed: a finite loss from 0, in nats")


def _rows(data: Any) -> list[Any]:
    """What the rows ask to forget; whether it is text is for `ForgetSpec.parse` to say."""
    if isinstance(data, str):
        return [data]
    if isinstance(data, pd.DataFrame | Mapping):
        names = list(data)
        if not names and isinstance(data, pd.DataFrame) and data.empty:
            return []  # no rows in JSON have no columns either
        if FORGET not in names:
            raise BadRequest(f"no column {FORGET!r} among {names}; allowed: a column {FORGET!r} of forget specs as text")
        data = data[FORGET]
        if isinstance(data, str):
            return [data]
    if isinstance(data, np.ndarray):
        data = data.reshape(-1) if data.ndim == 0 else data
    if isinstance(data, list | tuple | np.ndarray | pd.Series):
        return [row[FORGET] if isinstance(row, Mapping) and FORGET in row else row for row in data]
    allowed = f"forget specs as text, in a column {FORGET!r} or a list"
    raise BadRequest(f"rows of type {type(data).__name__} are not allowed; allowed: {allowed}")


def _specs(rows: list[Any], forget_loss: float | None, group_names: Sequence[str]) -> tuple[ForgetSpec, ...]:
    specs, bad = [], []
    for number, row in enumerate(rows):
        try:
            specs.append(ForgetSpec.parse(row, group_names))
            refuse_loss_on_nothing(specs[-1], forget_loss)
        except BadRequest as error:
            bad.append(f"row {number}: {error}")
    if bad:
        more = f", and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise BadRequest(f"{len(bad)} of {len(rows)} rows cannot be answered: {' | '.join(bad[:SHOWN])}{more}")
    return tuple(specs)
