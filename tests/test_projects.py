"""The entry points through the real `mlflow run`: the whole path, bad input, interruption, served models."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import click
import mlflow
import pytest
import requests
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load

from hf_mlops import Dataset, Engine, Population, train_population
from hf_mlops.base.errors import BadRequest, DamagedArtifact, GateFailure, OutOfReach
from hf_mlops.serving.classifier import OnnxClassifier
from projects.command import entry_point

ROOT = Path(__file__).parent.parent
ENTRY_POINTS = ("main", "targets", "hypernet", "forget", "evaluate", "export")
SMALL = {"runs": 384, "target_steps": 250, "hypernet_steps": 700, "max_retain_gap": 0.06, "max_forget_accuracy": 0.05}


class Store:
    """An MLflow store on disk, and `mlflow run` on it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.uri = f"sqlite:///{folder}/mlflow.db"
        self.environment = {**os.environ, "MLFLOW_TRACKING_URI": self.uri, "PYTHONUNBUFFERED": "1"}

    @cached_property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self.uri)

    def command(self, entry_point: str, **parameters: object) -> list[str]:
        options = [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")]
        return ["mlflow", "run", str(ROOT), "-e", entry_point, "--env-manager", "local", *options]

    def run(self, entry_point: str, **parameters: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(entry_point, **parameters),
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.folder,
            timeout=500,
        )

    def state(self) -> tuple[list[tuple[str, int]], dict[str, str]]:
        """Every registered version and alias."""
        models = self.client.search_registered_models()
        versions = [(v.name, int(v.version)) for m in models for v in self.client.search_model_versions(f"name = '{m.name}'")]
        aliases = {f"{m.name}@{alias}": version for m in models for alias, version in m.aliases.items()}
        return sorted(versions), aliases


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store after one small run of `main`, whose output is kept in main.txt."""
    store = Store(tmp_path_factory.mktemp("whole"))
    done = store.run("main", **SMALL, output=store.folder / "exported")
    assert done.returncode == 0, done.stdout + done.stderr
    (store.folder / "main.txt").write_text(done.stdout)
    return store


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("empty"))


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
    pictures = {"accuracy_per_class.png", "prompt_alignment.png", "accuracy_over_steps.png"}
    assert pictures | {"specs.csv", "summary.csv", "prompts.csv", "steps.csv"} <= artifacts("evaluate")
    assert {"candidates.csv", "groups.csv"} <= artifacts("forget")
    assert "checkpoints" not in artifacts("hypernet")
    main = runs["main"]
    assert main.info.run_name == "forget 7 · digits · mlp-16"
    assert main.data.metrics["retain_accuracy"] == runs["forget"].data.metrics["retain_accuracy"]
    assert main.data.metrics["prompt_alignment_both"] == runs["evaluate"].data.metrics["prompt_alignment_both"]
    described = main.data.tags["mlflow.note.content"]
    assert (
        "[hyperforget-classifier/1](#/models/hyperforget-classifier/versions/1)" in described and "hyperforget/1" in described
    )
    assert main.data.tags["hf_mlops.fingerprint"]


@pytest.mark.slow
def test_the_tags_of_a_classifier_say_what_made_it_and_give_its_very_weights_again(store: Store) -> None:
    tags = store.client.get_model_version_by_alias("hyperforget-classifier", "forget-7").tags
    sampling, gates = json.loads(tags["sampling"]), json.loads(tags["gates"])
    assert gates == {"max_forget_accuracy": 0.05, "max_retain_gap": 0.06}
    assert tags["command"].startswith("main.py ") and tags["hf_mlops.fingerprint"] and len(tags["hf_mlops.code"]) == 16
    environment = {**store.environment, "PYTHONPATH": str(ROOT)}
    code = f"""
from hf_mlops.registry.models import load_hypernetwork
from hf_mlops.registry.versions import still_there
from hf_mlops import to_onnx
champion = load_hypernetwork(still_there({tags["hypernetwork"]!r}))
samples = champion.hypernetwork.sample({tags["forget"]!r}, **{sampling!r})
classifier = to_onnx(champion.hypernetwork.target, samples.weights[0], samples.spec, [], "", champion.template)
print(classifier.digest)
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
    options = {"forget_class": 7, "seed": 3, "max_retain_gap": 0.2, "max_forget_accuracy": 0.2}
    assert in_process(store, "forget", *options_of(options)).exit_code == 0
    versions, aliases = before = store.state()
    assert str(aliases["hyperforget-classifier@forget-7"]) == str(versions[-1][1]) != "1"
    done = in_process(store, "main", *options_of({**SMALL, "output": store.folder / "again"}))
    assert done.exit_code == 0 and store.state() == before
    said = f"models:/hyperforget-classifier@forget-7 is version {versions[-1][1]} and stays so, not version 1"
    assert said in done.stdout
    assert json.loads((store.folder / "again" / "forget-7" / "audit.json").read_text())["version"] == 1


@pytest.mark.slow
def test_forget_registers_a_second_classifier_beside_the_first(store: Store) -> None:
    done = store.run(
        "forget", forget_class="5,3", n_samples=4, **{k: SMALL[k] for k in ("max_retain_gap",)}, max_forget_accuracy=0.2
    )
    assert done.returncode == 0, done.stderr
    assert "models:/hyperforget-classifier@forget-3-5" in done.stdout
    version = store.client.get_model_version_by_alias("hyperforget-classifier", "forget-3-5")
    assert version.tags["forget"] == "3,5" and version.tags["hypernetwork"] == "hyperforget/1"


@pytest.mark.slow
@pytest.mark.parametrize("start", ["exported/forget-7/classifier.onnx", "models:/hyperforget-classifier@forget-7"])
def test_forget_near_a_classifier_says_how_many_predictions_change(store: Store, start: str) -> None:
    where = start if start.startswith("models:/") else store.folder / start
    options = {"forget_class": "7", "start": where, "max_forget_accuracy": 0.2, "max_retain_gap": 0.2}
    done = in_process(store, "forget", *options_of(options))
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
        ({"forget_class": ""}, "the forget spec is empty"),
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
    assert message in refusal(store, "forget", **parameters)
    assert store.state() == before


def options_of(parameters: dict[str, object]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in parameters.items()]


def refusal(store: Store, name: str, **parameters: object) -> str:
    """What an entry point's command says as it refuses."""
    done = in_process(store, name, *options_of(parameters))
    assert isinstance(done.exception, SystemExit), done.exception  # anything else would be a traceback
    assert done.exit_code != 0
    return done.stderr


def in_process(store: Store, name: str, *words: str) -> Result:
    """An entry point's command, run in this process, which saves ten seconds of imports."""
    command = importlib.import_module(f"projects.{name}").command
    tracking, handlers = mlflow.get_tracking_uri(), {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    mlflow.set_tracking_uri(store.uri)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return CliRunner().invoke(command, words)
    finally:
        mlflow.set_tracking_uri(tracking)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("targets", {"architecture": "resnet-50"}, "architecture = 'resnet-50' is not allowed; allowed: mlp-10, mlp-16"),
        ("targets", {"architecture": "no_such_package:make"}, "'no_such_package:make' does not import: ModuleNotFoundError"),
        (
            "targets",
            {"scope": "fc.*"},
            "'fc.*' matches no parameter; allowed: patterns over 1.weight, 1.bias, 3.weight, 3.bias",
        ),
        ("main", {"scope": "*,"}, "scope = '*,' is not allowed; allowed: patterns joined by commas"),
        (
            "targets",
            {"dataset": "letters"},
            "unknown data set 'letters'; allowed: digits, mnist, fashion-mnist, cifar10, folder:",
        ),
        ("main", {"dataset": "mnist", "data_dir": "/no such"}, "mnist needs these files in /no such: MNIST/raw/train-images"),
        ("hypernet", {"dataset": "folder:/no such"}, "folder:/no such: there is no such folder"),
        ("targets", {"checkpoints": 9, "train_steps": 5}, "checkpoints = 9 is not allowed; allowed: 1 to the number of steps"),
        ("hypernet", {"variant": "dihyfo-3"}, "'dihyfo-3' is not one of 'dihyfo-1', 'dihyfo-2'"),
        ("hypernet", {"width": 30}, "width = 30 is not allowed; allowed: a multiple of"),
        ("hypernet", {}, "run `mlflow run . -e targets` first"),
        ("forget", {"forget_class": "7"}, "run `mlflow run . -e targets` and `mlflow run . -e hypernet` first"),
        ("evaluate", {}, "or `mlflow run .` for the whole path"),
        ("export", {"forget_class": "7"}, "has no model models:/hyperforget-classifier@forget-7"),
        ("main", {"forget_class": "11"}, "unknown group '11'"),
        ("main", {"device": "tpu"}, "'tpu' is not one of"),
    ],
)
def test_an_entry_point_refuses_what_it_cannot_do(empty: Store, name: str, parameters: dict[str, object], message: str) -> None:
    assert message in refusal(empty, name, **parameters)
    assert empty.state() == ([], {})


