"""The registered models: what `predict` answers, what it refuses, and that nothing is left half-registered."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from asking import ask
from commands import store_in
from mlflow.exceptions import MlflowException
from safetensors.torch import load

from hf_mlops import Dataset, ForgetSpec, Hypernetwork, OnnxClassifier, Reference, load_dataset, to_onnx
from hf_mlops.base.artifact import sha256
from hf_mlops.base.errors import DamagedArtifact, OutOfReach
from hf_mlops.export.weights import verify
from hf_mlops.registry.hypernetworks import in_torch, load_start, register_hypernetwork
from hf_mlops.registry.models import find_classifier, load_champion, register_classifier

SUBJECT = {
    "hf_mlops.dataset": "digits",
    "hf_mlops.data_digest": load_dataset("digits").digest,
    "hf_mlops.architecture": "mlp-16",
    "hf_mlops.scope": "*",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh MLflow store of this module's own."""
    folder = tmp_path_factory.mktemp("store")
    with store_in(folder):
        yield folder


@pytest.fixture(scope="module")
def champion(store: Path, hypernetwork: Hypernetwork, reference: Reference) -> Any:
    with mlflow.start_run():
        version = register_hypernetwork(
            hypernetwork, reference, list("0123456789"), store / "model", {"variant": "dihyfo-1"}, "A test."
        )
    assert version.version == 1
    return mlflow.pyfunc.load_model("models:/hyperforget@champion")


def predict(champion: Any, *specs: str, **params: object) -> pd.DataFrame:
    return champion.predict(pd.DataFrame({"forget": list(specs)}), params=params)


def asked(*specs: object, **params: object) -> dict[str, object]:
    """A JSON request for samples."""
    return {"dataframe_split": {"columns": ["forget"], "data": [[spec] for spec in specs]}, "params": params}


def test_predict_gives_one_row_per_sample(champion: Any, hypernetwork: Hypernetwork) -> None:
    table = predict(champion, "7", "3,5", "", n_samples=2, seed=5)
    assert list(table.columns) == ["forget", "sample", "seed", "retain_loss", "forget_loss", "weights", "onnx"]
    assert list(table["forget"]) == ["7", "7", "3,5", "3,5", "", ""]
    assert list(table["sample"]) == [0, 1] * 3
    assert list(table["seed"]) == [5, 6] * 3
    assert table["forget_loss"].isna().tolist() == [False] * 4 + [True] * 2
    state = load(table["weights"][0])
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == hypernetwork.target.shapes
    in_torch = hypernetwork.sample("7", 2, seed=5).weights[0]
    torch.testing.assert_close(hypernetwork.target.flatten(state), in_torch, rtol=0, atol=1e-4)
    assert table["onnx"].isna().all()


def test_predict_gives_the_finished_classifier_if_asked(champion: Any, digits: Dataset) -> None:
    weights, finished = (predict(champion, "7", seed=5, output=output) for output in ("weights", "onnx"))
    assert finished["weights"][0] is None
    classifier = OnnxClassifier.parse(finished["onnx"][0], "the answer")
    classifier.check()
    assert classifier.metadata["forget"] == "7" and json.loads(classifier.metadata["class_names"]) == list("0123456789")
    for name, tensor in load(weights["weights"][0]).items():
        assert np.array_equal(classifier.initialisers[f"network.{name}"], tensor.numpy())
    images = digits.test.images.numpy()
    assert (classifier.logits(images).argmax(1) != 7).mean() > 0.99


def test_each_row_may_have_options_of_its_own(champion: Any) -> None:
    frame = pd.DataFrame({"forget": ["7", "3", ""], "seed": [4, None, 9], "output": ["onnx", None, "weights"]})
    table = champion.predict(frame, params={"n_samples": 2, "seed": 1})
    assert table["seed"].tolist() == [4, 5, 1, 2, 9, 10]
    assert table["onnx"].isna().tolist() == [False, False, True, True, True, True]
    assert table["weights"][2:4].tolist() == predict(champion, "3", n_samples=2, seed=1)["weights"].tolist()
    status, rows = ask(champion, {"dataframe_records": [{"forget": "7", "seed": 4, "n_samples": 2}]})
    assert status == 200 and [row["seed"] for row in rows] == [4, 5]


def test_a_rows_samples_do_not_depend_on_its_neighbours(champion: Any) -> None:
    among, alone = predict(champion, "1", "7", "3,5", n_samples=3), predict(champion, "7", n_samples=3)
    assert list(among["weights"][3:6]) == list(alone["weights"])


def test_prompts_are_params(champion: Any) -> None:
    table = predict(champion, "7", retain_loss=0.5, forget_loss=6.0)
    assert table["retain_loss"][0] == pytest.approx(0.5, rel=1e-3)
    assert table["forget_loss"][0] == pytest.approx(6.0, rel=1e-3)


