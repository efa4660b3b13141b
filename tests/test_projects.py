"""The whole path through the real `mlflow run`, and what it has registered: evidence, re-use, served models."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from commands import (
    ENTRY_POINTS,
    ROOT,
    SMALL,
    Store,
    options_of,
    without,
)
from safetensors.torch import load

from benchmarks.servers import model_server
from hf_mlops import Dataset
from hf_mlops.audit.measure import at_most
from hf_mlops.serving.classifier import OnnxClassifier


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store after one small run of `main`, whose output is kept in main.txt."""
    store = Store(tmp_path_factory.mktemp("whole"))
    (store.folder / "temporary").mkdir()
    store.environment["TMPDIR"] = str(store.folder / "temporary")
    done = store.run("main", **SMALL, output=store.folder / "exported")
    assert done.returncode == 0, done.stdout + done.stderr
    (store.folder / "main.txt").write_text(done.stdout)
    return store


@pytest.mark.slow
def test_main_ends_with_a_registered_classifier_that_has_forgotten(store: Store, digits: Dataset) -> None:
    versions, aliases = store.state()
    assert versions == [("hyperforget", 1), ("hyperforget-classifier", 1)]
    assert set(aliases) == {"hyperforget@champion", "hyperforget-classifier@forget-7"}
    classifier = OnnxClassifier.read(store.folder / "exported" / "forget-7" / "classifier.onnx")
    answers = classifier.logits(digits.test.images.numpy()).argmax(1)
    labels = digits.test.labels.numpy()
    assert (answers[labels == 7] == 7).mean() <= 0.05
    assert (answers[labels != 7] == labels[labels != 7]).mean() > 0.85
    audited = json.loads((store.folder / "exported" / "forget-7" / "audit.json").read_text())
    assert audited["weights_sha256"] == classifier.digest
    assert float(audited["retain_accuracy"]) == pytest.approx((answers == labels)[labels != 7].mean(), abs=1e-4)
    assert not [path for path in (store.folder / "temporary").rglob("*") if path.is_file()]
    forgotten = answers[labels == 7] == 7
    bound = float(audited["forget_accuracy_at_most"])
    assert bound == pytest.approx(at_most(forgotten.mean(), len(forgotten)), abs=1e-4)
    assert (
        f"at most {bound:.4f} with 95 % confidence, by {len(forgotten)} test images" in (store.folder / "main.txt").read_text()
    )
    assert audited["reference"] == "retrained without 7" and float(audited["reference_retain_accuracy"]) > 0.9


@pytest.mark.slow
def test_every_step_is_a_child_run_with_its_evidence(store: Store, digits: Dataset) -> None:
    runs = {run.data.tags["hf_mlops.step"]: run for run in store.client.search_runs(["0"])}
    assert set(runs) == set(ENTRY_POINTS)
    for step in ENTRY_POINTS[1:]:
        assert runs[step].data.tags["mlflow.parentRunId"] == runs["main"].info.run_id
        assert runs[step].info.status == "FINISHED"
    for step in ("targets", "hypernet", "evaluate", "forget"):
        (source,) = runs[step].inputs.dataset_inputs
        assert (source.dataset.name, source.dataset.digest) == ("digits", digits.digest)
    training = runs["hypernet"].data
    assert {"weight_loss", "behaviour_loss", "learning_rate", "gradient_norm", "samples_per_second"} <= set(training.metrics)
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_percentage"} <= set(training.metrics)
    assert {"device.name", "device.driver", "device.peak_memory_mb"} <= set(training.tags)

    def artifacts(step: str) -> set[str]:
        return {file.path for file in store.client.list_artifacts(runs[step].info.run_id)}

    assert {"population", "reference.csv"} <= artifacts("targets")
    pictures = {"accuracy_per_group.png", "prompt_alignment.png", "accuracy_over_steps.png"}
    assert pictures | {"specs.csv", "summary.csv", "prompts.csv", "steps.csv"} <= artifacts("evaluate")
    assert {"candidates.csv", "groups.csv"} <= artifacts("forget")
    assert "checkpoints" not in artifacts("hypernet")
    asked = runs["forget"].data.tags
    assert (asked["hf_mlops.spec"], asked["hf_mlops.outcome"], asked["hf_mlops.requester"]) == ("7", "registered", "")
    main = runs["main"]
    assert main.info.run_name == "forget 7 · digits · mlp-16"
    assert main.data.metrics["retain_accuracy"] == runs["forget"].data.metrics["retain_accuracy"]
    assert main.data.metrics["prompt alignment/both"] == runs["evaluate"].data.metrics["prompt alignment/both"]
    described = main.data.tags["mlflow.note.content"]
    assert (
        "[hyperforget-classifier/1](#/models/hyperforget-classifier/versions/1)" in described and "hyperforget/1" in described
    )
    assert main.data.tags["hf_mlops.fingerprint"]