def test_a_refusal_is_one_line_and_a_status_for_the_shell(empty: Store) -> None:
    words = [sys.executable, "-m", "projects.targets", "--dataset", "letters"]
    done = subprocess.run(words, capture_output=True, text=True, env=empty.environment, cwd=ROOT)
    assert done.returncode == BadRequest.status
    assert done.stderr.startswith("Error: unknown data set 'letters'") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status", "first"),
    [
        (BadRequest("no"), 2, "Error: no"),
        (GateFailure("no"), 3, "Error: no"),
        (DamagedArtifact("no"), 4, "Error: no"),
        (OutOfReach("no"), 5, "Error: no"),
        (OSError(28, "No space left on device"), 5, "Error: [Errno 28] No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted: nothing is half-made"),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_each_kind_of_error_has_its_status_and_debug_shows_where_it_was_raised(
    error: BaseException, status: int, first: str, debug: bool
) -> None:
    @click.command()
    @entry_point
    def command() -> None:
        raise error

    result = CliRunner().invoke(command, ["--debug"] * debug)
    shown = debug and status != 130
    assert result.exit_code == status
    assert result.stderr.startswith("Traceback" if shown else first) and first in result.stderr
    assert ("raise error" in result.stderr) == shown


def test_a_fault_of_the_program_is_no_plain_line() -> None:
    @click.command()
    @entry_point
    def command() -> None:
        raise TypeError("unsupported operand")

    assert isinstance(CliRunner().invoke(command).exception, TypeError)


@pytest.mark.parametrize("name", ["targets", "main"])
def test_a_network_in_the_current_directory_is_found_and_checked_before_any_work(
    name: str, empty: Store, tmp_path: Path
) -> None:
    (tmp_path / "mynets.py").write_text("from torch import nn\n\ndef make(shape, classes):\n    return nn.Flatten()\n")
    done = subprocess.run(
        [sys.executable, "-m", f"projects.{name}", "--architecture", "mynets:make"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**empty.environment, "PYTHONPATH": str(ROOT)},
    )
    assert "architecture 'mynets:make' cannot be a target: the network has no parameters" in done.stderr
    assert not empty.client.search_runs(["0"])


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_dry_run_prints_the_configuration_and_does_nothing(name: str, tmp_path: Path) -> None:
    needed = {"forget_class": "7"} if name in ("forget", "export") else {}
    done = in_process(Store(tmp_path), name, "--dry-run", *options_of(needed))
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)
    assert not list(tmp_path.iterdir())


