"""Deletion that breaks off goes on when it is asked for again; and behind a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from commands import tracking
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from retaining import a_classifier, a_population, a_run_that_failed, deleted, found, numbers, retention
from retaining import temporary as temporary

from benchmarks.servers import tracking_server
from hf_mlops.registry import storage


class Killed(Exception):
    """Stands for a process that was killed."""


DELETING = (  # each call that takes something away
    *((mlflow.MlflowClient, name) for name in ("delete_model_version", "delete_logged_model", "delete_run", "set_tag")),
    *((storage, name) for name in ("delete_at", "delete_for_good")),
    (LocalArtifactRepository, "delete_artifacts"),
)


@pytest.mark.slow
def test_whoever_is_killed_in_between_does_the_same_again_which_goes_on(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    every, killed, number = dict.fromkeys(("populations", "classifiers", "failed", "models", "trash"), "0d"), True, 0
    a_classifier()
    while killed:
        a_population(10)
        a_run_that_failed("evaluate")
        a_classifier()
        number, killed = number + 1, False
        with monkeypatch.context() as patch:
            killing = killed_at(number)
            for owner, name in DELETING:
                patch.setattr(owner, name, killing(getattr(owner, name)))
            try:
                delete_all(every)
            except Killed:
                killed = True
        assert Path(storage.place_of(store.get_model_version_by_alias("hyperforget-classifier", "forget-7"))).exists()
        delete_all(every)
        assert len(numbers()) == 1
        assert storage.models_in_trash(0) == {} and storage.runs_in_trash(0) == set()
    assert not found(1, **every) and number > 12  # the calls that there are, and one more


def delete_all(ages: dict[str, str]) -> None:
    for one in retention(1, **ages).expendable():
        one.mend()


def killed_at(number: int) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Lets the call of this number, of all that are wrapped, be the last."""
    calls: list[int] = []

    def killing(call: Callable[..., object]) -> Callable[..., object]:
        def killed(*arguments: object, **options: object) -> object:
            calls.append(1)
            if len(calls) == number:
                raise Killed
            return call(*arguments, **options)

        return killed

    return killing


# behind a server


@pytest.mark.slow
def test_behind_a_server_files_go_and_it_says_how_rows_in_the_trash_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tracking_server(tmp_path) as server, tracking(f"http://me:secret@{server.address}"):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", mlflow.create_experiment("test"))
        population, failed, request = a_population(), a_run_that_failed("evaluate"), a_run_that_failed("forget")
        first, _ = a_classifier(), a_classifier()
        mlflow.MlflowClient().delete_run(request)
        every = dict.fromkeys(("populations", "classifiers", "failed", "models", "trash"), "0d")
        said = deleted(**every)
        assert numbers() == [2] and not found(1, **every)
        kept = tmp_path / "served"
        assert {file.name for file in kept.rglob("*.*") if "models" not in file.parts} == {"reference.csv", "kept.txt"}
        assert not list(kept.rglob(f"models/{first.source.removeprefix('models:/')}/artifacts/*"))
        command = f"MLFLOW_TRACKING_URI=http://me:***@{server.address} mlflow gc --backend-store-uri <the database's URI>"
        assert said.splitlines()[-1] == f"{command} --run-ids {failed}"
        assert "1 deleted runs stay as rows in the database of http://me:***@" in said and population.info.run_id in said
