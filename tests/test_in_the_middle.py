"""Kills, crowds, and a champion or a clock that changes in the middle of `forget`: the registry is whole after each."""

from __future__ import annotations

import multiprocessing
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from commands import LOOSE, Store, barely_trained, options_of, run, tracking
from forking import copied, ended, forked, kill_before
from registering import aliases

import hf_mlops.steps.forget
from hf_mlops.registry.deployed import deployed
from hf_mlops.registry.models import classifier_of
from hf_mlops.registry.names import FINGERPRINT, VERSION, WHOLE
from hf_mlops.registry.request_log import request_log
from hf_mlops.registry.runs import find_run
from hf_mlops.registry.storage import logged_models
from hf_mlops.registry.versions import find_version
from hf_mlops.steps.doctor import findings

pytestmark = pytest.mark.slow  # a small hypernetwork is trained first

NAME = "hyperforget-classifier"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a store, to be copied."""
    return barely_trained(tmp_path_factory.mktemp("faults")).folder / "mlflow.db"


@pytest.fixture(autouse=True)
def here(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative artifacts are those of the store; temporary folders are this test's own."""
    monkeypatch.chdir(filled.parent)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.fixture
def store(filled: Path, tmp_path: Path) -> Iterator[Store]:
    """A copy of it, which this process opens."""
    copied(filled, tmp_path / "mlflow.db")
    store = Store(tmp_path)
    with tracking(store.uri):
        yield store


def ask(uri: str, spec: str = "7", seed: int = 0) -> None:
    with tracking(uri):
        done = run("forget", *options_of({"forget": spec, "seed": seed, "n_samples": 1, **LOOSE}))
    print(done.output)
    assert done.exit_code == 0, done.exception


def numbers() -> list[int]:
    return sorted(int(one.version) for one in mlflow.MlflowClient().search_model_versions(f"name = '{NAME}'"))


# killed


def look_and_ask_again(uri: str) -> None:
    """After a kill: every alias is on what was audited, `doctor` leaves nothing, and the same request is answered."""
    with tracking(uri):
        for model in mlflow.MlflowClient().search_registered_models():
            for number in model.aliases.values():
                version = find_version(f"{model.name}/{number}")
                assert version.tags[WHOLE] == "true"
                if model.name == NAME:
                    classifier_of(version)
        assert run("doctor", "--mend=yes").exit_code == 0 and not findings()
        before = request_log()["outcome"].tolist()
        ask(uri)
        assert {one.tags[WHOLE] for one in mlflow.MlflowClient().search_model_versions()} == {"true"}
        now = aliases()["forget-7"]
        classifier_of(find_version(f"{NAME}/{now}"))
        assert int(now) == max(numbers()) and not findings()
        assert request_log()["outcome"].tolist()[len(before) :] in (["registered"], ["answered"])
        assert before in ([], ["broken off"], ["registered"]), before


def test_a_request_that_is_killed_before_any_of_its_writes_leaves_a_registry_that_works(filled: Path, tmp_path: Path) -> None:
    number, killed = 0, True
    while killed:
        number += 1
        uri = copied(filled, tmp_path / f"{number}.db")

        def ask_and_be_killed(number: int = number, uri: str = uri) -> None:
            kill_before(number)
            ask(uri)

        status = ended(forked(ask_and_be_killed, tmp_path / "said"))
        killed = status == -signal.SIGKILL
        assert killed or status == 0, (tmp_path / "said").read_text()
        again = ended(forked(lambda uri=uri: look_and_ask_again(uri), tmp_path / "said"))
        assert again == 0, f"killed before write {number}:\n{(tmp_path / 'said').read_text()}"
    assert number > 20  # the writes that there are, and one more


# eight at once


