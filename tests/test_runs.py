"""Steps as MLflow runs: their fingerprints, how they are found again, and how they end."""

from __future__ import annotations

import mlflow
import pytest
from mlflow.entities import Run

from hf_mlops.base.source import source_digest
from hf_mlops.registry.interruption import interrupted
from hf_mlops.registry.names import CODE, FINGERPRINT, STEP
from hf_mlops.registry.runs import BROKEN_OFF, find_run, step_run


def test_a_run_bears_its_step_fingerprint_code_and_parameters(client: mlflow.MlflowClient) -> None:
    with step_run("targets", "f1", {"runs": 3, "device": "cpu"}, {"colour": "red"}) as run:
        pass
    data = client.get_run(run.info.run_id).data
    expected = {STEP: "targets", FINGERPRINT: "f1", CODE: source_digest(), "colour": "red"}
    assert expected.items() <= data.tags.items()
    assert data.params == {"targets.runs": "3", "targets.device": "cpu"}


def test_a_step_in_a_run_is_its_child_by_the_steps_name(client: mlflow.MlflowClient) -> None:
    with step_run("main", "", {}) as parent, step_run("export", "f2", {}) as child:
        pass
    child = client.get_run(child.info.run_id)
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id and child.info.run_name == "export"


def test_the_latest_run_that_has_all_that_is_asked_for_is_found(client: mlflow.MlflowClient) -> None:
    def finished(step: str, fingerprint: str, colour: str) -> Run:
        with step_run(step, fingerprint, {}, {"colour": colour}) as run:
            pass
        return run

    finished("one", "a", "red")
    second = finished("one", "a", "red")
    third = finished("one", "b", "blue")
    finished("another", "a", "red")
    for found, expected in (
        (find_run("one", "a"), second),
        (find_run("one"), third),
        (find_run("one", tags={"colour": "red"}), second),
        (find_run("one", "b", {"colour": "blue"}), third),
    ):
        assert found is not None and found.info.run_id == expected.info.run_id
    assert find_run("one", "b", {"colour": "red"}) is None
    assert find_run("one", "a", statuses=BROKEN_OFF) is None


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")])
def test_a_run_that_breaks_off_says_how_and_is_found_only_as_unfinished(
    client: mlflow.MlflowClient, error: type[BaseException], status: str
) -> None:
    with pytest.raises(error), step_run("broken", status, {}) as run:
        raise error
    assert client.get_run(run.info.run_id).info.status == status
    unfinished = find_run("broken", status, statuses=BROKEN_OFF)
    assert unfinished is not None and unfinished.info.run_id == run.info.run_id
    assert find_run("broken", status) is None


def test_an_interruption_that_was_swallowed_on_the_way_still_ends_the_run(client: mlflow.MlflowClient) -> None:
    try:
        with pytest.raises(KeyboardInterrupt), step_run("swallowed", "f3", {}) as run:
            interrupted.set()  # as the signal handler does before it raises
    finally:
        interrupted.clear()
    assert client.get_run(run.info.run_id).info.status == "KILLED"
