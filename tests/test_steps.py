"""What the entry points do: what decides each step's result, what they refuse, what `main` re-uses."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import by_hand
import mlflow
import numpy as np
import onnx
import pytest
import torch
from mlflow.entities import Run
from onnx import numpy_helper
from registering import a_champion, a_run, a_version
from safetensors.torch import save_file

from hf_mlops import Dataset, ForgetSpec, Gates, HypernetConfig, PopulationConfig, Reference, Target, load_dataset
from hf_mlops.base import source
from hf_mlops.base.artifact import sha256, write
from hf_mlops.base.errors import DamagedArtifact
from hf_mlops.export.weights import to_onnx
from hf_mlops.hypernet.recipes import find_recipe
from hf_mlops.population.outputs import Outputs
from hf_mlops.registry.names import ARCHITECTURE, DATA_DIGEST, FINGERPRINT, RESUMABLE, STEP, VERSION
from hf_mlops.registry.runs import BROKEN_OFF, find_run, find_runs, step_run
from hf_mlops.registry.sealed import seal
from hf_mlops.serving.classifier import OnnxClassifier
from hf_mlops.steps.data import trained_on
from hf_mlops.steps.evaluate import Evaluate
from hf_mlops.steps.export import Export
from hf_mlops.steps.forget import ON_DEMAND, Forget, Sampling
from hf_mlops.steps.hypernet import Checkpoints, Hypernet
from hf_mlops.steps.main import Main
from hf_mlops.steps.promote import Promote
from hf_mlops.steps.retrain import Retrain
from hf_mlops.steps.step import Step, made_by, once
from hf_mlops.steps.targets import Targets, find_targets

GATES = Gates()
TEN = [str(digit) for digit in range(10)]


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
        replace(step, gates=Gates(max_forget_gap=0.5)),
        replace(step, sampling=Sampling(seed=1)),
        replace(step, sampling=Sampling(forget_loss=3.0)),
        replace(step, retrained=2),
    ]
    assert len({step.fingerprint, *(other.fingerprint for other in others)}) == 8


def test_targets_are_retrained_for_a_union_that_could_not_be_judged_otherwise(digits: Dataset) -> None:
    """Where D_f is judged by training images of its own, and the reference has no target of the very spec."""
    forgotten = torch.eye(10).bool()[[7, 8]]
    answers = torch.zeros(2, 1, 10).log_softmax(-1)
    outputs = Outputs.of(answers, torch.zeros(1).long(), torch.zeros(1).long(), 10)
    reference = Reference(digits.groups, forgotten, outputs, torch.zeros(0, 2).long(), {})
    customers = replace(digits, groups=replace(digits.groups, held_out=(False,) * 10))
    step = Forget(replace(a_champion(), reference=reference), customers, ForgetSpec.of([7], TEN), GATES, Sampling())
    union = replace(step, spec=ForgetSpec.of([3, 5], TEN))
    assert [one.inputs["retrained"] for one in (step, union, replace(union, dataset=digits))] == [0, ON_DEMAND, 0]
    assert replace(union, retrained=2).inputs["retrained"] == 2


def a_retraining(dataset: Dataset) -> Retrain:
    target = Target.for_dataset("mlp-10", dataset)
    return Retrain(by_hand.reference([("a", "0 11 1111")]), target, dataset, ForgetSpec.of([7], TEN), 2, "cpu")


def test_every_input_of_retrain_counts_but_not_what_else_was_retrained(digits: Dataset) -> None:
    step = a_retraining(digits)
    others = [
        replace(step, reference=replace(step.reference, config={"train_steps": 7})),
        replace(step, target=Target.for_dataset("mlp-16", digits)),
        replace(step, dataset=moved_on(digits)),
        replace(step, spec=ForgetSpec.of([3, 5], TEN)),
        replace(step, n=3),
    ]
    assert len({step.fingerprint, *(other.fingerprint for other in others)}) == 6
    assert replace(step, reference=by_hand.reference([("b", "1 00 1111")])).fingerprint == step.fingerprint


def test_a_start_time_counts_only_where_there_is_a_start() -> None:
    usual = {"n": 8, "seed": 0, "steps": 2, "retain_loss": None, "forget_loss": None}
    assert Sampling(start_time=0.5).params == usual
    assert Sampling(start="a.onnx", start_time=0.5).params == {**usual, "start": "a.onnx", "start_time": 0.5}


def test_export_is_known_by_the_classifier_and_the_folder() -> None:
    step = Export(a_version("hyperforget-classifier"), Path("out"))
    others = [replace(step, version=a_version("another")), replace(step, output=Path("elsewhere"))]
    assert len({step.fingerprint, *(other.fingerprint for other in others)}) == 3


STEPS = {
    "targets": lambda data: Targets(PopulationConfig(), data, "cpu"),
    "hypernet": lambda data: Hypernet(HypernetConfig(), GATES, a_run("t1"), data, "cpu"),
    "evaluate": lambda data: Evaluate(a_champion(), data),
    "forget": lambda data: Forget(a_champion(), data, ForgetSpec.of([7], TEN), GATES, Sampling()),
    "export": lambda data: Export(a_version("hyperforget-classifier"), Path("out")),
    "retrain": a_retraining,
    "promote": lambda data: Promote(a_champion(), a_champion("r2"), data, GATES),
}
ALL = set(STEPS)
CODE_OF = {  # the steps whose results an edit of a file may change
    "base/spec.py": ALL,
    "serving/classifier.py": ALL,
    "base/ridge.py": ALL,
    "data/splitting.py": ALL - {"export"},
    "population/chunk.py": ALL - {"export"},
    "hypernet/denoiser.py": ALL - {"export", "targets"},
    "audit/gates.py": ALL - {"export", "targets"},
    "export/weights.py": ALL - {"export", "targets"},
    "report/pictures.py": set(),
    "report/backdoor.py": set(),
    "registry/runs.py": set(),
    "registry/models.py": {"forget"},
    "registry/hypernetworks.py": {"hypernet"},
    "registry/request_log.py": set(),
    "registry/pyfunc.py": {"hypernet"},
    "steps/step.py": ALL,
    "steps/card.py": {"hypernet"},
    "steps/main.py": set(),
    "steps/requests.py": set(),
    "steps/poison_demo.py": set(),
    **{f"steps/{name}.py": {name} for name in STEPS},
    "steps/retrain.py": {"retrain", "forget"},
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package's source, to edit."""
    shutil.copytree(source.PACKAGE, tmp_path / "hf_mlops", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(source, "PACKAGE", tmp_path / "hf_mlops")
    source.source_digest.cache_clear()
    yield tmp_path / "hf_mlops"
    source.source_digest.cache_clear()


@pytest.mark.parametrize("file", CODE_OF)
def test_an_edit_counts_for_the_steps_whose_results_it_may_change_and_for_no_other(
    file: str, package: Path, digits: Dataset
) -> None:
    before = {name: make(digits).fingerprint for name, make in STEPS.items()}
    with (package / file).open("a") as text:
        text.write("# a comment\n")
    source.source_digest.cache_clear()
    assert {name for name, make in STEPS.items() if make(digits).fingerprint != before[name]} == CODE_OF[file]


@pytest.mark.parametrize("library", source.LIBRARIES)
def test_another_version_of_a_library_counts_for_every_step(
    library: str, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {make(digits).fingerprint for make in STEPS.values()}
    installed = source.version
    monkeypatch.setattr(source, "version", lambda name: "0.1" if name == library else installed(name))
    assert before.isdisjoint(make(digits).fingerprint for make in STEPS.values())


def test_the_start_weights_count_not_only_where_they_are(digits: Dataset, tmp_path: Path) -> None:
    target, file, fingerprints = Target.for_dataset("mlp-10", digits), tmp_path / "start.safetensors", []
    for value in (0.0, 1.0):
        save_file({name: tensor.clone() for name, tensor in target.unflatten(torch.full((target.size,), value)).items()}, file)
        spec = ForgetSpec.of([7], TEN)
        step = Forget(a_champion(), digits, spec, GATES, Sampling(start=str(file)))
        vars(step)["_hypernetwork"] = SimpleNamespace(target=target)
        fingerprints.append(step.fingerprint)
    assert fingerprints[0] != fingerprints[1]


def a_checkpoint(folder: Path, value: float) -> None:
    folder.mkdir()
    write(folder, "training", {"weights": np.full(3, value)}, {"step": 5})


@pytest.mark.parametrize("whole", [True, False])
def test_a_checkpoint_is_this_runs_own_before_it_is_deleted_where_it_was(
    client: mlflow.MlflowClient, tmp_path: Path, whole: bool
) -> None:
    with pytest.raises(KeyboardInterrupt), step_run("hypernet", "c", {}) as broken_off:
        a_checkpoint(tmp_path / "left", 1.0)
        if not whole:
            (tmp_path / "left" / "training.safetensors").write_bytes(b"cut")
        Checkpoints(tmp_path / "left", broken_off, None).keep(5)
        raise KeyboardInterrupt
    found = find_run("hypernet", "c", {RESUMABLE: "true"}, BROKEN_OFF)
    assert found is not None
    with step_run("hypernet", "c", {}) as active:
        checkpoints = Checkpoints(tmp_path / "taken", active, found)
        checkpoints.go_on()
        assert (tmp_path / "taken").exists() == whole
        assert client.get_run(active.info.run_id).data.tags.get(RESUMABLE) == ("true" if whole else None)
        assert client.get_run(found.info.run_id).data.tags[RESUMABLE] == "false"
        assert not client.list_artifacts(found.info.run_id, "checkpoints")
        assert bool(client.list_artifacts(active.info.run_id, "checkpoints")) == whole
        checkpoints.drop()
    assert not client.list_artifacts(active.info.run_id, "checkpoints")


@pytest.mark.parametrize(
    ("config", "device", "message"),
    [
        (PopulationConfig(architecture="no_such_package:make"), "cpu", "does not import"),
        (PopulationConfig(scope="fc.*"), "cpu", "matches no parameter"),
        (PopulationConfig(), "tpu", "unknown device 'tpu'"),
    ],
)
def test_targets_that_cannot_be_trained_are_refused_before_main_has_a_run(
    client: mlflow.MlflowClient, digits: Dataset, config: PopulationConfig, device: str, message: str
) -> None:
    recipe = replace(find_recipe("digits"), population=config)
    main = Main(recipe, digits, "", ForgetSpec.of([7], TEN), GATES, Path("out"), device=device)
    with pytest.raises(ValueError, match=message):
        main.run()
    assert find_run("main", statuses=BROKEN_OFF) is None


def test_fields_that_were_not_given_keep_the_recipes_value() -> None:
    recipe = find_recipe("mnist")
    given = recipe.given({"runs": 5, "scope": None}, {"train_steps": None, "width": 64}, seed=9)
    assert given.population == replace(recipe.population, runs=5, seed=9)
    assert given.hypernet == replace(recipe.hypernet, width=64, seed=9)


@dataclass(frozen=True)
class Counted(Step):
    """A step that counts how often it is run."""

    name = "counted"
    room = "base"
    fingerprint = "f"  # type: ignore[assignment]
    runs: list[Run]

    @property
    def inputs(self) -> dict[str, object]:
        return {}

    def run(self) -> Run:
        with step_run(self.name, self.fingerprint, {}) as run:
            self.runs.append(run)
        return run


def test_main_does_a_step_once_and_again_when_its_result_is_no_longer_good(client: mlflow.MlflowClient) -> None:
    step = Counted([])
    with step_run("main", "", {}) as main:
        first = once(step)
        again = once(step)
        named = client.get_run(main.info.run_id).data.tags["hf_mlops.counted_run"]
        assert len(step.runs) == 1 and first.info.run_id == again.info.run_id == named
        seen: list[str] = []
        anew = once(step, lambda run: bool(seen.append(run.info.run_id)))
    assert len(step.runs) == 2 and anew.info.run_id != first.info.run_id and seen == [first.info.run_id]
    assert client.get_run(main.info.run_id).data.tags["hf_mlops.counted_run"] == anew.info.run_id


def test_of_finished_runs_the_one_whose_version_is_the_newest_is_used_and_an_older_one_if_that_is_no_longer_good(
    client: mlflow.MlflowClient,
) -> None:
    """By number: the clock may have been moved back between them."""
    for number, began in ((9, 3), (10, 1), (2, 2)):
        tags = {STEP: "counted", FINGERPRINT: "by number", VERSION: f"hyperforget/{number}"}
        run = client.create_run(client.get_experiment_by_name("test").experiment_id, began, tags)
        client.set_terminated(run.info.run_id)
    found = find_runs("counted", "by number")
    assert [run.data.tags[VERSION] for run in found] == ["hyperforget/10", "hyperforget/9", "hyperforget/2"]
    latest = find_run("counted", "by number")
    assert latest is not None and latest.info.run_id == found[0].info.run_id
    step: Any = SimpleNamespace(name="counted", fingerprint="by number")
    with step_run("main", "", {}):
        assert once(step, lambda run: run.data.tags[VERSION] != "hyperforget/10").info.run_id == found[1].info.run_id


@pytest.mark.parametrize("said", [["--requester", "Ada, 4711"], ["--requester=Ada, 4711"]])
def test_the_command_of_a_version_does_not_say_who_asked(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/a/forget.py", "--forget", "7", *said, "--seed", "1"])
    command = made_by(Counted([]))["command"]
    assert command.startswith("forget.py --forget 7 --requester") and command.endswith("... --seed 1") and "Ada" not in command


@pytest.fixture(scope="module")
def classifier(digits: Dataset) -> OnnxClassifier:
    target = Target.for_dataset("mlp-10", digits)
    return to_onnx(target, torch.zeros(target.size), ForgetSpec.of([7], TEN), digits.class_names)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (None, ""),
        ({"weights_sha256": "0" * 64}, "its weights_sha256 is .*, audited was 0000"),
        ({"file_sha256": "0" * 64}, "its file_sha256 is .*, audited was 0000"),
        ({"forget": "3"}, "its forget is 7, audited was 3"),
    ],
)
def test_export_writes_the_classifier_that_was_audited_and_no_other(
    client: mlflow.MlflowClient,
    classifier: OnnxClassifier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    edit: dict[str, str] | None,
    message: str,
) -> None:
    (tmp_path / "model.onnx").write_bytes(classifier.data)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", lambda uri: str(tmp_path))
    tags = {"forget": "7", "weights_sha256": classifier.digest, "file_sha256": sha256(classifier.data), **(edit or {})}
    tags["files_sha256"] = seal(tmp_path)
    step = Export(a_version("hyperforget-classifier", tags=tags), tmp_path / "out")
    if edit:
        with pytest.raises(DamagedArtifact, match=f"models:/hyperforget-classifier/3 is not what was audited: {message}"):
            step.run()
        assert not (tmp_path / "out").exists()
    else:
        step.run()
        folder = tmp_path / "out" / "forget-7"
        assert (folder / "classifier.onnx").read_bytes() == classifier.data
        audit = json.loads((folder / "audit.json").read_text())
        assert audit == {"name": "hyperforget-classifier", "version": 3, **tags}


@pytest.mark.parametrize("change", ["a shifted mean", "another operator"])
def test_a_file_whose_parameters_are_right_and_whose_answers_are_not_is_not_what_was_audited(
    client: mlflow.MlflowClient, classifier: OnnxClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    model = onnx.load_from_string(classifier.data)
    if change == "a shifted mean":
        (mean,) = (tensor for tensor in model.graph.initializer if "mean" in tensor.name)
        mean.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(mean) + 0.5, mean.name))
    else:
        model.graph.node[-1].output[0] = "before"
        model.graph.node.append(onnx.helper.make_node("Neg", ["before"], ["logits"]))
    altered = OnnxClassifier(model)
    assert altered.digest == classifier.digest
    (tmp_path / "model.onnx").write_bytes(altered.data)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", lambda uri: str(tmp_path))
    tags = {"forget": "7", "weights_sha256": classifier.digest, "file_sha256": sha256(classifier.data)}
    tags["files_sha256"] = seal(tmp_path)
    with pytest.raises(DamagedArtifact, match="its file_sha256 is"):
        Export(a_version("hyperforget-classifier", tags=tags), tmp_path / "out").run()