def test_a_loss_on_nothing_is_null_in_the_answer(champion: Any) -> None:
    status, (seven, nothing) = ask(champion, asked("7", ""))
    assert status == 200 and nothing["forget"] == "" and nothing["forget_loss"] is None
    assert seven["forget_loss"] > 1 and seven["retain_loss"] > 0 and nothing["retain_loss"] > 0
    assert predict(champion, "7", "")["forget_loss"][1] is None
    assert predict(champion, "7")["forget_loss"].dtype == predict(champion, "7")["retain_loss"].dtype == "float64"


@pytest.mark.parametrize(
    "body", [asked(), {"dataframe_records": []}, {"inputs": []}, {"inputs": {"forget": []}}, {"instances": []}]
)
def test_no_rows_are_answered_with_no_rows(champion: Any, body: dict[str, object]) -> None:
    assert ask(champion, body) == (200, [])


def test_the_answer_to_no_rows_has_the_columns_of_every_answer(champion: Any) -> None:
    none, some = champion.predict(pd.DataFrame(columns=["forget"])), predict(champion, "7")
    assert len(none) == 0 and none.dtypes.to_dict() == some.dtypes.to_dict()
    assert [str(none.dtypes[name]) for name in ("sample", "seed", "retain_loss", "forget_loss")] == ["int64"] * 2 + [
        "float64"
    ] * 2


@pytest.mark.parametrize(
    "data",
    [
        {"forget": ["7", "3,5"]},
        ["7", "3,5"],
        [{"forget": "7"}, {"forget": "3,5"}],
        np.array(["7", "3,5"]),
        pd.Series(["7", "3,5"]),
        pd.DataFrame({"customer": [1, 2], "forget": ["7", "3,5"]}),
    ],
)
def test_rows_come_in_every_form_that_a_pyfunc_takes(champion: Any, data: Any) -> None:
    table = champion.predict(data, params={"n_samples": 2.0, "seed": 2.0**40})
    assert table["forget"].tolist() == ["7", "7", "3,5", "3,5"] and table["seed"].tolist() == [2**40, 2**40 + 1] * 2


@pytest.mark.parametrize(
    "body", [{"inputs": ["7"]}, {"inputs": {"forget": ["7"]}}, {"instances": [{"forget": "7"}]}, {"inputs": "7"}]
)
def test_rows_come_in_every_form_that_the_server_takes(champion: Any, body: dict[str, Any]) -> None:
    status, rows = ask(champion, {**body, "params": {"seed": 2**60 + 1}})
    assert (status, [(row["forget"], row["seed"]) for row in rows]) == (200, [("7", 2**60 + 1)])


@pytest.mark.parametrize("params", [None, dict.fromkeys(("n_samples", "seed", "steps", "retain_loss", "forget_loss"))])
def test_null_parameters_are_absent_ones(champion: Any, params: dict[str, None] | None) -> None:
    assert ask(champion, {**asked("7"), "params": params}) == ask(champion, asked("7", n_samples=1, seed=0, steps=2))


def test_sample_i_of_a_seed_is_sample_0_of_that_many_seeds_later(champion: Any) -> None:
    table = predict(champion, "7", n_samples=20, seed=5, steps=1)
    assert table["sample"].tolist() == list(range(20)) and table["seed"].tolist() == list(range(5, 25))
    for index in (0, 7, 19):
        assert table["weights"][index] == predict(champion, "7", seed=5 + index, steps=1)["weights"][0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (asked("7", n_sample=3), "unknown parameter 'n_sample'; allowed: n_samples, seed, steps, retain_loss, forget_loss"),
        (asked("7", "11", "3", "seven"), "2 of 4 rows cannot be answered: row 1: unknown group '11'"),
        (asked("7", "", forget_loss=123.4), "row 1: forget_loss = 123.4 was asked for, but the forget spec '' forgets nothing"),
        (asked("7", 7), "row 1: a forget spec is text, got 7 of type int"),
        (asked("7", n_samples=1001), "rows = 1 with 1001 samples: 2002 denoising steps are not allowed"),
        (asked(*["7"] * 1001), "rows = 1001 with 1001 samples: 2002 denoising steps are not allowed"),
        (asked("7", seed=-1), "seed = -1 is not allowed"),
        (asked("7", seed=0.5), "seed = 0.5 is not allowed"),
    ],
)
def test_a_bad_request_is_answered_with_400_by_row_name_and_value(champion: Any, body: dict[str, Any], message: str) -> None:
    status, text = ask(champion, body)
    assert status == 400 and message in text


