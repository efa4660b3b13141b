"""What is registered is used and served only as it was registered; served, it takes any request, and ends when told to."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pytest
import requests
from commands import store_in
from mlflow.exceptions import MlflowException
from planted import PICKLE

from benchmarks import fuzz
from benchmarks.servers import PATIENCE, Server, answering, container_server, model_server
from hf_mlops import ForgetSpec, Hypernetwork, Reference
from hf_mlops.base.errors import BadRequest, DamagedArtifact
from hf_mlops.export.weights import read_weights
from hf_mlops.registry.checked import SUMS, files_in, require_unaltered
from hf_mlops.registry.hypernetworks import in_torch, load_start, register_hypernetwork
from hf_mlops.registry.models import Champion, classifier_of, load_champion, register_classifier
from hf_mlops.registry.versions import find_version
from hf_mlops.serving.sampler import Wanted
from hf_mlops.steps.export import Export

TEN = tuple("0123456789")
SEVEN = ForgetSpec.of([7], TEN)
HYPERNETWORK, CLASSIFIER = "models:/hyperforget@champion", "models:/hyperforget-classifier@forget-7"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, hypernetwork: Hypernetwork, reference: Reference) -> Iterator[Path]:
    """A store with a champion and the classifier that has forgotten 7."""
    folder = tmp_path_factory.mktemp("store")
    with store_in(folder):
        with mlflow.start_run():
            register_hypernetwork(hypernetwork, reference, TEN, folder / "model", {}, "A test.")
        champion = load_champion()
        weights = champion.onnx.sampler.sample([Wanted(SEVEN)])[0].weights[0]
        with mlflow.start_run():
            register_classifier(champion.onnx.classifier(weights, SEVEN), champion, SEVEN, {}, "")
        yield folder


@pytest.fixture(scope="module")
def champion(store: Path) -> Champion:
    return load_champion()


def folder_of(uri: str) -> Path:
    """Its files in the store itself."""
    return Path(mlflow.artifacts.download_artifacts(uri))


@contextmanager
def altered(file: Path) -> Iterator[None]:
    """One bit in the middle of a file is another."""
    before = file.read_bytes()
    changed = bytearray(before) or bytearray(b"x")
    changed[len(before) // 2] ^= 1
    file.write_bytes(changed)
    try:
        yield
    finally:
        file.write_bytes(before)


def is_refused(message: str | None, *asked: Callable[[], object]) -> None:
    for ask in asked:
        with pytest.raises((DamagedArtifact, MlflowException), match=message and re.escape(message)):
            ask()


def test_a_hypernetwork_of_which_a_single_bit_of_any_file_is_another_is_neither_loaded_nor_served(store: Path) -> None:
    folder = folder_of(HYPERNETWORK)
    names = files_in(folder)
    loaded = [name for name in names if not name.startswith("code/")]
    assert len(names) > 100 and {"MLmodel", "conda.yaml", "pyfunc.py", "artifacts/model/sampler.json"} < set(names)
    for name in [*names, SUMS]:
        with altered(folder / name):
            is_refused("is not what was registered: ", load_champion)
            is_refused("is not what was logged: ", lambda: require_unaltered(folder))
            if name in loaded and name != "MLmodel":  # without a whole one MLflow loads nothing
                is_refused(name if name.startswith("artifacts/") else None, lambda: mlflow.pyfunc.load_model(HYPERNETWORK))
    load_champion()
    mlflow.pyfunc.load_model(HYPERNETWORK)


def test_a_classifier_of_which_a_single_bit_of_any_file_is_another_is_neither_served_nor_exported_nor_stayed_near(
    store: Path, champion: Champion, tmp_path: Path
) -> None:
    folder, version = folder_of(CLASSIFIER), find_version("hyperforget-classifier@forget-7")
    target = in_torch(champion)[0].target
    for name in [*files_in(folder), SUMS]:
        with altered(folder / name):
            is_refused("is not what was registered: ", Export(version, tmp_path).run, lambda: load_start(CLASSIFIER, target))
            if name != "MLmodel":
                is_refused(None, lambda: mlflow.pyfunc.load_model(CLASSIFIER))
    assert not list(tmp_path.iterdir())
    classifier_of(version)
    assert mlflow.pyfunc.load_model(CLASSIFIER).predict(np.zeros((1, 1, 8, 8), np.float32))["logits"].shape == (1, 10)


def test_files_that_match_their_sums_and_not_the_registry_are_used_by_no_command_and_yet_served(
    store: Path, tmp_path: Path
) -> None:
    """Whoever may write to the store can put sums right; the registry's tag they cannot."""
    folder, version = folder_of(CLASSIFIER), find_version("hyperforget-classifier@forget-7")
    before = (folder / "requirements.txt").read_bytes(), (folder / SUMS).read_bytes()
    (folder / "requirements.txt").write_bytes(before[0] + b"\n")
    listed = subprocess.run(["sha256sum", *files_in(folder)], cwd=folder, capture_output=True, check=True).stdout
    (folder / SUMS).write_bytes(listed)
    try:
        mlflow.pyfunc.load_model(CLASSIFIER)
        is_refused(f"the SHA-256 of {SUMS} is ", lambda: classifier_of(version), Export(version, tmp_path).run)
    finally:
        for name, data in zip(("requirements.txt", SUMS), before, strict=True):
            (folder / name).write_bytes(data)


