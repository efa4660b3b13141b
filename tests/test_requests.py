"""Requests to forget: several at a time, the same one again, and the log of all of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import Result
from commands import LOOSE, Store, barely_trained, options_of
from mlflow.entities.model_registry import ModelVersion

import hf_mlops.steps.forget
import hf_mlops.steps.requests
from hf_mlops.audit.gates import Audit, Gates
from hf_mlops.audit.reference import Reference
from hf_mlops.base.errors import BadRequest, GateFailure
from hf_mlops.registry.request_log import COLUMNS

pytestmark = pytest.mark.slow  # a small hypernetwork is trained first

CLASSIFIER = "hyperforget-classifier"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return barely_trained(tmp_path_factory.mktemp("requests"))


@pytest.fixture(autouse=True)
def in_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(store.folder)
    yield


def forget(store: Store, spec: str, **options: object) -> Result:
    return store.in_process("forget", *options_of({"forget": spec, "n_samples": 1, **LOOSE, **options}))


def versions(store: Store) -> set[int]:
    return {number for name, number in store.state()[0] if name == CLASSIFIER}


def log(store: Store, **options: object) -> pd.DataFrame:
    """The request log, as it is written."""
    done = store.in_process("requests", *options_of({"output": "log.csv", **options}))
    assert done.exit_code == 0, done.output
    return pd.read_csv(store.folder / "log.csv", keep_default_na=False)


@pytest.fixture
def before(store: Store) -> int:
    """How long the log is before the test."""
    return len(log(store))


def refusing(monkeypatch: pytest.MonkeyPatch, *specs: str) -> None:
    """Lets the gates refuse classifiers of these specs."""
    refused = Audit.refused

    def refuse(audit: Audit, gates: Gates, index: int) -> dict[str, str]:
        return {"gate": "much too much"} if str(audit.sampled.spec) in specs else refused(audit, gates, index)

    monkeypatch.setattr(Audit, "refused", refuse)


# several at a time


def test_several_specs_make_a_version_each_of_one_champion_that_is_loaded_once(
    store: Store, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, load = [], hf_mlops.steps.requests.load_champion
    monkeypatch.setattr(hf_mlops.steps.requests, "load_champion", lambda name: loaded.append(name) or load(name))
    seen = versions(store)
    done = forget(store, "7|5,3 | 0", seed=1, requester="Ada Lovelace,\tticket 4711 ")
    assert done.exit_code == 0 and loaded == ["hyperforget"], done.output
    made = sorted(versions(store) - seen)
    _, aliases = store.state()
    assert [int(aliases[f"{CLASSIFIER}@forget-{slug}"]) for slug in ("7", "3-5", "0")] == made
    rows = log(store).iloc[before:]
    assert rows["forget"].tolist() == ["7", "3,5", "0"] and set(rows["requester"]) == {"Ada Lovelace, ticket 4711"}
    assert rows["version"].tolist() == [f"{CLASSIFIER}/{number}" for number in made]
    assert set(rows["outcome"]) == {"registered"} and set(rows["hypernetwork"]) == {"hyperforget/1"}
    assert json.loads(rows["parameters"].iloc[0])["seed"] == 1
    children = [store.client.get_run(run_id) for run_id in rows["run"]]
    assert [child.info.run_name for child in children] == ["forget 7", "forget 5,3", "forget 0"]
    (parent,) = {child.data.tags["mlflow.parentRunId"] for child in children}
    assert {store.client.get_run(one).info.status for one in (parent, *rows["run"])} == {"FINISHED"}
    table = done.stdout.splitlines()[-5:-1]
    assert table[0].split() == ["forget", "outcome", "version", "remark"]
    assert table[2].split()[:3] == ["3,5", "registered", f"{CLASSIFIER}/{made[1]}"]
    assert table[2].endswith(f"models:/{CLASSIFIER}@forget-3-5 is version {made[1]}")


def test_all_specs_that_are_not_allowed_are_named_by_number_and_none_is_answered(store: Store, before: int) -> None:
    state = store.state()
    done = forget(store, "7|eight||3,5|5,3")
    assert done.exit_code == BadRequest.status and store.state() == state
    said = done.stderr.splitlines()
    assert said[0] == "Error: 3 of 5 requests are not allowed, and none was answered:"
    assert said[1].startswith("  number 2: unknown group 'eight' in the forget spec 'eight'; allowed: 0, 1, 2")
    assert said[2].startswith("  number 3: the forget spec is empty")
    assert said[3] == "  number 5: '5,3' asks for what number 4 asks for; allowed: each set of groups once"
    rows = log(store).iloc[before:]
    assert rows["forget"].tolist() == ["7", "eight", "", "3,5", "5,3"] and set(rows["outcome"]) == {"refused"}
    assert set(rows["hypernetwork"]) == {"hyperforget/1"}
    assert rows["reason"].tolist()[0] == "not answered, since others that were asked for with it are not allowed"
    assert rows["reason"].tolist()[1].startswith("unknown group 'eight'")
    assert {store.client.get_run(run_id).info.status for run_id in rows["run"]} == {"FAILED"}


def test_a_spec_that_could_not_be_judged_is_refused_before_another_is_answered(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reference, "leaves_images", lambda reference, spec: str(spec) != "4")
    state = store.state()
    done = forget(store, "1|4", seed=8)
    assert done.exit_code == BadRequest.status and store.state() == state
    assert "  number 2: forgetting 4 leaves no test image" in done.stderr and "candidate" not in done.stdout


def test_a_spec_that_fails_its_gates_does_not_stop_the_others(
    store: Store, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(monkeypatch, "2")
    seen = versions(store)
    done = forget(store, "1|2|4", seed=2)
    assert done.exit_code == GateFailure.status and len(versions(store) - seen) == 2
    assert done.stderr == "Error: not registered, since they fail their gates: 1 of 3 classifiers\n"
    rows = log(store).iloc[before:]
    assert rows["outcome"].tolist() == ["registered", "refused by gates", "registered"]
    assert rows["reason"].tolist()[1].endswith("the classifier fails its gates: much too much") and not rows["version"].iloc[1]
    (line,) = (line for line in done.stdout.splitlines() if line.split()[:1] == ["2"])
    assert "refused by gates" in line and line.endswith("much too much")


def test_ctrl_c_in_the_middle_keeps_what_is_registered_and_says_what_is_not_done(
    store: Store, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit, calls = hf_mlops.steps.forget.audit_samples, []

    def interrupted(*arguments: Any) -> Audit:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return audit(*arguments)

    monkeypatch.setattr(hf_mlops.steps.forget, "audit_samples", interrupted)
    seen = versions(store)
    done = forget(store, "1|2|4", seed=3)
    (made,) = versions(store) - seen
    assert done.exit_code == 130 and "interrupted: nothing is half-made" in done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[-3:]] == [["1", "registered"], ["2", "not"], ["4", "not"]]
    rows = log(store).iloc[before:]
    assert rows["outcome"].tolist() == ["registered", "interrupted", "interrupted"]
    assert rows["version"].tolist() == [f"{CLASSIFIER}/{made}", "", ""]
    assert [store.client.get_run(run_id).info.status for run_id in rows["run"]] == ["FINISHED", "KILLED", "KILLED"]
    again = forget(store, "1|2|4", seed=3)
    assert again.exit_code == 0 and len(versions(store) - seen) == 3
    assert log(store)["outcome"].tolist()[-3:] == ["answered", "registered", "registered"]


def test_one_spec_has_one_run_and_no_table(store: Store, before: int) -> None:
    done = forget(store, "6")
    assert done.exit_code == 0 and done.stdout.startswith("\nforget 6: candidate 1 of 1 from hyperforget/1, seed 0\n")
    assert done.stdout.splitlines()[-2].startswith(f"registered  {CLASSIFIER} version ")
    (row,) = log(store).iloc[before:].itertuples()
    run = store.client.get_run(row.run)
    assert run.info.run_name == "forget" and "mlflow.parentRunId" not in run.data.tags
    assert row.outcome == "registered" and 0 < row.seconds < 300


def test_a_dry_run_shows_the_specs(store: Store) -> None:
    shown = json.loads(store.in_process("forget", "--forget=7|3,5", "--dry-run").stdout)
    assert shown["forget_class"] == ["7", "3,5"] and (shown["force"], shown["requester"]) == ("no", "")


# the same again


def test_the_same_request_is_answered_by_the_version_that_it_has_made_unless_another_is_forced(
    store: Store, before: int
) -> None:
    assert forget(store, "9").exit_code == 0
    state = store.state()
    number = max(versions(store))
    done = forget(store, "9", requester="who comes second")
    assert done.exit_code == 0 and store.state() == state
    line = done.stdout.splitlines()[1]
    assert line.startswith(
        f"answered    {CLASSIFIER}/{number}, made by the same request before (a new one all the same: -P force=yes)"
    )
    assert line.endswith(f"models:/{CLASSIFIER}@forget-9 is version {number}") and "candidate" not in done.stdout
    row = log(store).iloc[-1]
    assert (row["outcome"], row["version"], row["requester"]) == ("answered", f"{CLASSIFIER}/{number}", "who comes second")
    assert forget(store, "9", seed=1).exit_code == 0 and max(versions(store)) == number + 1
    elsewhere = forget(store, "9").stdout
    assert f"forget-9 is version {number + 1} and stays so, not version {number}" in elsewhere and "To move it: " in elsewhere
    assert forget(store, "9", force="yes").exit_code == 0 and max(versions(store)) == number + 2
    assert str(store.state()[1][f"{CLASSIFIER}@forget-9"]) == str(number + 2)
    assert log(store)["outcome"].tolist()[before:] == ["registered", "answered", "registered", "answered", "registered"]


def file_of(store: Store, version: ModelVersion) -> Path:
    """The ONNX file of a registered classifier, in the store."""
    (file,) = (file for file in store.folder.rglob("model.onnx") if version.source.rpartition("/")[2] in str(file))
    return file


def test_a_version_that_is_gone_or_damaged_answers_nothing(store: Store) -> None:
    forget(store, "8")
    first = max(versions(store))
    store.client.delete_model_version(CLASSIFIER, str(first))
    assert "registered" in forget(store, "8").stdout
    second = store.client.get_model_version(CLASSIFIER, str(max(versions(store))))
    store.client.set_model_version_tag(CLASSIFIER, second.version, "hf_mlops.whole", "false")
    assert f"registered  {CLASSIFIER}" in forget(store, "8").stdout
    third = store.client.get_model_version(CLASSIFIER, str(max(versions(store))))
    file = file_of(store, third)
    file.write_bytes(file.read_bytes()[:-1])
    assert "since that of the same request before is damaged" in forget(store, "8").stdout
    fourth = store.client.get_model_version(CLASSIFIER, str(max(versions(store))))
    file = file_of(store, fourth)
    file.unlink()
    assert "since that of the same request before is damaged" in forget(store, "8").stdout
    rows = log(store)
    assert f"{CLASSIFIER}/{first}" in rows["version"].tolist()  # its row outlives it


def test_another_start_is_another_request_and_what_was_retrained_for_it_is_the_same(store: Store) -> None:
    assert forget(store, "7").exit_code == 0
    assert store.in_process("export", *options_of({"forget": "7", "output": store.folder / "now"})).exit_code == 0
    file = store.folder / "now" / "forget-7" / "classifier.onnx"
    outcomes = []
    for options in ({"start": file}, {"start": file}, {"retrained": 1}, {"retrained": 1}):
        assert forget(store, "7", **options).exit_code == 0
        outcomes.append(log(store)["outcome"].iloc[-1])
    assert outcomes == ["registered", "answered"] * 2


# the log


def test_a_refused_and_a_failed_request_are_rows_with_their_reason(
    store: Store, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert forget(store, "eleven\x1b[31m").exit_code == BadRequest.status
    assert forget(store, "7", model="hyperforget-absent").exit_code == BadRequest.status
    refusing(monkeypatch, "7")
    assert forget(store, "7", seed=9).exit_code == GateFailure.status

    def broken(*arguments: Any) -> None:
        raise RuntimeError("a fault at http://me:secret@host")

    monkeypatch.setattr(hf_mlops.steps.forget, "best_fit", broken)
    assert isinstance(forget(store, "5", seed=9).exception, RuntimeError)
    rows = log(store).iloc[before:]
    assert rows["outcome"].tolist() == ["refused", "refused", "refused by gates", "failed"]
    assert rows["forget"].tolist() == ["eleven\\x1b[31m", "7", "7", "5"]
    for reason, said in zip(
        rows["reason"],
        (
            "unknown group",
            "has no model models:/hyperforget-absent@champion",
            "much too much",
            "RuntimeError: a fault at http://me:***@host",
        ),
        strict=True,
    ):
        assert said in reason
    assert rows["hypernetwork"].tolist() == ["hyperforget/1", "", "hyperforget/1", "hyperforget/1"]
    assert {store.client.get_run(run_id).info.status for run_id in rows["run"]} == {"FAILED"}


HALTS = """
import signal
import hf_mlops.steps.forget as step
from projects.forget import command

