"""Requests for samples: what is read as one, what is refused and how, and how much one may ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel, PythonModel

from hf_mlops.base.errors import BadRequest
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.registry.hypernetworks import input_example
from hf_mlops.registry.request import MAX_BYTES, MAX_STEPS, OPTIONS, Request, Row, as_given
from hf_mlops.serving.sampler import Wanted

NAMES = ("ankle boot", "bag", "coat")
BAG = ForgetSpec.of([1], NAMES)
SMALL = {"weights": 1, "onnx": 1}


def read(data: Any, **params: object) -> Request:
    return Request.of(data, params, NAMES)


def refusal(data: Any, **params: object) -> str:
    with pytest.raises(BadRequest) as caught:
        read(data, **params)
    return str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        pd.DataFrame({"forget": ["bag", "", "coat,bag"]}),
        pd.DataFrame({"customer": [1, 2, 3], "forget": ["bag", "", "coat,bag"]}),
        {"forget": ["bag", "", "coat,bag"]},
        {"forget": np.array(["bag", "", "coat,bag"])},
        {"forget": pd.Series(["bag", "", "coat,bag"])},
        ["bag", "", "coat,bag"],
        ("bag", "", "coat,bag"),
        np.array(["bag", "", "coat,bag"]),
        pd.Series(["bag", "", "coat,bag"], index=[7, 8, 9]),
        [{"forget": "bag"}, {"forget": ""}, {"forget": "coat,bag"}],
    ],
)
def test_rows_are_texts_in_a_column_or_a_list(data: Any) -> None:
    assert [str(row.wanted.spec) for row in read(data).rows] == ["bag", "", "bag,coat"]


@pytest.mark.parametrize("data", ["bag", {"forget": "bag"}, np.array("bag"), {"forget": np.array("bag")}])
def test_a_single_text_is_a_single_row(data: Any) -> None:
    assert [str(row.wanted.spec) for row in read(data).rows] == ["bag"]


@pytest.mark.parametrize("data", [[], (), {"forget": []}, np.array([]), pd.DataFrame(), pd.DataFrame({"forget": []})])
def test_no_rows_are_no_rows(data: Any) -> None:
    assert read(data).rows == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"target": ["bag"]}, "no column 'forget' among ['target']; allowed: a column 'forget' of forget specs as text"),
        (pd.DataFrame(["bag"]), "no column 'forget' among [0]; allowed: a column 'forget' of forget specs as text"),
        ({}, "no column 'forget' among []; allowed: a column 'forget' of forget specs as text"),
        (7, "rows of type int are not allowed; allowed: forget specs as text, in a column 'forget' or a list"),
        (None, "rows of type NoneType are not allowed; allowed: forget specs as text, in a column 'forget' or a list"),
        ({"forget": 7}, "rows of type int are not allowed; allowed: forget specs as text, in a column 'forget' or a list"),
    ],
)
def test_what_has_no_rows_of_text_is_refused(data: Any, message: str) -> None:
    assert refusal(data) == message


@pytest.mark.parametrize("row", [7, None, ["bag"], {"target": "bag"}, float("nan")])
def test_a_row_that_is_no_text_is_refused_with_its_number(row: object) -> None:
    message = refusal(["bag", row])
    assert message.startswith(f"1 of 2 rows cannot be answered: row 1: a forget spec is text, got {row!r} of type ")


def test_every_bad_row_counts_and_the_first_three_are_told() -> None:
    message = refusal(["bag", "hat", "coat", "bag,", "shoe", "ankle boot,bag,coat", "tie"])
    assert message.startswith("5 of 7 rows cannot be answered: row 1: unknown group 'hat'")
    assert " | row 3: the forget spec 'bag,' has an empty entry" in message and " | row 4: unknown group 'shoe'" in message
    assert message.endswith(", and 2 more") and "row 5" not in message and "\n" not in message


def test_a_forget_loss_is_refused_for_the_rows_that_forget_nothing_as_it_was_asked_for() -> None:
    message = refusal(["bag", ""], forget_loss=123.456)
    assert message == (
        "1 of 2 rows cannot be answered: row 1: forget_loss = 123.456 was asked for, but the forget spec '' forgets nothing"
    )


@pytest.mark.parametrize(
    ("params", "unknown"),
    [
        ({"n_sample": 3}, "'n_sample'"),
        ({"seed": 1, "sed": 1, "Steps": 2}, "'sed', 'Steps'"),
        ({"n_sample": None}, "'n_sample'"),
    ],
)
def test_an_unknown_parameter_is_refused_by_name(params: dict[str, Any], unknown: str) -> None:
    allowed = "n_samples, seed, steps, retain_loss, forget_loss, output"
    assert refusal(["bag"], **params) == f"unknown parameter {unknown}; allowed: {allowed}"


def test_parameters_that_are_absent_or_null_take_their_defaults() -> None:
    nothing: dict[str, Any] = dict.fromkeys(("n_samples", "seed", "steps", "retain_loss", "forget_loss", "output"))
    assert read(["bag"]) == read(["bag"], **nothing) == Request.of(["bag"], None, NAMES)
    assert read(["bag"]).rows == (Row(Wanted(BAG), "weights"),)
    assert Wanted(BAG) == Wanted(BAG, 1, 0, 2, None, None, "ddim")


def test_whole_numbers_may_come_as_floats() -> None:
    request = read(["bag"], n_samples=4.0, seed=np.float64(5), steps=np.int64(3), retain_loss=1, forget_loss=np.float32(2))
    (row,) = request.rows
    assert row.wanted == Wanted(BAG, 4, 5, 3, 1.0, 2.0)
    numbers = (row.wanted.n, row.wanted.seed, row.wanted.steps, row.wanted.retain_loss)
    assert [type(number) for number in numbers] == [int] * 3 + [float]
    assert read(["bag"], seed=2**60 + 1).rows[0].wanted.seed == 2**60 + 1


@pytest.mark.parametrize(
    "data",
    [
        pd.DataFrame({"forget": ["bag", "coat"], "seed": [7, None], "output": [None, "onnx"]}),
        {"forget": ["bag", "coat"], "seed": [7, None], "output": np.array([None, "onnx"])},
        [{"forget": "bag", "seed": 7.0}, {"forget": "coat", "output": "onnx"}],
    ],
)
def test_a_column_of_an_options_name_goes_before_the_parameter(data: Any) -> None:
    rows = read(data, seed=3, steps=4).rows
    assert [(row.wanted.seed, row.wanted.steps, row.output) for row in rows] == [(7, 4, "weights"), (3, 4, "onnx")]


def test_an_option_in_a_column_may_be_one_for_all_rows() -> None:
    assert [row.wanted.seed for row in read({"forget": ["bag", "coat"], "seed": 5}).rows] == [5, 5]


def test_a_bad_option_of_a_row_is_refused_with_its_number() -> None:
    message = refusal(pd.DataFrame({"forget": ["bag", "coat"], "n_samples": [1, 0]}))
    assert message == "1 of 2 rows cannot be answered: row 1: n_samples = 0 is not allowed; allowed: a whole number from 1"
    message = refusal({"forget": ["bag", "coat"], "seed": [1]})
    assert message == "the column 'seed' has 1 rows; allowed: 2, as 'forget'"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("n_samples", 0, "a whole number from 1"),
        ("n_samples", 2.5, "a whole number from 1"),
        ("n_samples", "4", "a whole number from 1"),
        ("n_samples", True, "a whole number from 1"),
        ("n_samples", [4], "a whole number from 1"),
        ("seed", -1, "a whole number from 0"),
        ("seed", float("nan"), "a whole number from 0"),
        ("steps", float("inf"), "a whole number from 1"),
        ("retain_loss", "0.5", "a finite loss from 0, in nats"),
        ("retain_loss", 10**400, "a finite loss from 0, in nats"),
        ("forget_loss", False, "a finite loss from 0, in nats"),
        ("output", "pickle", "weights, onnx"),
        ("output", ["onnx"], "weights, onnx"),
    ],
)
def test_a_bad_parameter_is_refused_by_name_and_value(name: str, value: object, allowed: str) -> None:
    assert refusal(["bag"], **{name: value}) == f"{name} = {value!r} is not allowed; allowed: {allowed}"


@pytest.mark.parametrize(
    ("rows", "n_samples", "steps"),
    [(1, MAX_STEPS, 1), (MAX_STEPS, 1, 1), (5, MAX_STEPS // 10, 2), (0, 10_000, 1)],
)
def test_rows_samples_and_steps_share_one_limit(rows: int, n_samples: int, steps: int) -> None:
    read(["bag"] * rows, n_samples=n_samples, steps=steps).require_room(SMALL)
    if rows:
        over = read(["bag"] * rows, n_samples=n_samples + 1, steps=steps, seed=3)
        with pytest.raises(BadRequest) as caught:
            over.require_room(SMALL)
        assert str(caught.value) == (
            f"rows = {rows} with {rows * (n_samples + 1)} samples: {rows * (n_samples + 1) * steps} denoising steps are"
            f" not allowed in one request; allowed: samples x steps of all rows up to {MAX_STEPS}; ask for the rest in further"
            " requests: sample i of seed s is sample 0 of seed s + i"
        )


def test_an_answer_has_a_largest_size_but_one_sample_is_always_allowed() -> None:
    size = {"weights": MAX_BYTES // 8, "onnx": 1}
    request = read(["bag", "coat"], n_samples=4)
    request.require_room(size)
    over = {**size, "weights": MAX_BYTES // 8 + 1}
    with pytest.raises(
        BadRequest, match=rf"{MAX_BYTES + 8} bytes of classifiers are not allowed .* up to {MAX_BYTES}, here 7 samples;"
    ):
        request.require_room(over)
    read(["bag", "coat"], n_samples=4, output="onnx").require_room(over)
    read(["bag"]).require_room({"weights": 10 * MAX_BYTES})


def test_the_documents_state_both_limits() -> None:
    documents = Path(__file__).parent.parent
    limit = f"{MAX_STEPS:,}"
    operations = (documents / "docs" / "operations.md").read_text()
    assert f"samples × `steps` of all rows over {limit}" in operations
    assert f"more than {MAX_BYTES // 10**6} MB of classifiers" in operations
    assert f"up to {limit} denoising steps" in (documents / "README.md").read_text()


@pytest.mark.parametrize("groups", [2, 3, 10])
def test_the_input_example_can_be_answered_whatever_the_number_of_groups(groups: int) -> None:
    names = [f"group {number}" for number in range(groups)]
    rows = Request.of(input_example(names), {}, names).rows
    assert [len(row.wanted.spec.groups) for row in rows] == [1, min(groups - 1, 2), 0]


class Echo(PythonModel):
    """Answers with what its caller gave."""

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> Any:
        return as_given(self, model_input, params)


class Served:
    """What MLflow puts between its `PyFuncModel` and a model: here it changes data and drops parameters."""

    def __init__(self, python_model: PythonModel, inner: PythonModel | None = None):
        self.python_model, self.inner = python_model, inner or python_model

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        return self.inner.predict(None, "changed", {})


def test_a_model_sees_what_its_caller_gave_before_mlflow_changed_it() -> None:
    model = Echo()
    assert PyFuncModel(Model(), Served(model)).predict(["7"], {"n_sample": 3}) == (["7"], {"n_sample": 3})
    assert model.predict(None, "direct", {"seed": 1}) == ("direct", {"seed": 1})


def test_a_model_inside_another_does_not_take_the_others_data_for_its_own() -> None:
    assert PyFuncModel(Model(), Served(Echo(), inner=Echo())).predict(["7"], {"seed": 1}) == ("changed", {})


ODD = (pd.NA, pd.NaT, np.float32(1), np.int8(3), np.bool_(True), np.datetime64("2020"), 1 + 2j, np.ones(2), np.str_("bag"))
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([*ODD, *NAMES, "onnx"])
)
TITLES = st.sampled_from(["forget", *OPTIONS]) | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda some: st.lists(some, max_size=3) | st.dictionaries(TITLES, some, max_size=3) | st.tuples(some, some),
    max_leaves=8,
)


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """Of any columns, the same name twice among them, in dtypes that pandas finds."""
    titles = draw(st.lists(TITLES | st.integers() | st.none(), max_size=4)) + ["forget"] * draw(st.integers(0, 2))
    rows = draw(st.integers(0, 4))
    columns = [pd.Series([draw(VALUES) for _ in range(rows)], dtype=object) for _ in titles]
    frame = pd.concat(columns, axis=1) if columns else pd.DataFrame()
    return frame.set_axis(titles, axis=1).infer_objects()


@example(data=pd.DataFrame({"forget": ["bag"], "output": [pd.NA]}), params=None)
@example(data=["bag"], params={"output": np.ones(2)})
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(
    data=frames() | VALUES | st.lists(VALUES, max_size=4).map(lambda values: pd.Series(values, dtype=object)),
    params=st.none() | st.dictionaries(TITLES, VALUES, max_size=4),
)
def test_whatever_is_given_is_read_or_refused_with_a_text(data: Any, params: dict[str, Any] | None) -> None:
    try:
        request = Request.of(data, params, NAMES)
        request.require_room(SMALL)
    except BadRequest as error:
        assert "allowed" in str(error) or "group" in str(error), error
    else:
        assert all(set(row.wanted.spec.groups) <= {0, 1, 2} for row in request.rows)


def test_a_gap_in_a_column_of_options_is_the_default_whatever_pandas_fills_it_with() -> None:
    for gap in (None, np.nan, np.float32("nan"), pd.NA, pd.NaT):
        gaps = pd.Series([gap], dtype=object)
        frame = pd.DataFrame({"forget": ["bag"], "output": gaps, "seed": gaps})
        assert read(frame, seed=3).rows == (Row(Wanted(BAG, seed=3), "weights"),)
