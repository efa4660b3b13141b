"""What is withdrawn serves nothing, by alias or by number, and is not made again by the way; its record stays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from commands import run, store_in, tracking
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from registering import DIGITS, a_champion, a_run, aliases, logged, registered

from benchmarks.servers import tracking_server
from hf_mlops import Dataset, ForgetSpec, Gates, HypernetConfig, Hypernetwork, OnnxClassifier, Reference
from hf_mlops.base.errors import BadRequest
from hf_mlops.registry import withdrawal
from hf_mlops.registry.hypernetworks import in_torch, load_start, register_hypernetwork
from hf_mlops.registry.models import (
    Champion,
    classifier_of,
    find_classifier,
    load_champion,
    load_hypernetwork,
    register_classifier,
)
from hf_mlops.registry.names import CHAMPION, FINGERPRINT, FORGET, SERVED, VERSION, WEIGHTS, WHOLE, WHY, WITHDRAWN
from hf_mlops.registry.runs import step_run
from hf_mlops.registry.storage import place_of
from hf_mlops.registry.versions import belongs, find_version, register, version_at
from hf_mlops.registry.withdrawal import withdraw
from hf_mlops.serving.sampler import Wanted
from hf_mlops.steps.export import Export
from hf_mlops.steps.forget import Forget, Sampling
from hf_mlops.steps.hypernet import Hypernet
from hf_mlops.steps.main import is_registered

TEN = [str(digit) for digit in range(10)]
BECAUSE = "the customer's contract: it's over"
SAID = rf"was withdrawn at \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00, because: {re.escape(BECAUSE)}"


def a_classifier(spec: str = "7", **tags: str) -> ModelVersion:
    return registered("hyperforget-classifier", f"forget-{spec}", **{**DIGITS.tags, FORGET: spec, **tags})


def number(version: ModelVersion) -> str:
    return f"models:/{version.name}/{version.version}"


def test_a_withdrawn_version_has_no_alias_and_a_reason_and_cannot_be_loaded_by_its_number(store: mlflow.MlflowClient) -> None:
    first, second = a_classifier("3"), a_classifier("7")
    store.set_registered_model_alias(second.name, "eu", second.version)
    mlflow.pyfunc.load_model(number(second))
    (done,) = withdraw(second, f"  {BECAUSE}\n")
    assert aliases() == {"forget-3": "1"}
    assert done.tags == {
        **second.tags,
        WHY: BECAUSE,
        SERVED: "eu,forget-7",
        WITHDRAWN: done.tags[WITHDRAWN],
    }
    with pytest.raises(MlflowException, match=f"hyperforget-classifier/2 {SAID}"):
        mlflow.pyfunc.load_model(number(second))
    mlflow.pyfunc.load_model(number(first))


def test_withdrawing_again_changes_nothing_and_ends_what_broke_off(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = a_classifier()

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mlflow.MlflowClient, "delete_registered_model_alias", killed)
    with pytest.raises(KeyboardInterrupt):
        withdraw(version, BECAUSE)
    monkeypatch.undo()
    tags = find_version("hyperforget-classifier/1").tags
    assert aliases() == {"forget-7": "1"} and re.match(SAID, f"was withdrawn at {tags[WITHDRAWN]}, because: {tags[WHY]}")
    with pytest.raises(BadRequest, match=SAID):
        classifier_of(find_version("hyperforget-classifier/1"))
    for _ in range(2):
        (done,) = withdraw(find_version("hyperforget-classifier/1"), "another reason")
        assert done.tags == tags and not aliases()
        with pytest.raises(MlflowException, match=SAID):
            mlflow.pyfunc.load_model(number(version))


def test_copies_and_second_registrations_of_the_same_weights_are_withdrawn_with_it(store: mlflow.MlflowClient) -> None:
    version, again, other = (a_classifier(**{WEIGHTS: digest}) for digest in ("a", "a", "b"))
    copied = store.copy_model_version(number(version), "production")
    store.set_registered_model_alias("production", "live", copied.version)
    done = withdraw(version, BECAUSE)
    assert {(one.name, str(one.version)) for one in done} == {
        ("hyperforget-classifier", "1"),
        ("hyperforget-classifier", "2"),
        ("production", "1"),
    }
    assert not aliases("production") and aliases() == {"forget-7": "3"}
    for gone in (version, again, copied):
        with pytest.raises(MlflowException, match=SAID):
            mlflow.pyfunc.load_model(number(gone))
    mlflow.pyfunc.load_model(number(other))


def test_the_copy_of_a_version_without_a_digest_is_known_by_its_place(store: mlflow.MlflowClient) -> None:
    belongs("hyperforget", DIGITS)
    with mlflow.start_run():  # of one run, as its copy is
        version, other = (register(logged(), "hyperforget", CHAMPION, DIGITS.tags, "") for _ in range(2))
    copied = store.copy_model_version(number(version), "production")
    assert [one.name for one in withdraw(copied, BECAUSE)] == ["production", "hyperforget"]
    mlflow.pyfunc.load_model(number(other))


def test_what_export_has_left_in_the_store_is_deleted(store: mlflow.MlflowClient, tmp_path: Path) -> None:
    versions = [a_classifier(), a_classifier()]
    (tmp_path / "classifier.onnx").write_bytes(b"weights")
    (tmp_path / "audit.json").write_text("{}")
    runs = []
    for version in versions:
        step = Export(version, tmp_path)
        with step_run(step.name, step.fingerprint, step.inputs) as active:
            for file in ("classifier.onnx", "audit.json"):
                mlflow.log_artifact(str(tmp_path / file))
            runs.append(active.info.run_id)
    withdraw(versions[0], BECAUSE)
    kept = [{file.path for file in store.list_artifacts(one)} for one in runs]
    assert kept == [{"audit.json"}, {"audit.json", "classifier.onnx"}]


@pytest.mark.parametrize("reason", ["", " \n", "x" * 1001])
def test_a_reason_must_be_given(store: mlflow.MlflowClient, reason: str) -> None:
    version = a_classifier()
    with pytest.raises(BadRequest, match="is not allowed; allowed: a text of 1 to 1000 characters"):
        withdraw(version, reason)
    assert aliases() and find_version("hyperforget-classifier/1").tags == version.tags


def test_only_versions_of_this_package_that_are_whole_are_withdrawn(store: mlflow.MlflowClient) -> None:
    for tags in ({}, {**DIGITS.tags}):
        version = registered("hyperforget", **tags)
        store.set_model_version_tag("hyperforget", version.version, WHOLE, "false" if tags else "true")
        with pytest.raises(BadRequest, match=rf"version = 'hyperforget/{version.version}' is not allowed"):
            withdraw(find_version(f"hyperforget/{version.version}"), BECAUSE)
        mlflow.pyfunc.load_model(number(version))


def test_the_command_says_what_was_withdrawn_and_what_was_sampled_from_it(store: mlflow.MlflowClient) -> None:
    registered("hyperforget", **DIGITS.tags)
    for spec in ("3", "7", "8"):
        a_classifier(spec, hypernetwork="hyperforget/1" if spec != "8" else "hyperforget/10")
    asked = ["--version=hyperforget-classifier@forget-3", f"--reason={BECAUSE}"]
    assert run("withdraw", *asked).exit_code == 0
    done = run("withdraw", "--version=hyperforget/1", f"--reason={BECAUSE}")
    assert done.stdout.startswith("withdrawn   hyperforget/1, which had champion, at ") and BECAUSE in done.stdout
    assert "not withdrawn: hyperforget-classifier/2, which was sampled from it" in done.stdout
    assert done.stdout.count("sampled from it") == 1
    again = run("withdraw", "--version=hyperforget/1", "--reason=another")
    assert again.stdout.startswith("already withdrawn   hyperforget/1") and BECAUSE in again.stdout


def test_a_dry_run_lists_versions_aliases_and_files_with_copies_and_changes_nothing(
    store: mlflow.MlflowClient, tmp_path: Path
) -> None:
    version, again = (a_classifier(**{WEIGHTS: "a"}) for _ in range(2))
    copied = store.copy_model_version(number(version), "production")
    store.set_registered_model_alias("production", "live", copied.version)
    with step_run("export", "e", {"classifier": "hyperforget-classifier/1"}) as export:
        mlflow.log_text("weights", "classifier.onnx")
    place = Path(place_of(version))
    sizes = [file.stat().st_size for file in place.rglob("*") if file.is_file()]
    tags = [find_version(f"hyperforget-classifier/{one.version}").tags for one in (version, again)]
    said = run("withdraw", "--version=hyperforget-classifier/1", "--dry-run").stdout.splitlines()
    files = f"{len(sizes)} files, {sum(sizes) / 1e6:.1f} MB, in {place}"
    assert said[0] == (
        f"would be withdrawn   hyperforget-classifier/1 with no alias; {files}, classifier.onnx of the export run"
        f" {export.info.run_id}"
    )
    assert said[1] == f"would be withdrawn   production/1 with live; {files}" and len(said) == 3
    assert said[2].startswith("would be withdrawn   hyperforget-classifier/2 with forget-7; ")
    assert [find_version(f"hyperforget-classifier/{one.version}").tags for one in (version, again)] == tags
    assert aliases() == {"forget-7": "2"} and aliases("production") == {"live": "1"}
    mlflow.pyfunc.load_model(number(version))


def test_the_classifiers_that_were_sampled_from_a_hypernetwork_go_with_it_if_that_is_asked_for(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered("hyperforget", **DIGITS.tags)
    store.copy_model_version("models:/hyperforget/1", "production")
    for spec, hypernetwork in (("3", "hyperforget/1"), ("5", "production/1"), ("7", "hyperforget/10"), ("8", "hyperforget/1")):
        a_classifier(spec, hypernetwork=hypernetwork)
    withdraw(find_version("hyperforget-classifier/4"), "the first")
    asked = ("--version=hyperforget/1", f"--reason={BECAUSE}", "--sampled=yes")
    shown = run("withdraw", *asked, "--dry-run").stdout
    names = ["hyperforget/1", "production/1", *(f"hyperforget-classifier/{number}" for number in (1, 4, 2))]
    assert re.findall(r"^(?:would be|already) withdrawn   (\S+) with", shown, re.MULTILINE) == names
    assert "already withdrawn   hyperforget-classifier/4 with no alias" in shown and aliases()["forget-3"] == "1"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def killed(*arguments: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(withdrawal, "delete_exports", killed)
        withdraw(find_version("hyperforget/1"), BECAUSE, sampled=True)
    assert aliases() == {"forget-7": "3"}  # all are tagged by now, and no file is deleted
    done = run("withdraw", *asked)
    assert done.exit_code == 0 and "not withdrawn" not in done.stdout
    for name in names:
        said = SAID.replace(re.escape(BECAUSE), "the first") if name == "hyperforget-classifier/4" else SAID
        with pytest.raises(MlflowException, match=f"{name} {said}|/1 {said}"):
            mlflow.pyfunc.load_model(f"models:/{name}")
    mlflow.pyfunc.load_model("models:/hyperforget-classifier/3")


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("", "version = '' is not there; allowed: the name and number of a registered version"),
        ("absent/1", "version = 'absent/1' is not there; allowed: the name and number"),
        ("hyperforget/7", "version = 'hyperforget/7' is not there; allowed: hyperforget/1"),
        ("hyperforget@absent", "version = 'hyperforget@absent' is not there; allowed: hyperforget/1"),
        ("hyperforget", "version = 'hyperforget' is not there; allowed: hyperforget/1"),
    ],
)
def test_a_version_that_is_not_there_is_refused_with_those_there_are(
    store: mlflow.MlflowClient, version: str, message: str
) -> None:
    registered("hyperforget", **DIGITS.tags)
    done = run("withdraw", f"--version={version}", "--reason=why")
    assert done.exit_code == BadRequest.status and message in done.stderr
    assert aliases("hyperforget") == {"champion": "1"}


def test_an_alias_that_was_withdrawn_from_is_missed_by_name_and_reason(store: mlflow.MlflowClient) -> None:
    a_classifier("3")
    withdraw(a_classifier("7"), "the first")
    withdraw(a_classifier("7"), BECAUSE)
    with pytest.raises(BadRequest, match=rf"hyperforget-classifier/3 {SAID}; .*@forget-7 is on no version since then: run"):
        find_classifier("7")
    with pytest.raises(BadRequest, match="has no model models:/hyperforget-classifier@forget-8"):
        version_at("hyperforget-classifier", "forget-8", "")
    withdraw(registered("hyperforget", **DIGITS.tags), BECAUSE)
    with pytest.raises(BadRequest, match=rf"hyperforget/1 {SAID}; models:/hyperforget@champion is on no version"):
        load_champion()


def test_a_finished_run_whose_version_was_withdrawn_is_neither_used_again_nor_done_again(
    store: mlflow.MlflowClient, digits: Dataset
) -> None:
    forget = Forget(a_champion(), digits, ForgetSpec.of([7], TEN), Gates(), Sampling())
    hypernet = Hypernet(HypernetConfig(), Gates(), a_run("t1"), digits, "cpu")
    for step, name in ((forget, "hyperforget-classifier"), (hypernet, "hyperforget")):
        version = registered(name, **{**DIGITS.tags, FINGERPRINT: step.fingerprint})
        with step_run(step.name, step.fingerprint, {}) as active:
            mlflow.set_tag(VERSION, f"{name}/1")
        done = store.get_run(active.info.run_id)
        assert is_registered(done)
        withdraw(version, BECAUSE)
        for ask in (lambda run=done: is_registered(run), step.run):
            with pytest.raises(BadRequest, match=rf"{name}/1 {SAID}; .*to make another on purpose .* -P seed=1"):
                ask()
    assert len(store.search_runs([store.get_experiment_by_name("test").experiment_id], "tags.`hf_mlops.step` = 'forget'")) == 1


@pytest.mark.slow
def test_the_files_are_gone_from_a_server_that_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tracking_server(tmp_path) as server, tracking(f"http://{server.address}"):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", mlflow.create_experiment("test"))
        version = registered("hyperforget", **DIGITS.tags)
        kept = tmp_path / "served"
        assert list(kept.rglob("least_model.py"))
        withdraw(version, BECAUSE)
        assert {file.name for file in kept.rglob("models/*/artifacts/*")} == {"MLmodel", "withdrawn.py"}
        assert not list(kept.rglob("least_model.py"))
        with pytest.raises(MlflowException, match=SAID):
            mlflow.pyfunc.load_model(number(version))
        withdraw(version, BECAUSE)


# what is withdrawn is a real one


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory, hypernetwork: Hypernetwork, reference: Reference) -> Iterator[Champion]:
    folder = tmp_path_factory.mktemp("store")
    with store_in(folder):
        with mlflow.start_run():
            register_hypernetwork(hypernetwork, reference, TEN, folder / "model", {}, "A test.")
        yield load_champion()


def classifier_of_seed(champion: Champion, seed: int) -> OnnxClassifier:
    spec = ForgetSpec.of([7], TEN)
    (samples,) = champion.onnx.sampler.sample([Wanted(spec, seed=seed)])
    return champion.onnx.classifier(samples.weights[0], spec)


def register_seed(champion: Champion, seed: int) -> ModelVersion:
    with mlflow.start_run():
        return register_classifier(classifier_of_seed(champion, seed), champion, ForgetSpec.of([7], TEN), {}, "")


@pytest.mark.slow
def test_a_withdrawn_classifier_is_not_exported_stayed_near_or_registered_again_and_another_seed_is(champion: Champion) -> None:
    version = register_seed(champion, 0)
    withdraw(version, BECAUSE)
    version = find_version("hyperforget-classifier/1")
    for ask in (
        lambda: classifier_of(version),
        lambda: load_start("models:/hyperforget-classifier/1", in_torch(champion)[0].target),
        lambda: register_seed(champion, 0),
        lambda: Export(version, Path("out")).run(),
    ):
        with pytest.raises(BadRequest, match=rf"hyperforget-classifier/1 {SAID}"):
            ask()
    assert not aliases()
    assert str(register_seed(champion, 1).version) == "2" and aliases() == {"forget-7": "2"}


@pytest.mark.slow
def test_a_withdrawn_hypernetwork_is_neither_loaded_nor_registered_again_and_what_it_samples_is_not_registered(
    champion: Champion, hypernetwork: Hypernetwork, reference: Reference, tmp_path: Path
) -> None:
    withdraw(champion.version, BECAUSE)

    def register_again() -> None:
        with mlflow.start_run():
            register_hypernetwork(hypernetwork, reference, TEN, tmp_path / "model", {}, "A test.")

    for ask in (
        load_champion,
        lambda: load_hypernetwork(find_version("hyperforget/1")),
        lambda: register_seed(champion, 5),
        register_again,
    ):
        with pytest.raises(BadRequest, match=rf"hyperforget/1 {SAID}"):
            ask()
    assert len(mlflow.MlflowClient().search_model_versions("name = 'hyperforget'")) == 1
