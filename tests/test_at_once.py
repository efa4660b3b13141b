"""Requests at one moment: one version for each that is another, and everyone is told which."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities.model_registry import ModelVersion
from registering import DIGITS, aliases, logged, registered
from sqlalchemy import Engine, event

from hf_mlops.registry import same_request, versions
from hf_mlops.registry.names import FINGERPRINT, FORGET, WHOLE
from hf_mlops.registry.runs import step_run
from hf_mlops.registry.storage import logged_models
from hf_mlops.registry.versions import belongs, register

NAME = "hyperforget-classifier"
Meanwhile = Callable[[str, Callable[[], object]], None]
SEVEN = {**DIGITS.tags, FORGET: "7", FINGERPRINT: "f"}


def register_in_a_run(tags: dict[str, str], passed_over: set[str] | None) -> ModelVersion:
    belongs(NAME, DIGITS)
    with step_run("forget", "f", {}):
        return register(logged(), NAME, "forget-7", tags, "", passed_over)


def numbers() -> list[int]:
    return sorted(int(one.version) for one in mlflow.MlflowClient().search_model_versions(f"name = '{NAME}'"))


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Lets something happen before the next call of a method of MLflow's client, once."""

    def before(method: str, happens: Callable[[], object]) -> None:
        call, waiting = getattr(mlflow.MlflowClient, method), [happens]

        def called(*arguments: Any, **options: Any) -> Any:
            if waiting:
                waiting.pop()()
            return call(*arguments, **options)

        monkeypatch.setattr(mlflow.MlflowClient, method, called)

    return before


# one after the other, in one process


@pytest.mark.parametrize("passed_over", [set(), {"1"}, None])
def test_a_version_that_was_written_first_for_the_same_request_answers_unless_it_was_known_before(
    store: mlflow.MlflowClient, passed_over: set[str] | None
) -> None:
    first = register_in_a_run(SEVEN, set())
    second = register_in_a_run(SEVEN, passed_over)
    if passed_over == set():
        assert second.version == first.version and numbers() == [1] and aliases() == {"forget-7": "1"}
        (left,) = logged_models().values()
        assert left.model_id == first.source.removeprefix("models:/")
        assert len(list(Path(left.artifact_location).parents[1].rglob("MLmodel"))) == 1
    else:
        assert numbers() == [1, 2] and aliases() == {"forget-7": "2"}


@pytest.mark.parametrize(
    ("tags", "status"),
    [({**SEVEN, FINGERPRINT: "g"}, "FINISHED"), ({**SEVEN, FINGERPRINT: "f"}, "KILLED"), (SEVEN, "FAILED")],
    ids=["another request", "killed", "failed"],
)
def test_another_request_and_one_that_broke_off_answer_nothing(
    store: mlflow.MlflowClient, tags: dict[str, str], status: str
) -> None:
    first = register_in_a_run(tags, None)
    store.update_run(first.run_id or "", status)
    assert str(register_in_a_run(SEVEN, set()).version) == "2" and numbers() == [1, 2]


@pytest.mark.parametrize("status", ["FINISHED", "KILLED"])
def test_what_is_in_the_making_is_waited_for_and_answers_only_if_it_gets_through(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    first = register_in_a_run(SEVEN, None)
    store.update_run(first.run_id or "", "RUNNING")
    store.set_model_version_tag(NAME, "1", WHOLE, "false")
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            store.set_model_version_tag(NAME, "1", WHOLE, "true")
        if len(waited) == 3:
            store.update_run(first.run_id or "", status)

    monkeypatch.setattr(same_request.time, "sleep", wait)
    monkeypatch.setattr(same_request, "is_at_work", lambda found: found.info.status == "RUNNING")
    monkeypatch.setattr(versions, "is_at_work_on", lambda run_id: mlflow.get_run(run_id).info.status == "RUNNING")
    answer = register_in_a_run(SEVEN, set())
    assert len(waited) == 3 and str(answer.version) == ("1" if status == "FINISHED" else "2")


def newer_by_another(store: mlflow.MlflowClient, alias: str = "") -> Callable[[], None]:
    """What another process does that registers a newer version for the same request, and ends."""
    with mlflow.start_run() as other:
        model = logged()

    def register_it() -> None:
        made = store.create_model_version(NAME, model.model_uri, other.info.run_id, {**SEVEN, WHOLE: "true"})
        if alias:
            store.set_registered_model_alias(NAME, alias, made.version)

    return register_it


def test_a_newer_version_does_not_answer_an_older_one(store: mlflow.MlflowClient, meanwhile: Meanwhile) -> None:
    meanwhile("update_model_version", newer_by_another(store))
    assert str(register_in_a_run(SEVEN, set()).version) == "1" and numbers() == [1, 2]


@pytest.mark.parametrize("method", ["search_model_versions", "set_registered_model_alias", "get_model_version"])
def test_an_older_version_never_takes_the_alias_from_a_newer_one(
    store: mlflow.MlflowClient, meanwhile: Meanwhile, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Another process registers its version, alias and all, before one of the calls that follow on being whole."""
    tag, newer = mlflow.MlflowClient.set_model_version_tag, newer_by_another(store, "forget-7")

    def whole(*arguments: Any) -> None:
        tag(*arguments)
        meanwhile(method, newer)

    monkeypatch.setattr(mlflow.MlflowClient, "set_model_version_tag", whole)
    assert str(register_in_a_run(SEVEN, None).version) == "1"
    assert numbers() == [1, 2] and aliases() == {"forget-7": "2"}


def test_an_alias_that_another_process_puts_there_at_the_very_moment_is_no_error(store: mlflow.MlflowClient) -> None:
    """MLflow looks whether there is one, and adds its row if not: of two at once the database refuses the second."""
    database, refused = mlflow.get_tracking_uri().removeprefix("sqlite:///"), list[str]()

    def another_adds_it(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if statement.startswith("INSERT INTO registered_model_aliases") and not refused:
            refused.append(statement)
            with closing(sqlite3.connect(database)) as other, other:
                other.execute(statement, parameters)

    event.listen(Engine, "before_cursor_execute", another_adds_it)
    try:
        assert str(register_in_a_run(SEVEN, None).version) == "1"
    finally:
        event.remove(Engine, "before_cursor_execute", another_adds_it)
    assert refused and aliases() == {"forget-7": "1"} and numbers() == [1]


def test_an_alias_that_was_moved_back_by_hand_moves_to_what_is_made_next(store: mlflow.MlflowClient) -> None:
    for _ in range(2):
        registered(NAME, "forget-7", **SEVEN)
    registered(NAME, "forget-3", **{**SEVEN, FORGET: "3"})
    store.set_registered_model_alias(NAME, "forget-7", "1")
    registered(NAME, "forget-7", **SEVEN)
    assert aliases() == {"forget-7": "4", "forget-3": "3"}
