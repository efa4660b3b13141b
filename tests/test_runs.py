"""Steps as MLflow runs: their fingerprints, how they are found again, and how they end."""

from __future__ import annotations

import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from hf_mlops.registry import runs
from hf_mlops.registry.interruption import interrupted
from hf_mlops.registry.names import CODE, FINGERPRINT, STEP
from hf_mlops.registry.runs import find_run, fingerprint_of, step_run

ROOT = Path(__file__).parent.parent


def test_a_fingerprint_is_of_the_step_its_inputs_and_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "source_digest", lambda: "c0de")
    text = b'{"a": [1, 2], "b": "x", "code": "c0de", "step": "targets"}'
    assert fingerprint_of("targets", {"b": "x", "a": (1, 2)}) == sha256(text).hexdigest()[:16]
    others = [fingerprint_of("forget", {"b": "x", "a": (1, 2)}), fingerprint_of("targets", {"b": "x", "a": (2, 1)})]
    monkeypatch.setattr(runs, "source_digest", lambda: "other")
    others.append(fingerprint_of("targets", {"b": "x", "a": (1, 2)}))
    assert len({sha256(text).hexdigest()[:16], *others}) == 4


def digest_of_package(folder: Path) -> str:
    """`source_digest` of the package in a folder, and that it costs no import of numpy or torch."""
    code = "import sys; from hf_mlops.base.source import source_digest as d; print(d(), *{'numpy', 'torch'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env={"PYTHONPATH": str(folder)}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_digest_of_the_source_changes_with_the_text_and_the_place_of_every_module(tmp_path: Path) -> None:
    package = tmp_path / "hf_mlops"
    shutil.copytree(ROOT / "hf_mlops", package)
    digests = [digest_of_package(tmp_path)]
    assert digests == [runs.source_digest()] and len(digests[0]) == 16
    with (package / "steps" / "forget.py").open("a") as file:
        file.write("# a comment\n")
    digests.append(digest_of_package(tmp_path))
    (package / "report" / "pictures.py").rename(package / "report" / "drawings.py")
    digests.append(digest_of_package(tmp_path))
    assert len(set(digests)) == 3


def test_a_run_bears_its_step_fingerprint_code_and_parameters(client: mlflow.MlflowClient) -> None:
    with step_run("targets", "f1", {"runs": 3, "device": "cpu"}, {"colour": "red"}) as run:
        pass
    data = client.get_run(run.info.run_id).data
    expected = {STEP: "targets", FINGERPRINT: "f1", CODE: runs.source_digest(), "colour": "red"}
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
    assert find_run("one", "a", finished=False) is None


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")])
def test_a_run_that_breaks_off_says_how_and_is_found_only_as_unfinished(
    client: mlflow.MlflowClient, error: type[BaseException], status: str
) -> None:
    with pytest.raises(error), step_run("broken", status, {}) as run:
        raise error
    assert client.get_run(run.info.run_id).info.status == status
    unfinished = find_run("broken", status, finished=False)
    assert unfinished is not None and unfinished.info.run_id == run.info.run_id
    assert find_run("broken", status) is None


def test_an_interruption_that_was_swallowed_on_the_way_still_ends_the_run(client: mlflow.MlflowClient) -> None:
    try:
        with pytest.raises(KeyboardInterrupt), step_run("swallowed", "f3", {}) as run:
            interrupted.set()  # as the signal handler does before it raises
    finally:
        interrupted.clear()
    assert client.get_run(run.info.run_id).info.status == "KILLED"
