"""What the entry points do: what decides each step's result, what they refuse, what `main` re-uses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
import torch
from mlflow.entities import Run, RunData, RunInfo
from mlflow.entities.model_registry import ModelVersion, ModelVersionTag

from hf_mlops import Dataset, ForgetSpec, Gates, HypernetConfig, Hypernetwork, PopulationConfig, Reference, Target, load_dataset
from hf_mlops.export.weights import to_onnx
from hf_mlops.hypernet.recipes import find_recipe
from hf_mlops.registry.models import Champion
from hf_mlops.registry.names import ARCHITECTURE, DATA_DIGEST, STEP
from hf_mlops.registry.runs import find_run, fingerprint_of, step_run
from hf_mlops.serving.classifier import OnnxClassifier
from hf_mlops.steps import export
from hf_mlops.steps.data import trained_on
from hf_mlops.steps.evaluate import Evaluate
from hf_mlops.steps.export import Export
from hf_mlops.steps.forget import Forget, Sampling
from hf_mlops.steps.hypernet import Hypernet
from hf_mlops.steps.main import Main, once
from hf_mlops.steps.step import Step
from hf_mlops.steps.targets import Targets, find_targets

GATES = Gates()
TEN = [str(digit) for digit in range(10)]
A_TEMPLATE = OnnxClassifier(onnx.ModelProto())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mlflow.MlflowClient]:
    """A fresh MLflow store of this module's own."""
    folder, before = tmp_path_factory.mktemp("store"), mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("test", artifact_location=str(folder / "artifacts")))
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(before)


def a_run(run_id: str) -> Run:
    return Run(RunInfo(run_id, "0", "user", "FINISHED", 0, 0, "active"), RunData())


def a_version(name: str = "hyperforget", run_id: str = "r1", tags: dict[str, str] | None = None) -> ModelVersion:
    return ModelVersion(name, "3", 0, run_id=run_id, tags=[ModelVersionTag(*tag) for tag in (tags or {}).items()])


def a_champion(run_id: str = "r1") -> Champion:
    """One whose networks are not looked at."""
    return Champion(Hypernetwork.__new__(Hypernetwork), Reference.__new__(Reference), A_TEMPLATE, a_version(run_id=run_id))


def moved_on(dataset: Dataset) -> Dataset:
    """The same data set with another content."""
    return replace(dataset, class_names=tuple("abcdefghij"))