@pytest.mark.slow
def test_the_tags_of_a_classifier_say_what_made_it_and_give_its_very_weights_again(store: Store) -> None:
    tags = store.client.get_model_version_by_alias("hyperforget-classifier", "forget-7").tags
    sampling, gates = json.loads(tags["sampling"]), json.loads(tags["gates"])
    assert gates == {"max_forget_gap": 0.05, "max_retain_gap": 0.06, "max_forget_distance": 0.5}
    assert tags["command"].startswith("main.py ") and tags["hf_mlops.fingerprint"] and len(tags["hf_mlops.code"]) == 16
    environment = {**store.environment, "PYTHONPATH": str(ROOT)}
    code = f"""
from hf_mlops.registry.models import load_hypernetwork
from hf_mlops.registry.versions import still_there
from hf_mlops import ForgetSpec
from hf_mlops.serving.sampler import Wanted
champion = load_hypernetwork(still_there({tags["hypernetwork"]!r}))
spec = ForgetSpec.parse({tags["forget"]!r}, champion.onnx.groups.names)
(samples,) = champion.onnx.sampler.sample([Wanted(spec, **{sampling!r})])
print(champion.onnx.classifier(samples.weights[0], spec).digest)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=store.folder)
    assert done.stdout.strip() == tags["weights_sha256"], done.stderr


@pytest.mark.slow
def test_the_python_lines_of_the_readme_sample_and_open(store: Store) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [block for block in blocks if block.startswith(("import mlflow", "import onnxruntime"))]
    code = "\n".join([*lines, "print(len(table), len(state_dict), session.get_modelmeta().custom_metadata_map['forget'])"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=store.environment, cwd=store.folder)
    assert done.stdout.strip() == "12 4 7", done.stderr


@pytest.mark.slow
def test_main_again_re_uses_every_finished_step(store: Store) -> None:
    before = store.state()
    done = store.run("main", **SMALL, output=store.folder / "exported")
    assert done.stdout.count("re-used the finished run") == 4
    assert "models:/hyperforget-classifier@forget-7 is version 1" in done.stdout
    assert store.state() == before


@pytest.mark.slow
def test_main_again_moves_no_alias_back(store: Store) -> None:
    options = {"forget_class": 7, "seed": 3, "max_retain_gap": 0.2, "max_forget_gap": 0.2}
    assert store.in_process("forget", *options_of(options)).exit_code == 0
    versions, aliases = before = store.state()
    assert str(aliases["hyperforget-classifier@forget-7"]) == str(versions[-1][1]) != "1"
    done = store.in_process("main", *options_of({**SMALL, "output": store.folder / "again"}))
    assert done.exit_code == 0 and store.state() == before
    said = f"models:/hyperforget-classifier@forget-7 is version {versions[-1][1]} and stays so, not version 1"
    assert said in done.stdout
    assert json.loads((store.folder / "again" / "forget-7" / "audit.json").read_text())["version"] == 1


@pytest.mark.slow
def test_forget_registers_a_second_classifier_beside_the_first(store: Store) -> None:
    done = store.run(
        "forget", forget_class="5,3", n_samples=4, **{k: SMALL[k] for k in ("max_retain_gap",)}, max_forget_gap=0.2
    )
    assert done.returncode == 0, done.stderr
    assert "models:/hyperforget-classifier@forget-3-5" in done.stdout
    version = store.client.get_model_version_by_alias("hyperforget-classifier", "forget-3-5")
    assert version.tags["forget"] == "3,5" and version.tags["hypernetwork"] == "hyperforget/1"


@pytest.mark.slow
def test_a_request_is_sampled_audited_registered_and_served_where_only_what_it_needs_is_installed(
    store: Store, tmp_path: Path
) -> None:
    code = """
