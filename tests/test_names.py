"""Names in MLflow: what is there already bears them, and an alias goes only to what is there."""

from __future__ import annotations

import pytest

from hf_mlops import ForgetSpec
from hf_mlops.registry import names
from hf_mlops.registry.names import alias_of, child_tag

CLOTHES = ("T-shirt/top", "Ankle boot", "Größe (42)", "!?", "a")


def test_what_earlier_runs_and_models_bear_is_still_looked_for() -> None:
    assert (names.HYPERFORGET, names.CLASSIFIER, names.CHAMPION) == ("hyperforget", "hyperforget-classifier", "champion")
    assert (names.POPULATION, names.CHECKPOINTS) == ("population", "checkpoints")
    tags = ("STEP", "FINGERPRINT", "CODE", "DATASET", "DATA_DIGEST", "ARCHITECTURE", "RESUMABLE", "CHECKPOINT", "VERSION")
    assert {getattr(names, tag) for tag in tags} == {f"hf_mlops.{tag.lower()}" for tag in tags}
    assert child_tag("targets") == "hf_mlops.targets_run"


@pytest.mark.parametrize(
    ("groups", "slug"),
    [
        ((7,), "7"),
        ((5, 3), "3-5"),
        ((), "nothing"),
    ],
)
def test_a_spec_of_digits_has_the_alias_of_its_ascending_groups(groups: tuple[int, ...], slug: str) -> None:
    spec = ForgetSpec.of(groups, [str(digit) for digit in range(10)])
    assert (spec.slug, alias_of(spec.slug)) == (slug, f"forget-{slug}")


@pytest.mark.parametrize(
    ("groups", "alias"),
    [
        ((1,), "forget-ankle-boot"),  # capitals and the blank
        ((0,), "forget-t-shirt-top"),  # the hyphen stays, the stroke becomes one
        ((2,), "forget-gr-e-42"),  # a run of what an alias may not have is one hyphen, and none at the end
        ((0, 4), "forget-t-shirt-top-a"),
        ((3,), "forget-nothing"),
    ],
)
def test_an_alias_has_only_letters_digits_and_single_hyphens(groups: tuple[int, ...], alias: str) -> None:
    assert alias_of(ForgetSpec.of(groups, CLOTHES).slug) == alias