def test_every_input_of_targets_counts_but_not_where_the_data_lie(digits: Dataset) -> None:
    step = Targets(PopulationConfig(), digits, "cpu")
    others = [
        replace(step, config=PopulationConfig(runs=7)),
        replace(step, config=PopulationConfig(seed=1)),
        replace(step, dataset=moved_on(digits)),
    ]
    assert len({step.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert replace(step, dataset=replace(digits, name="elsewhere")).fingerprint == step.fingerprint


def test_every_input_of_hypernet_counts(digits: Dataset) -> None:
    step = Hypernet(HypernetConfig(), GATES, a_run("t1"), digits, "cpu")
    others = [
        replace(step, config=HypernetConfig(width=64)),
        replace(step, gates=Gates(max_retain_gap=0.5)),
        replace(step, targets=a_run("t2")),
    ]
    assert len({step.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_every_input_of_evaluate_counts(digits: Dataset) -> None:
    step = Evaluate(a_champion(), digits)
    others = [
        replace(step, champion=a_champion("r2")),
        replace(step, dataset=moved_on(digits)),
        replace(step, n=8),
        replace(step, seed=1),
        replace(step, steps=5),
    ]
    assert len({step.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_every_input_of_forget_counts(digits: Dataset) -> None:
    step = Forget(a_champion(), digits, ForgetSpec.of([7], TEN), GATES, Sampling())
    others = [
        replace(step, champion=a_champion("r2")),
        replace(step, dataset=moved_on(digits)),
        replace(step, spec=ForgetSpec.of([3, 5], TEN)),
        replace(step, gates=Gates(max_forget_accuracy=0.5)),
        replace(step, sampling=Sampling(seed=1)),
        replace(step, sampling=Sampling(forget_loss=3.0)),
        replace(step, sampling=Sampling(start="models:/a@b")),
        replace(step, sampling=Sampling(start="models:/a@b", start_time=0.5)),
    ]
    assert len({step.fingerprint, *(other.fingerprint for other in others)}) == 9


def test_a_start_time_counts_only_where_there_is_a_start() -> None:
    usual = {"n": 8, "seed": 0, "steps": 2, "retain_loss": None, "forget_loss": None}
    assert Sampling(start_time=0.5).params == usual
    assert Sampling(start="a.onnx", start_time=0.5).params == {**usual, "start": "a.onnx", "start_time": 0.5}


def test_export_is_known_by_the_classifier_and_the_folder() -> None:
    step = Export(a_version("hyperforget-classifier"), "7", Path("out"))
    assert step.fingerprint == fingerprint_of("export", {"classifier": "hyperforget-classifier/3", "output": "out"})


@pytest.mark.parametrize(
    ("config", "device", "message"),
    [
        (PopulationConfig(architecture="no_such_package:make"), "cpu", "does not import"),
        (PopulationConfig(scope="fc.*"), "cpu", "matches no parameter"),
        (PopulationConfig(), "tpu", "unknown device 'tpu'"),
    ],
)
def test_targets_that_cannot_be_trained_are_refused_before_main_has_a_run(
    store: mlflow.MlflowClient, digits: Dataset, config: PopulationConfig, device: str, message: str
) -> None:
    recipe = replace(find_recipe("digits"), population=config)
    main = Main(recipe, digits, "", ForgetSpec.of([7], TEN), GATES, Path("out"), device=device)
    with pytest.raises(ValueError, match=message):
        main.run()
    assert find_run("main", finished=False) is None


def test_fields_that_were_not_given_keep_the_recipes_value() -> None:
    recipe = find_recipe("mnist")
    given = recipe.given({"runs": 5, "scope": None}, {"train_steps": None, "width": 64}, seed=9)
    assert given.population == replace(recipe.population, runs=5, seed=9)
    assert given.hypernet == replace(recipe.hypernet, width=64, seed=9)


@dataclass(frozen=True)
class Counted(Step):
    """A step that counts how often it is run."""

    name = "counted"
    fingerprint = "f"
    runs: list[Run]

    def run(self) -> Run:
        with step_run(self.name, self.fingerprint, {}) as run:
            self.runs.append(run)
        return run


def test_main_does_a_step_once_and_again_when_its_result_is_no_longer_good(store: mlflow.MlflowClient) -> None:
    step = Counted([])
    with step_run("main", "", {}) as main:
        first = once(step)
        again = once(step)
        named = store.get_run(main.info.run_id).data.tags["hf_mlops.counted_run"]
        assert len(step.runs) == 1 and first.info.run_id == again.info.run_id == named
        seen: list[str] = []
        anew = once(step, lambda run: bool(seen.append(run.info.run_id)))
    assert len(step.runs) == 2 and anew.info.run_id != first.info.run_id and seen == [first.info.run_id]
    assert store.get_run(main.info.run_id).data.tags["hf_mlops.counted_run"] == anew.info.run_id


@pytest.fixture(scope="module")
def classifier(digits: Dataset) -> OnnxClassifier:
    target = Target.for_dataset("mlp-10", digits)
    return to_onnx(target, torch.zeros(target.size), ForgetSpec.of([7], TEN), digits.class_names)


@pytest.mark.parametrize("audited", ["this", "other"])
def test_export_writes_the_classifier_that_was_audited_and_no_other(
    store: mlflow.MlflowClient, classifier: OnnxClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, audited: str
) -> None:
    (tmp_path / "model.onnx").write_bytes(classifier.data)
    monkeypatch.setattr(export, "classifier_file", lambda version: tmp_path / "model.onnx")
    digest = classifier.digest if audited == "this" else "0" * 64
    step = Export(a_version("hyperforget-classifier", tags={"weights_sha256": digest, "seed": "4"}), "7", tmp_path / "out")
    if audited == "other":
        with pytest.raises(ValueError, match=f"hyperforget-classifier/3 is not what was audited: .* audited were {digest}"):
            step.run()
        assert not (tmp_path / "out").exists()
    else:
        step.run()
        folder = tmp_path / "out" / "forget-7"
        assert (folder / "classifier.onnx").read_bytes() == classifier.data
        assert json.loads((folder / "audit.json").read_text()) == {"version": 3, "weights_sha256": digest, "seed": "4"}


def test_a_population_is_found_by_the_data_it_was_trained_on_whatever_their_name(
    store: mlflow.MlflowClient, digits: Dataset
) -> None:
    tags = {STEP: "targets", DATA_DIGEST: digits.digest, ARCHITECTURE: "mlp-16"}
    with mlflow.start_run(tags=tags) as run:
        pass
    moved = replace(digits, name="folder:/it's here")
    assert find_targets(moved, "mlp-16").info.run_id == run.info.run_id
    assert find_targets(moved_on(digits), "mlp-10", run.info.run_id).info.run_id == run.info.run_id
    with pytest.raises(ValueError, match="no finished population of mlp-16 on digits"):
        find_targets(moved_on(digits), "mlp-16")


def test_a_hypernetwork_works_with_the_data_it_was_trained_on_by_its_name_or_where_it_has_moved(tmp_path: Path) -> None:
    images, labels = np.arange(96, dtype=np.uint8).reshape(6, 4, 4), np.repeat([0, 1], 3)
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    made_from = load_dataset(f"npz:{tmp_path}/own.npz").identity
    assert trained_on(made_from, "", "").name == f"npz:{tmp_path}/own.npz"
    (tmp_path / "own.npz").rename(tmp_path / "moved.npz")
    assert trained_on(made_from, f"npz:{tmp_path}/moved.npz", "").name == f"npz:{tmp_path}/moved.npz"
    with pytest.raises(ValueError, match=r"own.npz: there is no such file.* has it moved\? --dataset says where to"):
        trained_on(made_from, "", "")
    with pytest.raises(ValueError, match="made from the data set"):
        trained_on(made_from, "digits", "")
    with pytest.raises(
        ValueError, match=r"absent.npz: there is no such file; allowed: one that numpy.savez wrote$"
    ):  # who names a place is not asked for one
        trained_on(made_from, f"npz:{tmp_path}/absent.npz", "")
