"""Names in MLflow: what is there already bears them, and an alias goes only to what is there."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from mlflow.utils.validation import _validate_model_alias_name, _validate_model_alias_name_reserved

from hf_mlops import ForgetSpec
from hf_mlops.registry import names
from hf_mlops.registry.names import alias_of, child_tag

CLOTHES = ("T-shirt/top", "Ankle boot", "Größe (42)", "!?", "a")


def test_what_earlier_runs_and_models_bear_is_still_looked_for() -> None:
    assert (names.HYPERFORGET, names.CLASSIFIER, names.CHAMPION) == ("hyperforget", "hyperforget-classifier", "champion")
    assert (names.POPULATION, names.CHECKPOINTS) == ("population", "checkpoints")
    tags = ("STEP", "FINGERPRINT", "CODE", "DATASET", "DATA_DIGEST", "ARCHITECTURE", "RESUMABLE", "CHECKPOINT", "VERSION")
    tags += ("REQUESTER", "SPEC", "PARAMETERS", "HYPERNETWORK", "OUTCOME", "REASON")
    assert {getattr(names, tag) for tag in tags} == {f"hf_mlops.{tag.lower()}" for tag in tags}
    assert child_tag("targets") == "hf_mlops.targets_run"


@pytest.mark.parametrize(("groups", "slug"), [((7,), "7"), ((5, 3), "3-5"), ((9, 0, 4), "0-4-9")])
def test_a_spec_of_digits_has_the_alias_of_its_ascending_groups(groups: tuple[int, ...], slug: str) -> None:
    spec = ForgetSpec.of(groups, [str(digit) for digit in range(10)])
    assert (spec.slug, alias_of(spec.slug)) == (slug, f"forget-{slug}")


@pytest.mark.parametrize(
    ("groups", "alias"),
    [
        ((1,), "forget-ankle_boot"),  # capitals, and a blank inside a name
        ((4, 1), "forget-a-ankle_boot"),
        ((0,), "forget-t-shirt-top__9a217a2bc9ccbebe"),  # what an alias may not have, and hyphens of its own
        ((2,), "forget-gr-sse-42__ea4c0afd4e55e96c"),
        ((3,), "forget-__6949a41d49a05617"),
    ],
)
def test_an_alias_is_readable_where_that_is_unambiguous_and_else_ends_in_a_digest(groups: tuple[int, ...], alias: str) -> None:
    assert alias_of(ForgetSpec.of(groups, CLOTHES).slug) == alias


SIXTY = [f"a class with a long name {number}" for number in range(60)]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (SIXTY, range(59)),
        (["v1", "latest", "V2", "other"], [0]),
        (["v1", "latest", "V2", "other"], [1]),
        (["猫", "кот"], [0]),
        (["x" * 5000, "y"], [0]),
        (["a", "b"], []),
    ],
)
def test_mlflow_takes_the_alias_of_any_spec(names: list[str], groups: Sequence[int]) -> None:
    alias = alias_of(ForgetSpec.of(groups, names).slug)
    _validate_model_alias_name(alias)
    _validate_model_alias_name_reserved(alias)
    assert len(alias) <= 107