@pytest.mark.parametrize("fault", [TypeError, ValueError, KeyError, DamagedArtifact, OutOfReach, MemoryError])
def test_a_fault_of_the_program_is_no_bad_request(
    champion: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: type[Exception]
) -> None:
    def broken(*arguments: object) -> None:
        raise fault("7 is not a number")

    monkeypatch.setattr(champion.unwrap_python_model(), "sampler", SimpleNamespace(sample=broken))
    status, text = ask(champion, asked("7"))
    assert status == 500 and f"{fault.__name__} inside hf_mlops: " in text
    assert "in broken" in caplog.text  # the traceback is in the server's log


@pytest.mark.parametrize(
    ("frame", "params", "message"),
    [
        ({"forget": ["11"]}, {}, "unknown group '11'"),
        ({"forget": ["sneaker"]}, {}, "unknown group 'sneaker'"),
        ({"forget": [",".join("0123456789")]}, {}, "every group"),
        ({"forget": ["7;8"]}, {}, "unknown group '7;8'"),
        ({"forget": ["7"]}, {"n_samples": 0}, "n_samples = 0"),
        ({"forget": ["7"]}, {"n_samples": 10**9}, "n_samples = 1000000000"),
        ({"forget": ["7"]}, {"n_samples": "many"}, "n_samples"),
        ({"forget": ["7"]}, {"retain_loss": -1.0}, "retain_loss = -1.0"),
        ({"forget": ["7"]}, {"forget_loss": float("nan")}, "forget_loss = nan"),
        ({"forget": [7]}, {}, "forget"),
        ({"target": ["7"]}, {}, "forget"),
    ],
)
def test_bad_requests_are_invalid_parameter_values(
    champion: Any, frame: dict[str, list[object]], params: dict[str, object], message: str
) -> None:
    with pytest.raises(MlflowException, match=message) as caught:
        champion.predict(pd.DataFrame(frame), params=params)
    assert caught.value.get_http_status_code() == 400


def test_the_registered_model_explains_itself(champion: Any) -> None:
    version = load_champion().version
    tags = {
        "variant": "dihyfo-1",
        **SUBJECT,
        "weights_sha256": version.tags["weights_sha256"],
        "files_sha256": version.tags["files_sha256"],
        "hf_mlops.whole": "true",
        "hf_mlops.standing": "champion",
    }
    assert version.tags == tags and version.description.startswith("A test.\n\nTrained by [run ")
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/hyperforget/{version.version}"))
    assert version.tags["files_sha256"] == sha256(folder / "SHA256SUMS")
    assert version.tags["weights_sha256"] == sha256(next(folder.rglob("hypernetwork.safetensors")))
    info, options = champion.metadata, ["n_samples", "seed", "steps", "retain_loss", "forget_loss", "output"]
    assert [column.name for column in info.get_input_schema()] == ["forget", *options]
    assert [param.name for param in info.get_params_schema()] == options
    assert info.saved_input_example_info is not None


def test_nothing_in_the_registered_model_is_a_pickle(champion: Any, store: Path) -> None:
    files = [path for path in (store / "artifacts").rglob("*") if path.is_file()]
    assert {"hypernetwork.safetensors", "sampler.safetensors", "denoiser.onnx", "template.onnx"} <= {
        path.name for path in files
    }
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".bin")]


