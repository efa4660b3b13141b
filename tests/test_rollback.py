"""Going back moves an alias to the version before that may serve, once it has been looked at, and says from where to where."""

from __future__ import annotations

import mlflow
import pytest
from commands import run
from mlflow.entities.model_registry import ModelVersion
from registering import DIGITS, aliases, registered

from hf_mlops.base.errors import BadRequest, DamagedArtifact
from hf_mlops.registry import rollback
from hf_mlops.registry.names import CHALLENGER, CHAMPION, FORGET, STANDING, WHOLE
from hf_mlops.registry.rollback import roll_back
from hf_mlops.registry.versions import find_version, name_of
from hf_mlops.registry.withdrawal import withdraw


@pytest.fixture(autouse=True)
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The versions whose files were checked: those of these tests hold nothing."""
    seen: list[str] = []
    for check in ("classifier_of", "load_hypernetwork"):
        monkeypatch.setattr(rollback, check, lambda version, check=check: seen.append(f"{check} {name_of(version)}"))
    return seen


def a_classifier(spec: str) -> ModelVersion:
    alias = f"forget-{spec.replace(',', '-')}"
    return registered("hyperforget-classifier", alias, **{**DIGITS.tags, FORGET: spec})


def test_an_alias_goes_back_to_the_version_before_of_the_same_spec(store: mlflow.MlflowClient, looked_at: list[str]) -> None:
    for spec in ("3,5", "3,5", "7", "3,5", "3,5"):
        a_classifier(spec)
    alias, was, version = roll_back("hyperforget-classifier", "5,3")
    assert (alias, was, str(version.version)) == ("forget-3-5", "5", "4")
    assert aliases("hyperforget-classifier") == {"forget-3-5": "4", "forget-7": "3"}
    assert str(roll_back("hyperforget-classifier", "3,5")[2].version) == "2"  # 3 has forgotten something else
    assert looked_at == ["classifier_of hyperforget-classifier/4", "classifier_of hyperforget-classifier/2"]


def test_it_goes_past_what_was_withdrawn_or_is_not_whole(store: mlflow.MlflowClient, looked_at: list[str]) -> None:
    versions = [registered("hyperforget", **DIGITS.tags) for _ in range(4)]
    withdraw(versions[2], "why")
    store.set_model_version_tag("hyperforget", "2", WHOLE, "false")
    done = run("rollback")
    assert done.stdout == "models:/hyperforget@champion was version 4, and is version 1 now\n", done.stderr
    assert aliases("hyperforget") == {"champion": "1"} and looked_at == ["load_hypernetwork hyperforget/1"]


def test_a_challenger_that_was_never_champion_is_not_gone_back_to(store: mlflow.MlflowClient) -> None:
    for standing in (CHAMPION, CHALLENGER, CHAMPION):
        registered("hyperforget", standing, **DIGITS.tags, **{STANDING: standing})
    assert str(roll_back("hyperforget")[2].version) == "1"
    with pytest.raises(BadRequest, match=r"/3 \(newer\), hyperforget/2 \(never champion\), hyperforget/1 \(champion\)$"):
        roll_back("hyperforget")


def test_an_alias_that_was_withdrawn_from_goes_to_the_newest_that_is_left(store: mlflow.MlflowClient) -> None:
    versions = [a_classifier("7") for _ in range(3)]
    withdraw(versions[2], "why")
    done = run("rollback", "--model=hyperforget-classifier", "--forget=7")
    assert done.stdout == "models:/hyperforget-classifier@forget-7 was on no version, and is version 2 now\n"


def test_where_there_is_nothing_to_go_back_to_it_says_what_there_is(store: mlflow.MlflowClient) -> None:
    for spec in ("7", "7", "7", "3"):
        a_classifier(spec)
    withdraw(find_version("hyperforget-classifier/1"), "why")
    store.set_registered_model_alias("hyperforget-classifier", "forget-7", "2")
    before = aliases("hyperforget-classifier")
    there = r".*/3 \(newer\), hyperforget-classifier/2 \(forget-7\), hyperforget-classifier/1 \(withdrawn at 2.*\)"
    with pytest.raises(BadRequest, match=f"@forget-7 has no older version to go back to; there is {there}$"):
        roll_back("hyperforget-classifier", "7")
    for model, spec in (("hyperforget-classifier", "8"), ("hyperforget", ""), ("hyperforget", "7")):
        with pytest.raises(BadRequest, match=f"to go back to; there is no version of it in {model}$"):
            roll_back(model, spec)
    assert aliases("hyperforget-classifier") == before


def test_a_version_that_is_not_what_was_audited_is_not_gone_back_to(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def altered(version: ModelVersion) -> None:
        raise DamagedArtifact("altered")

    monkeypatch.setattr(rollback, "classifier_of", altered)
    for _ in range(2):
        a_classifier("7")
    with pytest.raises(DamagedArtifact, match="altered"):
        roll_back("hyperforget-classifier", "7")
    assert aliases("hyperforget-classifier") == {"forget-7": "2"}
