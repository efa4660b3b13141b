"""Where a version comes from is told by its own tags, whatever has been deleted since."""

from __future__ import annotations

from dataclasses import replace

import mlflow
import pytest
import torch
from registering import DIGITS, a_champion, registered

from hf_mlops import Dataset, ForgetSpec, OnnxClassifier, Target, to_onnx
from hf_mlops.registry.lineage import Lineage, lineage
from hf_mlops.registry.models import Champion, register_classifier
from hf_mlops.registry.names import DATASET, TARGETS_RUN
from hf_mlops.registry.runs import step_run
from hf_mlops.registry.versions import delete, find_version, name_of

TEN = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def classifier(digits: Dataset) -> OnnxClassifier:
    target = Target.for_dataset("mlp-10", digits)
    return to_onnx(target, torch.zeros(target.size), ForgetSpec.of([7], TEN), TEN)


def a_registered_champion(**tags: str) -> Champion:
    """Registered, with no more of a hypernetwork than its subject."""
    return replace(a_champion(), version=registered("hyperforget", **DIGITS.tags, **tags))


def test_a_classifier_tells_its_hypernetwork_population_and_data_once_all_of_them_are_deleted(
    store: mlflow.MlflowClient, classifier: OnnxClassifier
) -> None:
    with step_run("targets", "t", {}) as targets:
        pass
    champion = a_registered_champion(**{TARGETS_RUN: targets.info.run_id})
    with mlflow.start_run():
        version = register_classifier(classifier, champion, ForgetSpec.of([7], TEN), {}, "Seven is gone.")
    trained = champion.version.run_id
    assert trained is not None
    delete(champion.version)
    for run_id in (targets.info.run_id, trained):
        store.delete_run(run_id)
    found = lineage(find_version(name_of(version)))
    assert found == Lineage("hyperforget-classifier/1", "hyperforget/1", trained, targets.info.run_id, "digits", "d1")
    copied = store.copy_model_version("models:/hyperforget-classifier/1", "production")
    assert lineage(copied) == replace(found, classifier="production/1")


def test_the_page_of_a_version_links_to_what_it_was_made_from(store: mlflow.MlflowClient, classifier: OnnxClassifier) -> None:
    champion = a_registered_champion(**{TARGETS_RUN: "0123456789"})
    with mlflow.start_run():
        version = register_classifier(classifier, champion, ForgetSpec.of([7], TEN), {}, "Seven is gone.")
    trained = champion.version.run_id or ""
    assert version.description == (
        "Seven is gone.\n\nSampled from [hyperforget/1](#/models/hyperforget/versions/1), which was trained by"
        f" [run {trained[:8]}](#/runs/{trained}) on the population of [run 01234567](#/runs/0123456789);"
        " data: digits, digest `d1`."
    )
    assert lineage(champion.version) == Lineage("", "hyperforget/1", trained, "0123456789", "digits", "d1")
    assert lineage(champion.version).in_markdown().startswith(f"Trained by [run {trained[:8]}](#/runs/{trained}) on the pop")


def test_what_tags_do_not_say_is_left_open(store: mlflow.MlflowClient) -> None:
    version = registered("hyperforget", **{DATASET: "digits"})
    found = lineage(version)
    assert (found.targets_run, found.dataset, found.data_digest) == ("", "digits", "")
    assert (
        found.in_markdown()
        == f"Trained by [run {found.hypernet_run[:8]}](#/runs/{found.hypernet_run}); data: digits, digest ``."
    )