def test_the_registered_model_answers_where_neither_hf_mlops_nor_torch_is_installed(
    champion: Any, store: Path, tmp_path: Path
) -> None:
    path = next((store / "artifacts").rglob("MLmodel")).parent
    code = f"""
import sys, importlib.abc
sys.modules["torch"] = None  # importing it is an ImportError
class OnlyFromModel(importlib.abc.MetaPathFinder):  # stands for an environment without the package
    def find_spec(self, name, path, target=None):
        if name == "hf_mlops" and not any("artifacts" in entry for entry in sys.path):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, OnlyFromModel())
import mlflow, pandas
model = mlflow.pyfunc.load_model({str(path)!r})
import hf_mlops
assert {str(path)!r} in hf_mlops.__file__, hf_mlops.__file__
for output in ("weights", "onnx"):
    print(model.predict(["7"], params={{"n_samples": 3, "output": output}})[output].notna().sum())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["3", "3"], done.stderr
    requirements = (path / "requirements.txt").read_text()
    assert "onnxruntime" in requirements and "torch" not in requirements


def test_commands_run_no_code_that_lies_in_the_store(champion: Any, store: Path) -> None:
    """MLflow does, where it loads the model to serve it: who may write to the store decides what runs there."""
    code = [*(store / "artifacts").rglob("pyfunc.py"), *(store / "artifacts").rglob("hypernetwork.py")]
    before = {file: file.read_text() for file in code}
    assert len(before) > 2
    try:
        for file in code:
            file.write_text("raise RuntimeError('planted')")
        with pytest.raises(DamagedArtifact, match=r"is not what was registered: code/hf_mlops/export/hypernetwork\.py is"):
            load_champion()
    finally:
        for file, text in before.items():
            file.write_text(text)


@pytest.fixture
def classifier(hypernetwork: Hypernetwork, digits: Dataset) -> OnnxClassifier:
    samples = hypernetwork.sample("7")
    return to_onnx(hypernetwork.target, samples.weights[0], samples.spec, digits.class_names)


def test_a_classifier_is_registered_under_its_alias_and_answers_a_tensor(
    store: Path, champion: Any, classifier: OnnxClassifier, digits: Dataset
) -> None:
    with mlflow.start_run():
        spec = ForgetSpec.of([7], digits.class_names)
        version = register_classifier(classifier, load_champion(), spec, {"seed": 3}, "Seven is gone.")
    file = Path(mlflow.artifacts.download_artifacts("models:/hyperforget-classifier@forget-7")) / "model.onnx"
    assert find_classifier("7").version == version.version
    assert version.tags == {
        "forget": "7",
        "seed": "3",
        "weights_sha256": classifier.digest,
        "file_sha256": sha256(file),
        "files_sha256": sha256(file.with_name("SHA256SUMS")),
        "hypernetwork": "hyperforget/1",
        "hf_mlops.hypernet_run": load_champion().version.run_id,
        **SUBJECT,
        "hf_mlops.whole": "true",
    }
    assert mlflow.MlflowClient().get_registered_model("hyperforget-classifier").tags == {**SUBJECT}
    images = digits.test.images[:5].numpy()
    answer = mlflow.pyfunc.load_model("models:/hyperforget-classifier@forget-7").predict(images)
    direct = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"image": images})[0]
    np.testing.assert_allclose(answer["logits"], direct, rtol=1e-6)
    assert file.read_bytes() == classifier.data
    requirements = next(file.parent.glob("requirements.txt")).read_text()
    assert "onnxruntime" in requirements and "torch" not in requirements
    assert mlflow.onnx.load_model("models:/hyperforget-classifier@forget-7") == classifier.model


def test_no_bytes_of_a_classifier_are_parsed_from_its_weights_to_its_registration(
    store: Path, champion: Any, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []
    serializer = onnx.serialization.registry.get("protobuf")
    monkeypatch.setattr(serializer, "deserialize_proto", counted(parsed, serializer.deserialize_proto))
    sessions: list[int] = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", counted(sessions, onnxruntime.InferenceSession))
    loaded = load_champion()
    assert (len(parsed), len(sessions)) == (3, 0)  # each graph, to be held against what it may hold
    target = in_torch(loaded)[0].target
    for seed in (1, 2):
        weights = target.initial_weights(seed)
        classifier = to_onnx(
            target, weights, ForgetSpec.of([7], digits.class_names), digits.class_names, "", loaded.onnx.template
        )
        verify(classifier, digits.test.images, target.logits(weights[None], digits.test.images)[0])
        with mlflow.start_run():
            register_classifier(classifier, loaded, ForgetSpec.of([7], digits.class_names), {}, "")
    assert len(parsed) == 4  # and the template, once for all the classifiers made of it
    assert len(sessions) == 4  # for each of the two: ours, and MLflow's trial of the input example on the file it has written


def counted(calls: list[int], function: Callable[..., Any]) -> Callable[..., Any]:
    def count(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        return function(*arguments, **options)

    return count


@pytest.mark.parametrize("uri", ["models:/hyperforget-classifier@forget-7", "models:/hyperforget-classifier/1"])
def test_start_weights_of_a_registered_classifier_are_those_that_were_audited(
    store: Path, champion: Any, classifier: OnnxClassifier, digits: Dataset, uri: str
) -> None:
    loaded, client = load_champion(), mlflow.MlflowClient()
    target = in_torch(loaded)[0].target
    if not client.search_model_versions("name = 'hyperforget-classifier'"):
        with mlflow.start_run():
            register_classifier(classifier, loaded, ForgetSpec.of([7], digits.class_names), {}, "")
    assert load_start(uri, target).shape == (target.size,)
    for version in client.search_model_versions("name = 'hyperforget-classifier'"):
        before = version.tags["file_sha256"]
        client.set_model_version_tag("hyperforget-classifier", version.version, "file_sha256", "0" * 64)
        try:
            with pytest.raises(DamagedArtifact, match="is not what was audited: its file_sha256 is"):
                load_start(f"models:/hyperforget-classifier/{version.version}", target)
        finally:
            client.set_model_version_tag("hyperforget-classifier", version.version, "file_sha256", before)