def test_sums_are_what_sha256sum_checks(store: Path) -> None:
    for uri in (HYPERNETWORK, CLASSIFIER):
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=folder_of(uri), check=True)


@pytest.mark.parametrize("name", ["model.pkl", "python_model.pkl", "artifacts/model/hypernetwork.pt", "data.npy"])
def test_a_pickle_that_was_planted_is_refused_and_loaded_by_nothing(name: str, store: Path, tmp_path: Path) -> None:
    for uri, ask in (
        (HYPERNETWORK, load_champion),
        (CLASSIFIER, Export(find_version("hyperforget-classifier@forget-7"), tmp_path).run),
    ):
        planted = folder_of(uri) / name
        made = [folder for folder in planted.parents if not folder.exists()]
        planted.parent.mkdir(parents=True, exist_ok=True)
        planted.write_bytes(PICKLE)
        try:
            is_refused(f"{name} was not there when it was logged", ask, lambda uri=uri: mlflow.pyfunc.load_model(uri))
        finally:
            planted.unlink()
            for folder in made:
                folder.rmdir()


def test_pickles_that_go_by_another_name_are_loaded_by_nothing(champion: Champion, tmp_path: Path) -> None:
    target = in_torch(champion)[0].target
    for name in ("start.safetensors", "start.onnx", "start"):
        (tmp_path / name).write_bytes(PICKLE)
        with pytest.raises(BadRequest, match=f"{name} holds no weights; allowed: an ONNX or a safetensors file"):
            read_weights(tmp_path / name, target)


def test_what_was_registered_before_there_were_sums_is_refused_with_what_to_do(store: Path) -> None:
    client = mlflow.MlflowClient()
    version = find_version("hyperforget-classifier/1")
    client.delete_model_version_tag(version.name, version.version, "files_sha256")
    try:
        is_refused(
            "was registered before there was one; run again what made it",
            lambda: classifier_of(find_version(version.name + "/1")),
        )
    finally:
        client.set_model_version_tag(version.name, version.version, "files_sha256", version.tags["files_sha256"])


# served


@pytest.fixture(scope="module", params=[HYPERNETWORK, CLASSIFIER], ids=["hypernetwork", "classifier"])
def served(request: pytest.FixtureRequest, store: Path) -> Iterator[tuple[Server, fuzz.Served]]:
    kind = fuzz.HYPERNETWORK if request.param == HYPERNETWORK else fuzz.CLASSIFIER
    with model_server(kind.model) as server:
        yield server, kind


@pytest.mark.slow
def test_no_request_is_a_fault_of_the_served_model_and_it_answers_as_before(served: tuple[Server, fuzz.Served]) -> None:
    server, kind = served
    before = fuzz.good(server, kind)
    answers = fuzz.fuzz(server, fuzz.requests_to(kind), 300)
    ours = [text for name, (_, text) in answers.faults.items() if name.startswith("hf_mlops")]
    assert not ours and answers.at(400) > 100 and answers.statuses.total() >= 300
    assert fuzz.good(server, kind) == before


def test_requests_take_short_turns_in_a_server_and_nothing_else_is_changed_by_loading_a_model(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sys.getswitchinterval()
    try:
        mlflow.pyfunc.load_model(HYPERNETWORK)
        assert sys.getswitchinterval() == before
        monkeypatch.setenv("__pyfunc_model_path__", "what a server serves")
        mlflow.pyfunc.load_model(HYPERNETWORK)
        assert sys.getswitchinterval() == pytest.approx(0.0005)
    finally:
        sys.setswitchinterval(before)


HEAVY = {"inputs": ["7"] * 4, "params": {"steps": 500}}  # of all that a request may ask for


@pytest.mark.slow
@pytest.mark.parametrize("serve", [model_server, container_server], ids=["mlflow models serve", "a container"])
def test_sigterm_ends_a_server_once_it_has_answered_what_it_was_asked(store: Path, serve: Callable[[str], Server]) -> None:
    with serve(HYPERNETWORK) as server, ThreadPoolExecutor() as pool:
        process, url = answering(server), f"http://{server.address}/invocations"
        used = process.cpu_times().user
        asked = [pool.submit(requests.post, url, json=HEAVY, timeout=PATIENCE) for _ in range(6)]
        while process.cpu_times().user < used + 0.1 and not all(one.done() for one in asked):  # until it is at work
            time.sleep(0.01)
        os.kill(server.process.pid, signal.SIGTERM)
        assert not all(one.done() for one in asked)
        assert [one.result().status_code for one in asked] == [200] * 6
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://{server.address}/ping", timeout=PATIENCE)
        server.process.wait(PATIENCE)
        psutil.wait_procs([process], PATIENCE)
        assert not process.is_running()