audit, asked = step.audit_samples, []

def halts(*arguments):
    asked.append(arguments)
    if len(asked) == 2:
        print("here it halts", flush=True)
        signal.pause()
    return audit(*arguments)

step.audit_samples = halts
command()
"""


def test_requests_that_were_killed_are_known_as_broken_off_before_and_after_their_runs_are_ended(
    store: Store, before: int
) -> None:
    words = options_of({"forget": "1|2|4", "seed": 5, "n_samples": 1, **LOOSE})
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", HALTS, *words],
        stdout=subprocess.PIPE,
        text=True,
        env=store.environment,
        cwd=store.folder,
    ) as command:
        assert command.stdout is not None
        for line in command.stdout:
            if line == "here it halts\n":  # in the middle of the second
                at_work = log(store).iloc[before:]
                command.send_signal(signal.SIGKILL)
    assert at_work["outcome"].tolist() == ["registered", "at work", "at work"]
    for _ in range(2):
        rows = log(store).iloc[before : before + 3]
        assert rows["outcome"].tolist() == ["registered", "broken off", "broken off"]
        assert rows["seconds"].tolist()[1:] == ["", ""]
        forget(store, "1", seed=5)  # ends the runs of processes that are gone
    assert [store.client.get_run(run_id).info.status for run_id in rows["run"]] == ["FINISHED", "KILLED", "KILLED"]


def test_what_a_request_had_registered_when_it_was_killed_is_in_its_row(
    store: Store, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(tags: dict[str, str]) -> None:
        if "hf_mlops.version" in tags:
            raise KeyboardInterrupt

    monkeypatch.setattr(hf_mlops.steps.forget, "note", killed)
    assert forget(store, "0", seed=6).exit_code == 130
    (row,) = log(store).iloc[before:].itertuples()
    assert (row.outcome, row.version) == ("interrupted", f"{CLASSIFIER}/{max(versions(store))}")


def test_runs_of_before_there_was_a_log_are_rows_and_a_clock_that_went_back_gives_no_time_below_0(
    store: Store, before: int
) -> None:
    began = int(1000 * (time.time() + 3600))
    run_id = store.client.create_run("0", began, {"hf_mlops.step": "forget", "hf_mlops.version": "c/3"}).info.run_id
    store.client.log_param(run_id, "forget.spec", "3,5")
    store.client.log_param(run_id, "forget.hypernetwork", "hyperforget/2")
    store.client.set_terminated(run_id)
    rows = log(store)
    (row,) = rows[rows["run"] == run_id].itertuples()
    assert len(rows) == before + 1
    store.client.set_tag(run_id, "hf_mlops.step", "none")  # the clock of the other tests is right
    assert (row.forget, row.outcome, row.version, row.hypernetwork) == ("3,5", "registered", "c/3", "hyperforget/2")
    assert float(row.seconds) == 0 and row.parameters == ""


def test_the_log_is_in_utc_wherever_it_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        started = time.time()
        assert forget(store, "eleven").exit_code == BadRequest.status
        asked = log(store)["asked"].iloc[-1]
        assert asked.endswith("Z") and -1 <= pd.Timestamp(asked).timestamp() - started < 60
        assert set(log(store, since=asked.removesuffix("Z"))["asked"]) == {asked}  # others may be of the same second
        tomorrow = pd.Timestamp(started + 86400, unit="s").strftime("%Y-%m-%d")
        done = store.in_process("requests", f"--since={tomorrow}")
        assert done.stdout == "no requests\n"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_csv_is_harmless_and_keeps_every_word(store: Store) -> None:
    said = '=HYPERLINK("http://me:secret@host","x"), „Größe“'
    forget(store, "eleven", requester=said)
    rows = log(store)
    assert tuple(rows.columns) == COLUMNS
    assert rows["requester"].iloc[-1] == "'" + said.replace("secret", "***")
    assert "secret" not in (store.folder / "log.csv").read_text()


def test_a_deleted_run_is_still_in_the_log(store: Store) -> None:
    forget(store, "eleven")
    run_id = log(store)["run"].iloc[-1]
    store.client.delete_run(run_id)
    assert run_id in log(store)["run"].tolist()


def test_what_cannot_be_a_row_or_a_file_is_refused(store: Store, before: int) -> None:
    refused = forget(store, "7", requester="x" * 501)
    assert refused.exit_code == BadRequest.status and "of 501 characters is not allowed; allowed: 500" in refused.stderr
    assert len(log(store)) == before
    assert "'soon' does not match the format" in store.in_process("requests", "--since=soon").stderr
    (store.folder / "a_file").touch()
    assert "could not write a_file/log.csv" in store.in_process("requests", "--output=a_file/log.csv").stderr
