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
from hf_mlops.serving.sampler import DEFAULT_STEPS, Wanted

WHOLE_NUMBERS = {"n_samples": (1, 1), "seed": (0, 0), "steps": (DEFAULT_STEPS, 1)}  # options: default and least value
LOSSES = ("retain_loss", "forget_loss")  # options: by default those of retrained classifiers
OUTPUT = "output"  # option: what a sample is answered as
OUTPUTS = ("weights", "onnx")
OPTIONS = (*WHOLE_NUMBERS, *LOSSES, OUTPUT)

MAX_STEPS = 2000  # samples x denoising steps of one request (python -m benchmarks.requests)
MAX_BYTES = 32_000_000  # of samples in one answer; it is held about four times over while it is written as JSON
SHOWN = 3  # bad rows that an error tells of


@dataclass(frozen=True)
class Row:
    """What one row asks for: samples, and what they are answered as, one of `OUTPUTS`."""

    wanted: Wanted
    output: str


@dataclass(frozen=True)
class Request:
    """What is asked for, row by row."""

    rows: tuple[Row, ...]

    @classmethod
    def of(cls, data: Any, params: Mapping[str, Any] | None, group_names: Sequence[str]) -> Request:
        """Reads what `predict` was given.

        Args:
            data: forget specs as text: a DataFrame or a dict with `forget`, a list of texts or of such dicts, a Series, an
                array, or a single text. Columns of the names of `OPTIONS` are options of their rows; others are left alone.
            params: `OPTIONS` of all rows that have none of their own; what is absent or None takes its default, and a whole
                number may come as a float.

        Raises:
            BadRequest: an unknown parameter, a value that is not allowed, or bad rows, the first of which it tells of.
        """
        if unknown := [name for name in params or {} if name not in OPTIONS]:
            raise BadRequest(f"unknown parameter {', '.join(map(repr, unknown))}; allowed: {', '.join(OPTIONS)}")
        for_all = _options(params or {})
        given, rows, bad = _rows(data), [], []
        for number, (text, own) in enumerate(given):
            try:
                rows.append(_row(text, for_all | _options(own), group_names))
            except BadRequest as error:
                bad.append(f"row {number}: {error}")
        if bad:
            more = f", and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
            raise BadRequest(f"{len(bad)} of {len(given)} rows cannot be answered: {' | '.join(bad[:SHOWN])}{more}")
        return cls(tuple(rows))

    def require_room(self, sample_bytes: Mapping[str, int]) -> None:
        """Holds the request against the limits.

        Args:
            sample_bytes: of one sample in the answer, for each of `OUTPUTS`.

        Raises:
            BadRequest: it asks for more than a server may be asked for at once.
        """
        samples = sum(row.wanted.n for row in self.rows)
        asked = f"rows = {len(self.rows)} with {samples} samples"
        rest = "ask for the rest in further requests: sample i of seed s is sample 0 of seed s + i"
        steps = sum(row.wanted.n * row.wanted.steps for row in self.rows)
        if steps > MAX_STEPS:
            raise BadRequest(
                f"{asked}: {steps} denoising steps are not allowed in one request; allowed: samples x steps of all rows up to"
                f" {MAX_STEPS}; {rest}"
            )
        size = sum(row.wanted.n * sample_bytes[row.output] for row in self.rows)
        if samples > 1 and size > MAX_BYTES:
            largest = max(sample_bytes[row.output] for row in self.rows)
            raise BadRequest(
                f"{asked}: {size} bytes of classifiers are not allowed in one request; allowed: up to {MAX_BYTES}, here"
                f" {max(1, MAX_BYTES // largest)} samples; {rest}"
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


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options that were given, checked; without those that are absent or null."""
    found: dict[str, Any] = {}
    for name in OPTIONS:
        value = given.get(name)
        if value is None:
            continue
        if name in WHOLE_NUMBERS:
            found[name] = _whole(name, value, WHOLE_NUMBERS[name][1])
        elif name in LOSSES:
            found[name] = _loss(name, value)
        elif isinstance(value, str) and value in OUTPUTS:
            found[name] = value
        else:
            raise BadRequest(f"{name} = {value!r} is not allowed; allowed: {', '.join(OUTPUTS)}")
    return found


def _row(text: Any, options: dict[str, Any], group_names: Sequence[str]) -> Row:
    spec = ForgetSpec.parse(text, group_names)
    refuse_loss_on_nothing(spec, options.get("forget_loss"))
    output = options.pop(OUTPUT, OUTPUTS[0])
    return Row(Wanted(spec, options.pop("n_samples", 1), **options), output)


def _rows(data: Any) -> list[tuple[Any, dict[str, Any]]]:
    """What each row asks to forget, and its own options; whether it is text is for `ForgetSpec.parse` to say."""
    if isinstance(data, str):
        return [(data, {})]
    if isinstance(data, pd.DataFrame | Mapping):
        names = list(data)
        if not names and isinstance(data, pd.DataFrame) and data.empty:
            return []  # no rows in JSON have no columns either
        if FORGET not in names:
            raise BadRequest(f"no column {FORGET!r} among {names}; allowed: a column {FORGET!r} of forget specs as text")
        texts = _column(data[FORGET])
        options = {name: _each(data[name], len(texts)) for name in OPTIONS if name in names}
        if uneven := [name for name, values in options.items() if len(values) != len(texts)]:
            raise BadRequest(
                f"the column {uneven[0]!r} has {len(options[uneven[0]])} rows; allowed: {len(texts)}, as {FORGET!r}"
            )
        return [(text, {name: _own(values[row]) for name, values in options.items()}) for row, text in enumerate(texts)]
    return [(row[FORGET], dict(row)) if isinstance(row, Mapping) and FORGET in row else (row, {}) for row in _column(data)]


def _each(values: Any, rows: int) -> list[Any]:
    """An option of each row, also if it is given once for all."""
    return [values] * rows if values is None or isinstance(values, str | Real) else _column(values)


def _column(values: Any) -> list[Any]:
    """The texts of a column, or the only one."""
    if isinstance(values, str):
        return [values]
    if isinstance(values, np.ndarray):
        values = values.reshape(-1) if values.ndim == 0 else values
    if isinstance(values, list | tuple | np.ndarray | pd.Series):
        return list(values)
    allowed = f"forget specs as text, in a column {FORGET!r} or a list"
    raise BadRequest(f"rows of type {type(values).__name__} are not allowed; allowed: {allowed}")


def _own(value: Any) -> Any:
    """A value of a column; a gap in it, which pandas fills with NaN or NA, is None."""
    return None if pd.isna(value) is True else value
