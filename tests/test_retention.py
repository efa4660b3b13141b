"""What may be deleted is said first; what serves, explains or is at work stays; doing it again goes on."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import SimpleNamespace

import least_model
import mlflow
import pytest
from commands import run
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from registering import DIGITS, aliases, registered
from retaining import DAY, a_classifier, a_population, a_run_that_failed, deleted, found, numbers, row
from retaining import temporary as temporary

from hf_mlops import Dataset, ForgetSpec, Gates, HypernetConfig
from hf_mlops.base.errors import BadRequest
from hf_mlops.hypernet.recipes import find_recipe
from hf_mlops.registry import storage
from hf_mlops.registry.lineage import lineage
from hf_mlops.registry.models import make_champion
from hf_mlops.registry.names import (
    CHALLENGER,
    CHAMPION,
    DATA_DIGEST,
    HYPERNETWORK,
    PURGED,
    SAMPLED_FROM,
    SPEC,
    STANDING,
    VERSION,
    WEIGHTS,
)
from hf_mlops.registry.request_log import request_log
from hf_mlops.registry.runs import open_run, step_run
from hf_mlops.registry.versions import find_version
from hf_mlops.registry.withdrawal import withdraw
from hf_mlops.steps.hypernet import Hypernet
from hf_mlops.steps.main import Main
from hf_mlops.steps.retention import KINDS, purge, seconds_of
from hf_mlops.steps.targets import find_targets

TEN = [str(digit) for digit in range(10)]


def state(store: mlflow.MlflowClient) -> object:
    runs = mlflow.search_runs(search_all_experiments=True, run_view_type=ViewType.ALL, output_format="list")
    return sorted((one.info.run_id, one.info.lifecycle_stage, str(one.data.tags)) for one in runs), numbers(), aliases()


# what is listed


def test_nothing_is_deleted_unless_that_is_asked_for(store: mlflow.MlflowClient) -> None:
    of = a_population()
    for _ in range(2):
        a_classifier()
    before = state(store)
    said = run("retention", "--populations=0d", "--classifiers=0h").stdout
    assert re.search(rf"may go: the population of the targets run {of.info.run_id} on digits, of .* \(1\.5 MB\)\n", said)
    assert "may go: hyperforget-classifier/1 (forget 7), superseded on 2" in said
    assert (row(said, "populations"), row(said, "trash")) == (["0d", "1", "1.5"], ["30d", "0", "0.0"])
    assert said.endswith("nothing was deleted; to delete it: the same with --delete yes, or -P delete=yes\n")
    assert state(store) == before and store.list_artifacts(of.info.run_id, "population")


def test_what_is_young_stays_and_each_kind_has_an_age_of_its_own(store: mlflow.MlflowClient) -> None:
    a_population()
    for _ in range(2):
        a_classifier()
    kept = {kind: age for kind, (age, _) in KINDS.items()}
    assert [len(found(days, **kept)) for days in (0, 29.9, 30.1, 89.9, 90.1)] == [0, 0, 1, 1, 2]
    assert [kind for kind, *_ in found(90.1, **kept)] == ["populations", "classifiers"]
    assert not found(-1, **dict.fromkeys(KINDS, "0d"))  # the clock was moved back


@pytest.mark.parametrize("age", ["", "30", "1w", "-1d", "1.5d", "d", "30 d"])
def test_an_age_is_days_hours_or_never(age: str) -> None:
    with pytest.raises(BadRequest, match=f"models = '{re.escape(age)}' is not allowed; allowed: days as 30d, hours as 12h"):
        seconds_of("models", age)
    assert [seconds_of("models", one) for one in ("2d", "12h", " never ")] == [172800, 43200, float("inf")]


def test_what_killed_processes_have_left_goes_whatever_the_ages(store: mlflow.MlflowClient) -> None:
    lost = store.create_run(store.get_experiment_by_name("test").experiment_id, 1, {"hf_mlops.step": "targets"}).info.run_id
    assert next(what for kind, what, _ in found() if kind == "left").startswith(f"the targets run {lost} is marked as running")
    assert f"deleted: the targets run {lost}" in deleted() and store.get_run(lost).info.status == "KILLED"


# populations


def test_a_population_is_kept_for_its_age_after_the_last_training_on_it(store: mlflow.MlflowClient) -> None:
    population = a_population()
    with step_run("hypernet", "h", {"targets_run": population.info.run_id}) as training:
        assert not found(99, populations="0d")  # it is being trained on
    store.set_terminated(training.info.run_id, end_time=int(1000 * (time.time() + 20 * DAY)))
    assert not found(49.9, populations="30d") and len(found(50.1, populations="30d")) == 1


def test_a_population_that_was_deleted_is_not_trained_on_and_its_run_stays(store: mlflow.MlflowClient, digits: Dataset) -> None:
    before, purged = a_population(), a_population()
    data = SimpleNamespace(digest="d1", name="digits")
    assert find_targets(data, "mlp-16").info.run_id == purged.info.run_id  # type: ignore[arg-type]
    store.update_run(before.info.run_id, "RUNNING")
    assert row(deleted(populations="0d"), "populations") == ["0d", "1", "1.5"]
    store.set_terminated(before.info.run_id)
    assert find_targets(data, "mlp-16").info.run_id == before.info.run_id  # type: ignore[arg-type]
    left = store.get_run(purged.info.run_id)
    assert [file.path for file in store.list_artifacts(purged.info.run_id)] == ["reference.csv"]
    assert left.data.tags[PURGED].endswith("+00:00") and left.data.tags[DATA_DIGEST] == "d1"
    with pytest.raises(BadRequest, match=f"the population of the targets run {purged.info.run_id} was deleted at 2"):
        Hypernet(HypernetConfig(), Gates(), left, digits, "cpu").run()
    deleted(populations="0d")
    with pytest.raises(BadRequest, match="there is no finished population of mlp-16 on digits"):
        find_targets(data, "mlp-16")  # type: ignore[arg-type]
    assert not found(populations="0d")


@pytest.mark.parametrize("version", ["hyperforget/1", "hyperforget/2", ""])
def test_main_trains_a_population_anew_only_where_the_hypernetwork_is_gone_too(
    store: mlflow.MlflowClient, digits: Dataset, version: str
) -> None:
    main = Main(find_recipe("digits"), digits, "", ForgetSpec.of([7], TEN), Gates(), Path("out"), device="cpu")
    population = a_population(10)
    assert main._serves(population)
    purge(population)
    population = store.get_run(population.info.run_id)
    if version:
        registered("hyperforget", **DIGITS.tags)
        with step_run("hypernet", main._hypernet(population).fingerprint, {}):
            mlflow.set_tag(VERSION, version)
    assert main._serves(population) == (version == "hyperforget/1")


# versions


def superseded(**ages: str) -> list[str]:
    return [what.partition(", ")[0] for kind, what, _ in found(1, **{"classifiers": "0d", "hypernetworks": "0d", **ages})]


def test_versions_whose_place_another_has_taken_go_and_what_serves_or_is_the_newest_stays(store: mlflow.MlflowClient) -> None:
    first, second, third = (a_classifier() for _ in range(3))
    a_classifier("3")
    assert superseded() == ["hyperforget-classifier/1 (forget 7)", "hyperforget-classifier/2 (forget 7)"]
    store.set_registered_model_alias(first.name, "forget-7", first.version)  # rolled back
    assert superseded() == ["hyperforget-classifier/2 (forget 7)"]
    store.set_registered_model_alias(second.name, "eu", second.version)
    assert superseded() == []
    store.delete_registered_model_alias(second.name, "eu")
    store.set_registered_model_alias(first.name, "forget-7", third.version)
    said = deleted(classifiers="0d")
    assert numbers() == [3, 4] and aliases() == {"forget-7": "3", "forget-3": "4"}
    assert said.count("deleted: ") == 2 and not found(1, **dict.fromkeys(KINDS, "0d"))
    for gone in (first, second):
        assert not list(Path(storage.place_of(third)).parents[1].glob(f"{gone.source.removeprefix('models:/')}/artifacts"))
        with pytest.raises(MlflowException, match="not found"):
            store.get_logged_model(gone.source.removeprefix("models:/"))
    mlflow.pyfunc.load_model(f"models:/{third.name}/{third.version}")


def test_a_hypernetwork_is_superseded_by_what_was_champion_after_it_and_its_classifiers_still_tell_of_it(
    store: mlflow.MlflowClient,
) -> None:
    registered("hyperforget", **DIGITS.tags, **{STANDING: CHAMPION})
    challenger = registered("hyperforget", CHALLENGER, **DIGITS.tags, **{STANDING: CHALLENGER})
    sampled = a_classifier("7", **{SAMPLED_FROM: "hyperforget/1"})
    store.set_registered_model_alias("hyperforget", "old", 1)
    store.delete_registered_model_alias("hyperforget", "champion")
    store.delete_registered_model_alias("hyperforget", "old")
    assert superseded() == []  # by a challenger nothing is
    make_champion(challenger)
    store.set_model_version_tag("hyperforget", "2", "hf_mlops.champion_since", "2100-01-01T00:00:00+00:00")
    assert superseded() == []  # it has served until then
    store.delete_model_version_tag("hyperforget", "2", "hf_mlops.champion_since")
    assert superseded() == ["hyperforget/1"]
    deleted(hypernetworks="0d")
    assert numbers("hyperforget") == [2] and lineage(find_version("hyperforget-classifier/1")) == lineage(sampled)
    assert lineage(sampled).hypernetwork == "hyperforget/1"


def test_files_that_a_copy_under_an_alias_has_stay_and_copies_go_together(store: mlflow.MlflowClient) -> None:
    first = a_classifier()
    copied = store.copy_model_version("models:/hyperforget-classifier/1", "production")
    store.set_registered_model_alias("production", "live", copied.version)
    again = a_classifier()
    assert superseded() == []
    newer = store.copy_model_version("models:/hyperforget-classifier/2", "production")
    store.set_registered_model_alias("production", "live", newer.version)
    assert superseded() == ["hyperforget-classifier/1 and production/1 (forget 7)"]
    place = Path(storage.place_of(first))
    deleted(classifiers="0d")
    assert numbers() == numbers("production") == [2] and not place.exists() and Path(storage.place_of(again)).exists()


def test_the_record_of_what_was_withdrawn_stays_unless_it_is_asked_for(store: mlflow.MlflowClient) -> None:
    withdraw(a_classifier(**{WEIGHTS: "w"}), "poisoned")
    a_classifier()
    assert KINDS["withdrawn"][0] == "never" and superseded() == []
    assert superseded(withdrawn="2d") == [] and superseded(withdrawn="1d") == ["hyperforget-classifier/1 (forget 7)"]
    deleted(withdrawn="0d")
    assert numbers() == [2]


def test_what_others_have_registered_and_what_a_request_samples_from_stays(store: mlflow.MlflowClient) -> None:
    for _ in range(2):
        registered("another", "live")
        registered("hyperforget", **DIGITS.tags)
    with open_run("forget"):
        mlflow.set_tag(HYPERNETWORK, "hyperforget/1")
        assert superseded() == []
    assert superseded() == ["hyperforget/1"]


def test_a_copy_that_export_has_left_in_the_store_goes_with_its_classifier(store: mlflow.MlflowClient) -> None:
    for _ in range(2):
        a_classifier()
    with step_run("export", "e", {"classifier": "hyperforget-classifier/1"}) as export:
        mlflow.log_text("weights", "classifier.onnx")
        mlflow.log_text("{}", "audit.json")
    deleted(classifiers="0d")
    assert [file.path for file in store.list_artifacts(export.info.run_id)] == ["audit.json"]


# logged models and runs


def test_logged_models_that_no_version_refers_to_go_but_not_while_their_run_is_at_work(store: mlflow.MlflowClient) -> None:
    def log(name: str) -> str:
        return mlflow.pyfunc.log_model(name=name, python_model=least_model.__file__, pip_requirements=[]).model_id

    with step_run("forget", "f", {}):
        orphan = log("hyperforget-classifier")
    with step_run("forget", "f", {}):
        registered_one = log("hyperforget-classifier")
        store.create_registered_model("hyperforget-classifier")
        store.create_model_version("hyperforget-classifier", f"models:/{registered_one}")
    with mlflow.start_run():
        of_others = log("model")
    with step_run("forget", "f", {}):
        in_the_making = log("hyperforget")
        assert [(kind, what.split()[3]) for kind, what, _ in found(1, models="0d")] == [("models", orphan)]
    assert len(found(1, models="0d")) == 2 and not found(1, models="2d")
    said = deleted(models="0d")
    experiment = store.get_experiment_by_name("test").experiment_id
    assert {one.model_id for one in store.search_logged_models([experiment])} == {registered_one, of_others}
    assert orphan in said and in_the_making in said and not found(99, trash="0d")


def runs_left(store: mlflow.MlflowClient) -> set[str]:
    experiments = [one.experiment_id for one in store.search_experiments(view_type=ViewType.ALL)]
    return {one.info.run_id for one in store.search_runs(experiments, run_view_type=ViewType.ALL)}


def test_runs_that_failed_go_for_good_and_those_of_requests_stay(store: mlflow.MlflowClient) -> None:
    failed, request = a_run_that_failed("evaluate"), a_run_that_failed("forget")
    with step_run("evaluate", "e", {}) as finished, step_run("targets", "t", {}) as of_it:
        assert {what.split()[3].strip(",") for _, what, _ in found(1, failed="0d")} == {failed}
    with pytest.raises(RuntimeError), mlflow.start_run() as of_others:
        raise RuntimeError
    files = Path(store.get_run(failed).info.artifact_uri)
    assert files.exists() and row(deleted(failed="0d"), "failed") == ["0d", "1", "0.5"]
    assert runs_left(store) == {request, finished.info.run_id, of_it.info.run_id, of_others.info.run_id}
    assert not files.exists() and not found(1, failed="0d")


def test_a_run_that_has_made_what_serves_stays_though_it_was_killed(store: mlflow.MlflowClient) -> None:
    version = a_classifier()
    store.set_tag(version.run_id, "hf_mlops.step", "hypernet")
    store.update_run(version.run_id, "KILLED")
    assert not found(1, failed="0d")
    store.delete_registered_model_alias("hyperforget-classifier", "forget-7")
    assert len(found(1, failed="0d")) == 1


def test_a_request_is_kept_for_ever_unless_its_evidence_or_its_row_is_given_an_age(store: mlflow.MlflowClient) -> None:
    refused = a_run_that_failed("forget")
    store.set_tag(refused, SPEC, "7")
    serving = a_classifier()
    store.set_tag(serving.run_id, "hf_mlops.step", "forget")
    assert KINDS["evidence"][0] == KINDS["requests"][0] == "never"
    assert row(deleted(evidence="0d"), "evidence") == ["0d", "1", "0.5"] and not store.list_artifacts(refused)
    assert not found(1, evidence="0d") and set(request_log()["run"]) == {refused, serving.run_id}
    store.delete_run(refused)
    assert not found(1, trash="0d", failed="0d")  # its row is still in the log
    said = deleted(requests="0d")
    assert re.search(rf"deleted: the request of 2\S+ to forget '7', run {refused} ", said)
    assert request_log()["run"].tolist() == [serving.run_id]


def test_the_trash_is_emptied_of_this_packages_runs_alone(store: mlflow.MlflowClient) -> None:
    mine, request = a_run_that_failed("targets"), a_run_that_failed("forget")
    with mlflow.start_run() as of_others:
        pass
    other = store.create_experiment("another")
    store.create_run(other)
    for gone in (mine, request, of_others.info.run_id):
        store.delete_run(gone)
    store.delete_experiment(other)  # `mlflow gc --run-ids …` would take it, and its runs
    before = runs_left(store)
    assert not found(1, trash="1d") and f"deleted: the targets run {mine}, in the trash (0.5 MB)" in deleted(trash="0d")
    assert runs_left(store) == before - {mine} and store.get_experiment(other).lifecycle_stage == "deleted"
    assert set(request_log()["run"]) == {request}