def test_a_tracking_server_that_does_not_answer_is_named_at_once(empty: Store) -> None:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "projects.targets"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
    )
    assert done.returncode == OutOfReach.status
    assert "no MLflow tracking server answers at http://127.0.0.1:9" in done.stderr and "Traceback" not in done.stderr
    assert time.monotonic() - started < 60


@pytest.mark.slow
def test_targets_trained_on_ray_are_one_run_with_the_very_same_population(tmp_path: Path, digits: Dataset) -> None:
    store = Store(tmp_path)
    done = store.run("targets", runs=64, train_steps=60, reference_runs=1, engine="ray", store=tmp_path / "chunks")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = store.client.search_runs(["0"])
    assert run.info.status == "FINISHED" and run.data.params["targets.engine"] == "ray"
    population = Population.load(Path(store.client.download_artifacts(run.info.run_id, "population")))
    here = train_population(population.config, digits, "cpu", Engine(threads=1))
    assert torch.equal(population.weights, here.weights) and torch.equal(population.run, here.run)
    assert len(list((tmp_path / "chunks").iterdir())) == 2


INTERRUPTED = {"runs": 64, "target_steps": 120, "hypernet_steps": 120, "max_retain_gap": 1, "max_forget_accuracy": 1}
IN_THE_MIDDLE_OF = {  # a line that the step prints before it has finished
    "targets": "population: ",
    "hypernet": "hypernetwork: ",
    "evaluate": "prompt sweep: ",
    "forget": "forget 7: candidate",
    "export": "== export",
}


