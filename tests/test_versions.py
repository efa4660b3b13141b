"""Registered models: whose name is whose, what moves an alias and what does not, what a failure leaves, and its mending."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from registering import DIGITS, logged, registered

from hf_mlops.base.errors import BadRequest, DamagedArtifact
from hf_mlops.registry.models import find_classifier
from hf_mlops.registry.names import CHECKPOINT, FORGET, RESUMABLE, WHOLE
from hf_mlops.registry.runs import step_run
from hf_mlops.registry.versions import (
    Subject,
    classifier_name,
    delete,
    model_for,
    serving,
    still_there,
    subject_of,
    version_at,
)
from hf_mlops.steps.doctor import findings
from hf_mlops.steps.hypernet import Checkpoints

MNIST = Subject("mnist", "m1", "mlp-32", "*")
SHARDS = Subject("digits", "d3", "mlp-16", "*", "shard:4")
POISON = Subject("digits", "d4", "mlp-16", "*", "shard:4+poison:patch:0.05")


def test_whoever_comes_first_has_the_plain_name_and_others_get_their_own(store: mlflow.MlflowClient) -> None:
    assert model_for(DIGITS) == "hyperforget"
    assert model_for(MNIST) == "hyperforget-mnist-mlp-32"
    assert classifier_name("hyperforget-mnist-mlp-32") == "hyperforget-classifier-mnist-mlp-32"
    assert classifier_name("hyperforget") == "hyperforget-classifier"
    for again, name in ((DIGITS, "hyperforget"), (MNIST, "hyperforget-mnist-mlp-32")):
        assert model_for(again) == name


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (Subject("digits", "d2", "mlp-16", "*"), True),  # the data have grown
        (Subject("folder:/elsewhere", "d1", "mlp-16", "*"), True),  # the data have moved
        (Subject("mnist", "m1", "mlp-16", "*"), False),
        (Subject("digits", "d1", "lenet", "*"), False),
        (Subject("digits", "d1", "mlp-16", "3.*"), False),
        (SHARDS, False),
        (Subject("digits", "d1", "mlp-16", "*", "class"), True),  # the same groups
    ],
)
def test_only_the_same_data_and_network_share_a_name(store: mlflow.MlflowClient, other: Subject, same: bool) -> None:
    assert model_for(DIGITS) == "hyperforget"
    assert (model_for(other) == "hyperforget") == same


def test_groups_have_a_name_of_their_own_and_poison_never_the_plain_one(store: mlflow.MlflowClient) -> None:
    assert model_for(POISON).startswith("hyperforget-digits-mlp-16-shard-4-poison-patch-0-05-")
    assert model_for(SHARDS) == "hyperforget"
    assert model_for(DIGITS) == "hyperforget-digits-mlp-16"
    for again in (POISON, SHARDS, DIGITS):
        assert model_for(again) == model_for(again)
    assert model_for(Subject("digits", "d5", "mlp-16", "*", "shard:4")) == "hyperforget"  # the data have grown
    assert subject_of(store.get_registered_model("hyperforget").tags) == SHARDS
    assert subject_of(store.get_registered_model("hyperforget-digits-mlp-16").tags) == DIGITS


def test_names_of_other_subjects_never_meet() -> None:
    subjects = [
        MNIST,
        Subject("mnist", "m1", "mlp-32", "0.*"),
        Subject("folder:/a/my photos", "x", "mlp-16", "*"),
        Subject("folder:/b/my photos", "y", "mlp-16", "*"),
        Subject("npz:/b/my-photos.npz", "z", "mlp-16", "*"),
        Subject("mnist", "m2", "mlp-32", "*", "/a/who.csv"),
        Subject("mnist", "m2", "mlp-32", "*", "/b/who.csv"),
        Subject("mnist-mlp", "x", "32", "*"),
    ]
    suffixes = [subject.suffix for subject in subjects]
    assert suffixes[0] == "mnist-mlp-32" and suffixes[2].startswith("my-photos-mlp-16-")
    assert suffixes[5].startswith("mnist-mlp-32-who-csv-") and len(set(suffixes[:7])) == 7


def test_an_alias_moves_to_a_version_that_is_whole(store: mlflow.MlflowClient) -> None:
    version = registered("hyperforget", forget="7")
    assert version.tags == {"forget": "7", WHOLE: "true"} and version.description == "A test."
    assert version_at("hyperforget", "champion", "").version == version.version


@pytest.mark.parametrize("call", ["update_model_version", "set_model_version_tag", "set_registered_model_alias"])
def test_a_registration_that_fails_takes_back_its_version_and_no_one_elses(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def interrupt(*arguments: object) -> None:
        registered_by_another_process()
        raise KeyboardInterrupt

    def registered_by_another_process() -> None:
        monkeypatch.undo()
        store.create_model_version("hyperforget", logged_before.model_uri, tags={WHOLE: "true"})

    with mlflow.start_run():
        logged_before = logged()
    monkeypatch.setattr(mlflow.MlflowClient, call, interrupt)
    with pytest.raises(KeyboardInterrupt):
        registered("hyperforget")
    (left,) = store.search_model_versions("name = 'hyperforget'")
    assert left.run_id == logged_before.run_id
    assert not store.get_registered_model("hyperforget").aliases


def test_the_next_registration_deletes_what_others_have_left_halfway_and_what_they_are_at_work_on_not(
    store: mlflow.MlflowClient,
) -> None:
    registered("hyperforget")
    for status in ("KILLED", "RUNNING"):
        with mlflow.start_run() as run:
            store.create_model_version("hyperforget", logged().model_uri, run_id=run.info.run_id, tags={WHOLE: "false"})
        store.update_run(run.info.run_id, status)
    newest = registered("hyperforget")
    assert sorted(int(version.version) for version in store.search_model_versions("name = 'hyperforget'")) == [1, 3, 4]
    assert str(newest.version) == "4" and "3" not in store.get_registered_model("hyperforget").aliases.values()


def test_a_version_that_another_process_has_deleted_is_no_error(store: mlflow.MlflowClient) -> None:
    version = registered("hyperforget")
    delete(version)
    delete(version)
    assert not store.search_model_versions("name = 'hyperforget'")


def test_a_model_that_is_not_there_is_told_from_a_store_that_does_not_answer(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadRequest, match=r"has no model models:/hyperforget@champion: do this"):
        version_at("hyperforget", "champion", "do this")
    registered("hyperforget-mnist-mlp-32")
    with pytest.raises(BadRequest, match=r"@champion; there are hyperforget-mnist-mlp-32: do this"):
        version_at("hyperforget", "champion", "do this")
    with pytest.raises(BadRequest, match="has no model models:/hyperforget-mnist-mlp-32@forget-7"):
        version_at("hyperforget-mnist-mlp-32", "forget-7", "do this")
    assert still_there("hyperforget-mnist-mlp-32/1") is not None and still_there("hyperforget-mnist-mlp-32/2") is None

    def refuse(*arguments: object) -> None:
        raise MlflowException("password authentication failed")

    for call in ("get_model_version_by_alias", "get_model_version"):
        monkeypatch.setattr(mlflow.MlflowClient, call, refuse)
    for ask in (lambda: version_at("hyperforget", "champion", ""), lambda: still_there("hyperforget/1")):
        with pytest.raises(MlflowException, match="password authentication failed"):
            ask()


def test_an_alias_is_not_moved_back_but_said_where_it_is_and_how_to_move_it(store: mlflow.MlflowClient) -> None:
    first = registered("hyperforget")
    assert serving(first, "champion") == "models:/hyperforget@champion is version 1"
    second = registered("hyperforget")
    said = serving(first, "champion")
    assert said.startswith("models:/hyperforget@champion is version 2 and stays so, not version 1")
    assert version_at("hyperforget", "champion", "").version == second.version
    exec(said.partition("To move it: ")[2])
    assert version_at("hyperforget", "champion", "").version == first.version
    store.delete_registered_model_alias("hyperforget", "champion")
    assert "is on no version and stays so" in serving(first, "champion")


def test_the_classifier_of_another_spec_or_of_other_data_is_not_given_for_the_one_asked_for(store: mlflow.MlflowClient) -> None:
    store.create_registered_model("hyperforget-classifier", tags=DIGITS.tags)
    version = registered("hyperforget-classifier", "forget-3-5", **{FORGET: "3,5"}, **DIGITS.tags)
    for text in ("3,5", " 5, 3"):
        assert find_classifier(text).version == version.version
    with pytest.raises(BadRequest, match="has no model models:/hyperforget-classifier@forget-7"):
        find_classifier("7")
    store.set_registered_model_alias("hyperforget-classifier", "forget-7", version.version)
    with pytest.raises(DamagedArtifact, match=r"is not the classifier of '7' .* its tags say '3,5'"):
        find_classifier("7")
    registered("hyperforget-classifier", "forget-3-5", **{FORGET: "3,5"}, **MNIST.tags)
    with pytest.raises(DamagedArtifact, match=r"Subject.*mnist.*, the model is of Subject.*digits"):
        find_classifier("3,5")


def test_what_killed_processes_have_left_is_found_and_mended_and_nothing_else(
    store: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # other processes leave theirs in the usual one
    whole = registered("hyperforget")
    with pytest.raises(KeyboardInterrupt), step_run("hypernet", "f", {}) as broken_off:
        (tmp_path / "left").mkdir()
        (tmp_path / "left" / "training.json").write_text("{}")
        Checkpoints(tmp_path / "left", broken_off, None).keep(5)
        raise KeyboardInterrupt
    assert not findings()  # its checkpoint is wanted
    with step_run("hypernet", "f", {}):
        pass
    experiment = store.get_experiment_by_name("test").experiment_id
    lost = store.create_run(experiment, start_time=1, tags={"hf_mlops.step": "targets"})
    with mlflow.start_run() as run:
        store.create_model_version("hyperforget", logged().model_uri, run_id=run.info.run_id, tags={WHOLE: "false"})
        store.set_terminated(run.info.run_id, "KILLED")
    store.create_model_version("hyperforget", whole.source, tags={"of": "an earlier version of this package"})
    store.create_registered_model("hyperforget-classifier", tags=DIGITS.tags)
    store.create_registered_model("another")
    (tmp_path / "hf_mlops-1-0-killed").mkdir()  # of a process of this id that another one has by now
    found = findings()
    assert [finding.what for finding in found] == [
        f"the targets run {lost.info.run_id} is marked as running, and its process is gone",
        f"the run {broken_off.info.run_id} has a checkpoint, and another run has finished its work",
        "hyperforget/2 was not registered to the end",
        "the registered model hyperforget-classifier has no version to keep",
        f"{tmp_path}/hf_mlops-1-0-killed is the temporary folder of a process that was killed",
    ]
    for finding in found:
        finding.mend()
    assert not findings()
    assert sorted(int(version.version) for version in store.search_model_versions("name = 'hyperforget'")) == [1, 3]
    assert {model.name for model in store.search_registered_models()} == {"hyperforget", "another"}
    assert store.get_run(lost.info.run_id).info.status == "KILLED"
    left = store.get_run(broken_off.info.run_id).data.tags
    assert left[RESUMABLE] == "false" and not store.list_artifacts(broken_off.info.run_id, left[CHECKPOINT])