def test_a_population_is_found_by_the_data_it_was_trained_on_whatever_their_name(
    client: mlflow.MlflowClient, digits: Dataset
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
    assert trained_on(made_from, "", "", "").name == f"npz:{tmp_path}/own.npz"
    (tmp_path / "own.npz").rename(tmp_path / "moved.npz")
    assert trained_on(made_from, f"npz:{tmp_path}/moved.npz", "", "").name == f"npz:{tmp_path}/moved.npz"
    with pytest.raises(
        ValueError, match=r"own.npz: there is no such file.* has it moved\? --dataset and --groups say where to"
    ):
        trained_on(made_from, "", "", "")
    with pytest.raises(ValueError, match="made from the data set"):
        trained_on(made_from, "digits", "", "")
    with pytest.raises(
        ValueError, match=r"absent.npz: there is no such file; allowed: one that numpy.savez wrote$"
    ):  # who names a place is not asked for one
        trained_on(made_from, f"npz:{tmp_path}/absent.npz", "", "")


def test_a_file_of_groups_that_has_moved_is_named_anew(tmp_path: Path) -> None:
    images, labels = np.arange(192, dtype=np.uint8).reshape(12, 4, 4), np.repeat([0, 1], 6)
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    rows = [f"{index},{'early' if index % 6 < 3 else 'late'}" for index in range(12)]
    (tmp_path / "who.csv").write_text("\n".join(["index,group", *rows]))
    made_from = load_dataset(f"npz:{tmp_path}/own.npz", groups=f"{tmp_path}/who.csv").identity
    assert trained_on(made_from, "", "", "").groups.names == ("early", "late")
    (tmp_path / "who.csv").rename(tmp_path / "moved.csv")
    with pytest.raises(ValueError, match=r"who.csv.* has it moved\? --dataset and --groups say where to"):
        trained_on(made_from, "", "", "")
    assert trained_on(made_from, "", "", f"{tmp_path}/moved.csv").digest == made_from["digest"]
    with pytest.raises(ValueError, match="made from the data set"):
        trained_on(made_from, "", "", "class")