@pytest.mark.slow
def test_ctrl_c_in_the_middle_of_each_step_leaves_nothing_half_made_and_main_goes_on(tmp_path: Path) -> None:
    """Interrupts `main` again and again, each time one step further on, until it comes through.

    `mlflow run` passes Ctrl-C on in its own way; once that was seen, the command by itself is quicker to start.
    """
    store, output, parameters = Store(tmp_path), "", {**INTERRUPTED, "output": tmp_path / "exported"}
    by_itself = [sys.executable, "-m", "projects.main", *options_of(parameters)]
    for number, (step, line) in enumerate(IN_THE_MIDDLE_OF.items()):
        output = interrupt_at(store, by_itself if number else store.command("main", **parameters), line)
        assert output.count("re-used the finished run") == max(0, number - 1), output
        assert ("going on from the checkpoint" in output) == (step == "evaluate"), output
        assert "interrupted: nothing is half-made" in output, output
        assert output.count("Traceback") == output.count("Exception ignored in"), output  # Python tells of swallowed ones
        runs = [run for run in store.client.search_runs(["0"]) if run.data.tags["hf_mlops.step"] == step]
        assert all(run.info.status != "FINISHED" for run in runs) and (runs or step == "export")
        versions, aliases = store.state()
        whole = [("hyperforget", 1)] * (number > 1) + [("hyperforget-classifier", 1)] * (number > 3)
        assert versions == whole and len(aliases) == len(whole)
        partial = [path.name for path in tmp_path.rglob("*.partial")]
        assert not partial
    done = store.run("main", **parameters)
    assert done.returncode == 0 and done.stdout.count("re-used the finished run") == 4
    assert (tmp_path / "exported" / "forget-7" / "classifier.onnx").exists()


def interrupt_at(store: Store, command: list[str], beginning: str) -> str:
    """Sends Ctrl-C to a command's whole process group at an output line that starts so, and gives all its output."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=store.environment,
        cwd=store.folder,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            if line.startswith(beginning) and not any(earlier.startswith(beginning) for earlier in lines):
                os.killpg(process.pid, signal.SIGINT)
                late = threading.Timer(60, os.killpg, (process.pid, signal.SIGKILL))
                late.start()
            lines.append(line)
        late.cancel()
        assert process.wait() not in (0, -signal.SIGKILL), "".join(lines)
    return "".join(lines)


@contextmanager
def served(store: Store, model: str) -> Iterator[str]:
    """The address of `mlflow models serve` on a registered model."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["mlflow", "models", "serve", "-m", model, "--env-manager", "local", "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        command,
        env=store.environment,
        cwd=store.folder,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            for _ in range(240):
                try:
                    if requests.get(f"{address}/ping", timeout=1).ok:
                        break
                except requests.ConnectionError:
                    time.sleep(0.25)
            yield f"{address}/invocations"
        finally:
            os.killpg(process.pid, signal.SIGTERM)


@pytest.mark.slow
def test_the_classifier_answers_real_digits_over_http(store: Store, digits: Dataset) -> None:
    with served(store, "models:/hyperforget-classifier@forget-7") as address:
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

    with served(store, "models:/hyperforget@champion") as address:

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
def test_forget_runs_in_an_environment_built_by_uv(store: Store) -> None:
    command = store.command("forget", forget_class="8", max_retain_gap=0.1, max_forget_accuracy=0.2)
    command[command.index("local")] = "uv"
    done = subprocess.run(command, capture_output=True, text=True, env=store.environment, cwd=store.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "models:/hyperforget-classifier@forget-8" in done.stdout