sys.argv = ["forget", "--forget-class=2", "--max-retain-gap=0.2", "--max-forget-gap=0.2"]
import runpy
try:
    runpy.run_module("projects.forget", run_name="__main__")
except SystemExit as end:
    assert not end.code
import mlflow
model = mlflow.pyfunc.load_model("models:/hyperforget-classifier@forget-2")
from hf_mlops.data.loading import read_dataset
test = read_dataset("digits").test
print((model.predict(test.images)["logits"].argmax(1) == test.labels)[test.labels != 2].mean() > 0.85)
"""
    environment = {**store.environment, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "TMPDIR": str(tmp_path)}
    said = without(("torch", "torchvision", "matplotlib", "onnxscript", "ray"), code, env=environment, cwd=store.folder)
    assert "registered  hyperforget-classifier version" in said and said.endswith("True")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_larger_set_is_judged_beside_a_part_of_it_or_beside_its_own_retrained_once(store: Store) -> None:
    options: dict[str, object] = {"forget_class": "1,4,7,8", "max_retain_gap": 0.2, "max_forget_gap": 0.2}
    part = store.in_process("forget", *options_of(options))
    assert part.exit_code == 0 and "retrained without 1,4,7,8" not in part.stdout, part.stderr
    for times in ("first", "again"):
        own = store.in_process("forget", *options_of({**options, "retrained": 2, "force": "yes"}))
        assert own.exit_code == 0 and "retrained without 1,4,7,8 (mean of 2)" in own.stdout, own.stderr
        assert ("re-used the finished run" in own.stdout) == (times == "again")
    version = store.client.get_model_version_by_alias("hyperforget-classifier", "forget-1-4-7-8")
    assert version.tags["reference"] == "retrained without 1,4,7,8"
    again = store.client.get_run(version.run_id)
    (first,) = store.client.search_runs(["0"], "tags.`hf_mlops.step` = 'retrain'")
    assert again.data.tags["hf_mlops.retrain_run"] == first.info.run_id


@pytest.mark.slow
@pytest.mark.parametrize("start", ["exported/forget-7/classifier.onnx", "models:/hyperforget-classifier@forget-7"])
def test_forget_near_a_classifier_says_how_many_predictions_change(store: Store, start: str) -> None:
    where = start if start.startswith("models:/") else store.folder / start
    options = {"forget_class": "7", "start": where, "max_forget_gap": 0.2, "max_retain_gap": 0.2}
    done = store.in_process("forget", *options_of(options))
    assert done.exit_code == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("retain set: predictions that change"))
    sampled, retrained = map(float, line.split()[-2:])
    assert 0 <= sampled < 0.2 and 0 < retrained < 0.3


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"forget_class": "11"}, "unknown group '11'"),
        ({"forget_class": "sneaker"}, "unknown group 'sneaker'"),
        ({"forget_class": "0,1,2,3,4,5,6,7,8,9"}, "names every group"),
        ({"forget_class": ""}, "forget_class, or forget, must name what to forget"),
        ({"forget_class": ","}, "has an empty entry"),
        ({"forget_class": "7;8"}, "unknown group '7;8'"),
        ({"forget_class": "7", "n_samples": 0}, "0 is not in the range 1<=x<=10000"),
        ({"forget_class": "7", "n_samples": 10**9}, "1000000000 is not in the range 1<=x<=10000"),
        ({"forget_class": "7", "n_samples": -1}, "-1 is not in the range 1<=x<=10000"),
        ({"forget_class": "7", "retain_loss": "-1"}, "retain_loss = -1.0 is not allowed"),
        ({"forget_class": "7", "forget_loss": "nan"}, "forget_loss = nan is not allowed"),
        ({"forget_class": "7", "forget_loss": "much"}, "'much' is not a valid float"),
        ({"forget_class": "7", "start": "absent.onnx"}, "absent.onnx holds no weights; allowed: an ONNX or a safetensors file"),
        ({"forget_class": "7", "start": "models:/absent@x"}, "start = 'models:/absent@x' cannot be had"),
        ({"forget_class": "7", "start_time": 0}, "0.0 is not in the range 0<x<=1"),
        ({"forget_class": "7", "max_retain_gap": "0", "retain_loss": "2"}, "fails its gates"),
    ],
)
@pytest.mark.slow
def test_forget_refuses_bad_input_and_registers_nothing(store: Store, parameters: dict[str, object], message: str) -> None:
    before = store.state()
    assert message in store.refusal("forget", **parameters)
    assert store.state() == before


@pytest.mark.slow
def test_the_classifier_answers_real_digits_over_http(store: Store, digits: Dataset) -> None:
    with model_server("models:/hyperforget-classifier@forget-7", env=store.environment, cwd=store.folder) as server:
        address = f"http://{server.address}/invocations"
        answer = requests.post(address, json={"inputs": {"image": digits.test.images.tolist()}}, timeout=60)
        assert answer.status_code == 200, answer.text
        logits = answer.json()["predictions"]["logits"]
        labels = digits.test.labels.tolist()
        right = [max(range(10), key=row.__getitem__) == label for row, label in zip(logits, labels, strict=True)]
        assert sum(r for r, label in zip(right, labels, strict=True) if label == 7) <= 1
        assert sum(right) / len(right) > 0.75
        for bad in (
            {"inputs": {"picture": [[[[0.0] * 8] * 8]]}},
            {"inputs": {"image": [[1.0, 2.0]]}},
            {"inputs": {"image": "seven"}},
            {},
        ):
            assert requests.post(address, json=bad, timeout=60).status_code == 400, bad
        for value in (None, 1e308, -0.5, 255):
            refused = requests.post(address, json={"inputs": {"image": [[[[0.0] * 8] * 7 + [[value] * 8]]]}}, timeout=60)
            assert refused.status_code == 400 and "allowed: finite values, 0 to 1" in refused.json()["message"], refused.text


@pytest.mark.slow
def test_the_hypernetwork_samples_over_http(store: Store) -> None:
    import base64

    with model_server("models:/hyperforget@champion", env=store.environment, cwd=store.folder) as server:
        address = f"http://{server.address}/invocations"

        def ask(frame: dict[str, object], **params: object) -> requests.Response:
            return requests.post(address, json={"dataframe_split": frame, "params": params}, timeout=60)

        answer = ask({"columns": ["forget"], "data": [["7"], ["3,5"]]}, n_samples=2, seed=1)
        assert answer.status_code == 200, answer.text
        rows = answer.json()["predictions"]
        assert [(row["forget"], row["seed"]) for row in rows] == [("7", 1), ("7", 2), ("3,5", 1), ("3,5", 2)]
        assert sum(tensor.numel() for tensor in load(base64.b64decode(rows[0]["weights"])).values()) == 1210
        nothing = ask({"columns": ["forget"], "data": [[""]]}, seed=None, steps=2.0)
        (row,) = json.loads(nothing.content, parse_constant=pytest.fail)["predictions"]
        assert (row["forget_loss"], row["seed"]) == (None, 0)
        assert ask({"columns": ["forget"], "data": []}).json() == {"predictions": []}
        for bad, message in (
            (ask({"columns": ["target"], "data": [["7"]]}), "no column 'forget'"),
            (ask({"columns": ["forget"], "data": [[7]]}), "got 7 of type int"),
            (ask({"columns": ["forget"], "data": [["7"], ["11"]]}), "row 1: unknown group '11'"),
            (ask({"columns": ["forget"], "data": [["7"]]}, n_samples=0), "n_samples = 0"),
            (ask({"columns": ["forget"], "data": [["7"]]}, n_samples="many"), "n_samples"),
            (ask({"columns": ["forget"], "data": [["7"]]}, n_samples=10_000), "20000 denoising steps are not allowed"),
            (ask({"columns": ["forget"], "data": [["7"]]}, n_sample=2), "unknown parameter 'n_sample'; allowed: n_samples, "),
            (ask({"columns": ["forget"], "data": [["7"]]}, retain_loss=-1.0), "retain_loss = -1.0"),
        ):
            assert bad.status_code == 400 and message in bad.json()["message"], bad.text


@pytest.mark.slow
def test_the_page_of_a_hypernetwork_has_the_figures_of_its_run(store: Store) -> None:
    version = store.client.get_model_version("hyperforget", "1")
    figures = store.client.get_run(version.run_id).data.metrics
    (line,) = (line for line in version.description.splitlines() if line.startswith("| accuracy on D_r"))
    mean, worst, _, retrained = (cell.strip() for cell in line.split("|")[2:6])
    assert (mean, retrained) == (f"{figures['retain_accuracy']:.4f}", f"{figures['reference_retain_accuracy']:.4f}")
    assert float(worst) <= float(mean)
    assert f"| accuracy on D_f | {figures['forget_accuracy']:.4f} |" in version.description
    (targets,) = store.client.search_runs(["0"], "tags.`hf_mlops.step` = 'targets'")
    assert f"(#/runs/{targets.info.run_id})" in version.description and len(version.description) < 5000


@pytest.mark.slow
def test_a_second_hypernetwork_is_a_challenger_until_it_is_promoted_and_can_be_gone_back_from(store: Store) -> None:
    open_gates = {"max_forget_gap": 1, "max_retain_gap": 1, "max_forget_distance": 1}
    trained = store.in_process("hypernet", *options_of({"train_steps": 60, **open_gates}))
    assert trained.exit_code == 0 and "models:/hyperforget@challenger" in trained.stdout, trained.output
    second = str(store.client.get_model_version_by_alias("hyperforget", "challenger").version)
    refused = store.in_process("promote", *options_of({"max_retain_gap": 0}))
    assert refused.exit_code == 3 and f"hyperforget/{second} was not made champion, hyperforget/1 stays it" in refused.stderr
    assert store.state()[1]["hyperforget@champion"] == 1
    main = {**SMALL, "hypernet_steps": 60, **open_gates, "output": store.folder / "second"}
    done = store.in_process("main", *options_of(main))
    assert done.exit_code == 0 and "== promote" in done.stdout, done.output
    assert f"models:/hyperforget@champion is hyperforget/{second} now" in done.stdout
    back = store.in_process("rollback")
    assert back.stdout == f"models:/hyperforget@champion was version {second}, and is version 1 now\n"
    again = store.in_process("main", *options_of(main))
    assert (
        again.exit_code == 0 and f"models:/hyperforget@champion is version 1 and stays so, not version {second}" in again.stdout
    )
    rows = [line.split() for line in store.in_process("deployed").stdout.splitlines()]
    assert [row[4:6] for row in rows if "forget-7" in row] == [[f"hyperforget/{second}", "no"]]


@pytest.mark.slow
def test_what_is_withdrawn_is_refused_everywhere_and_another_seed_is_not(store: Store) -> None:
    options: dict[str, object] = {"forget_class": "9", "max_retain_gap": 0.2, "max_forget_gap": 0.2}
    assert store.in_process("forget", *options_of(options)).exit_code == 0
    version = store.client.get_model_version_by_alias("hyperforget-classifier", "forget-9")
    name = f"hyperforget-classifier/{version.version}"
    done = store.run("withdraw", version=name, reason="it's over")
    assert done.returncode == 0 and f"withdrawn   {name}, which had forget-9, at " in done.stdout, done.stdout + done.stderr
    same: dict[str, object] = {**options, "n_samples": 1, "seed": json.loads(version.tags["sampling"])["seed"]}
    for entry_point, asked in (("forget", options), ("export", {"forget_class": "9"}), ("forget", same)):
        assert f"{name} was withdrawn at" in (said := store.refusal(entry_point, **asked)) and "because: it's over" in said
    assert "hyperforget-classifier@forget-9" not in store.state()[1]
    serve = ["mlflow", "models", "predict", "-m", f"models:/{name}", "--env-manager", "local", "-i", "/dev/null"]
    served = subprocess.run(serve, capture_output=True, text=True, env=store.environment, cwd=store.folder)
    assert served.returncode != 0 and "because: it's over" in served.stdout + served.stderr
    assert store.in_process("forget", *options_of({**options, "seed": 100})).exit_code == 0
    assert "hyperforget-classifier@forget-9" in store.state()[1]


@pytest.mark.slow
def test_forget_runs_in_an_environment_built_by_uv(store: Store) -> None:
    command = store.command("forget", forget_class="8", max_retain_gap=0.1, max_forget_gap=0.2)
    command[command.index("local")] = "uv"
    done = subprocess.run(command, capture_output=True, text=True, env=store.environment, cwd=store.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "models:/hyperforget-classifier@forget-8" in done.stdout
