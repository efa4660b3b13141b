"""The same requests on the stores that teams run: servers with PostgreSQL or SQLite, artifacts in a folder or on S3, users.

PostgreSQL with artifacts in a folder is what test_faults.py runs on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from click.testing import Result
from commands import Store, options_of, tracking
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from users import server_with_users

from benchmarks.servers import tracking_server
from hf_mlops.base.artifact import sha256
from hf_mlops.registry.models import classifier_of
from hf_mlops.registry.permissions import MANAGE

pytestmark = pytest.mark.slow  # servers are started first

LOOSE = {"n_samples": 1, "max_forget_gap": 1, "max_retain_gap": 1, "max_forget_distance": 1}
CLASSIFIER = "hyperforget-classifier"


@contextmanager
def sqlite_with_users(folder: Path, request: pytest.FixtureRequest, register: Callable[[Path], None]) -> Iterator[str]:
    """As a user who has no more than READ on the hypernetwork, and MANAGE where its own runs are."""
    with server_with_users(folder) as users:
        register(folder)
        users.add("operator", MANAGE)
        yield users.uri("operator")


@contextmanager
def on_postgres_and_s3(folder: Path, request: pytest.FixtureRequest, register: Callable[[Path], None]) -> Iterator[str]:
    """The server alone reaches the bucket."""
    database, environment = request.getfixturevalue("postgres").database("s3"), request.getfixturevalue("s3")
    behind = ("--artifacts-destination", "s3://behind/artifacts")
    started = tracking_server(folder, *behind, database=database, **environment)
    with started as server, tracking(f"http://{server.address}"):
        register(folder)
        yield f"http://{server.address}"


@contextmanager
def with_s3_beside(folder: Path, request: pytest.FixtureRequest, register: Callable[[Path], None]) -> Iterator[str]:
    """The server only says where the bucket is."""
    beside = ("--default-artifact-root", "s3://direct/artifacts")
    with (
        tracking_server(folder, *beside) as server,
        pytest.MonkeyPatch.context() as patch,
        tracking(f"http://{server.address}"),
    ):
        for name, value in request.getfixturevalue("s3").items():
            patch.setenv(name, value)
        register(folder)
        yield f"http://{server.address}"


@pytest.fixture(scope="module", params=[sqlite_with_users, on_postgres_and_s3, with_s3_beside])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, register: Callable[[Path], None]
) -> Iterator[Store]:
    """A store with a champion, and commands in a folder."""
    with request.param(tmp_path_factory.mktemp("server"), request, register) as uri:
        yield Store(tmp_path_factory.mktemp("typed-in"), uri)


@pytest.fixture(autouse=True)
def in_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(store.folder)
    with tracking(store.uri):
        yield


def forget(store: Store, spec: str, **options: object) -> Result:
    done = store.in_process("forget", *options_of({"forget": spec, **LOOSE, **options}))
    assert done.exit_code == 0, done.output
    return done


def at(store: Store, alias: str) -> ModelVersion:
    return store.client.get_model_version_by_alias(CLASSIFIER, alias)


def files(store: Store, version: ModelVersion) -> list[str]:
    place = store.client.get_model_version_download_uri(version.name, version.version)
    return sorted(file.path for file in get_artifact_repository(place).list_artifacts())


def test_a_classifier_is_registered_whole_and_exported_as_it_was_audited(store: Store) -> None:
    forget(store, "7")
    version = at(store, "forget-7")
    assert version.tags["hf_mlops.whole"] == "true" and version.tags["hypernetwork"] == "hyperforget/1"
    assert classifier_of(version).file_digest == version.tags["file_sha256"]
    assert {"model.onnx", "MLmodel"} <= set(files(store, version))
    done = store.in_process("export", *options_of({"forget": "7", "output": "exported"}))
    assert done.exit_code == 0, done.output
    assert sha256(store.folder / "exported" / "forget-7" / "classifier.onnx") == version.tags["file_sha256"]
    model = mlflow.pyfunc.load_model(f"models:/{CLASSIFIER}@forget-7")
    assert model.metadata.get_input_schema() is not None


def test_several_requests_are_answered_in_one_process_and_the_same_again_by_what_is_there(store: Store) -> None:
    forget(store, "3,5|0", requester="Ada")
    made = [str(at(store, alias).version) for alias in ("forget-3-5", "forget-0")]
    assert f"answered    {CLASSIFIER}/{made[1]}, made by the same request before" in forget(store, "0").stdout
    assert store.in_process("requests", "--output=log.csv").exit_code == 0
    rows = pd.read_csv(store.folder / "log.csv", keep_default_na=False).iloc[-3:]
    assert rows["forget"].tolist() == ["3,5", "0", "0"] and rows["requester"].tolist() == ["Ada", "Ada", ""]
    assert rows["outcome"].tolist() == ["registered", "registered", "answered"]
    assert rows["version"].tolist() == [f"{CLASSIFIER}/{number}" for number in (*made, made[1])]


def test_an_alias_goes_back_and_what_is_deployed_says_so(store: Store) -> None:
    forget(store, "1")
    first = str(at(store, "forget-1").version)
    forget(store, "1", seed=1)
    back = store.in_process("rollback", f"--model={CLASSIFIER}", "--forget=1")
    assert back.exit_code == 0 and back.stdout.endswith(f"is version {first} now\n"), back.output
    rows = [line.split() for line in store.in_process("deployed").stdout.splitlines()]
    assert [(row[3], row[4], row[5]) for row in rows if "forget-1" in row] == [(first, "hyperforget/1", "yes")]


def test_a_withdrawn_version_has_neither_files_nor_alias_and_is_not_made_again(store: Store) -> None:
    forget(store, "9")
    version = at(store, "forget-9")
    assert store.in_process("export", "--forget=9", "--output=exported").exit_code == 0
    done = store.in_process("withdraw", f"--version={CLASSIFIER}/{version.version}", "--reason=it is over")
    assert done.exit_code == 0 and "which had forget-9" in done.stdout, done.output
    assert "model.onnx" not in files(store, version) and f"{CLASSIFIER}@forget-9" not in store.state()[1]
    with pytest.raises(MlflowException, match="because: it is over"):
        mlflow.pyfunc.load_model(f"models:/{CLASSIFIER}/{version.version}")
    exported = mlflow.search_runs(
        search_all_experiments=True, filter_string="tags.`hf_mlops.step` = 'export'", output_format="list"
    )
    of_it = [run for run in exported if run.data.params["export.classifier"] == f"{CLASSIFIER}/{version.version}"]
    assert [[file.path for file in store.client.list_artifacts(run.info.run_id)] for run in of_it] == [["audit.json"]]
    assert "because: it is over" in store.refusal("forget", forget="9", **LOOSE)