def test_of_eight_processes_at_once_each_is_answered_and_each_request_that_is_another_makes_one_version(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, asked = copied(filled, tmp_path / "mlflow.db"), [("7", 0)] * 4 + [("7", 1)] * 2 + [("3,5", 0)] * 2
    all_at_work = multiprocessing.get_context("fork").Barrier(len(asked))
    audit = hf_mlops.steps.forget.audit_samples

    def together(*arguments: Any) -> Any:
        all_at_work.wait(240)  # by now each has found that nobody has made its version before
        return audit(*arguments)

    monkeypatch.setattr(hf_mlops.steps.forget, "audit_samples", together)
    files = [tmp_path / f"said-{number}" for number in range(len(asked))]
    children = [forked(lambda one=one: ask(uri, *one), file) for one, file in zip(asked, files, strict=True)]
    statuses = [ended(child) for child in children]
    said = [file.read_text() for file in files]
    assert statuses == [0] * len(asked), "\n".join(said)
    answers = [re.findall(rf"^(?:registered|answered) +{NAME}(?:/| version )(\d+)", text, re.MULTILINE) for text in said]
    told = {one: set[str]() for one in asked}
    for one, found in zip(asked, answers, strict=True):
        told[one].update(found)
    assert [len(found) for found in (*told.values(), *answers)] == [1] * (3 + len(asked))
    (first,), (second,), (third,) = told.values()
    with tracking(uri):
        assert sorted(map(int, (first, second, third))) == numbers()
        assert aliases() == {"forget-7": str(max(int(first), int(second))), "forget-3-5": third}
        assert sorted(request_log()["outcome"]) == ["answered"] * 5 + ["registered"] * 3
        assert len(logged_models()) == 4  # with the hypernetwork's


# what changes in the middle


def test_a_request_ends_on_the_champion_that_it_began_with_and_says_which(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = hf_mlops.steps.forget.best_fit

    def another_champion_first(*arguments: Any) -> int:
        store.client.copy_model_version("models:/hyperforget/1", "hyperforget")
        store.client.set_registered_model_alias("hyperforget", "champion", "2")
        return fit(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(hf_mlops.steps.forget, "best_fit", another_champion_first)
        ask(store.uri)
    assert "candidate 1 of 1 from hyperforget/1, seed 0" in capsys.readouterr().out
    assert find_version(f"{NAME}/1").tags["hypernetwork"] == "hyperforget/1"
    assert aliases("hyperforget") == {"champion": "2"} and aliases() == {"forget-7": "1"}
    (row,) = request_log().itertuples()
    assert (row.hypernetwork, row.version, row.outcome) == ("hyperforget/1", f"{NAME}/1", "registered")
    serving, _ = deployed()
    assert serving["of the champion"].tolist() == ["", "no"]
    ask(store.uri, seed=1)
    assert find_version(f"{NAME}/2").tags["hypernetwork"] == "hyperforget/2"


def test_a_clock_that_is_moved_back_changes_no_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    ask(store.uri)
    ask(store.uri, seed=1)
    monkeypatch.setattr(time, "time", lambda: now() - 86400)
    store.client.delete_model_version(NAME, "1")
    for _ in range(2):
        ask(store.uri)  # a new version, which then answers, though the run of the one that is gone is later by the clock
    assert numbers() == [2, 3] and aliases() == {"forget-7": "3"}
    made = [find_version(f"{NAME}/{number}") for number in (2, 3)]
    assert made[1].creation_timestamp < made[0].creation_timestamp - 80_000_000
    done = find_run("forget", made[1].tags[FINGERPRINT])
    assert done is not None and done.data.tags[VERSION] == f"{NAME}/3"
    assert request_log()["version"].tolist() == [f"{NAME}/{number}" for number in (1, 2, 3, 3)]
    assert request_log()["outcome"].tolist() == ["registered"] * 3 + ["answered"]
    assert run("rollback", f"--model={NAME}", "--forget=7").exit_code == 0 and aliases() == {"forget-7": "2"}
    ask(store.uri, seed=2)
    assert aliases() == {"forget-7": "4"} and not findings()
