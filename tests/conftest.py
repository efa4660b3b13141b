"""What several test files share: the digits, and a small population and hypernetwork made once."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if "PYTEST_XDIST_WORKER" in os.environ:  # torch's threads of several processes would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"  # of all tests, and of the processes that they start

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook
from typechecks import CHECKED

settings.register_profile("gate", deadline=None, derandomize=True, database=None)  # no timing and no chance decides a test
settings.load_profile("gate")
install_import_hook(CHECKED, "typechecks.typechecked")  # every call is held against its annotations, shapes included

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from benchmarks.servers import Postgres

from hf_mlops import (
    Dataset,
    HypernetConfig,
    Hypernetwork,
    Population,
    PopulationConfig,
    Reference,
    load_dataset,
    train_hypernetwork,
    train_population,
)

SMALL_POPULATION = PopulationConfig(runs=384, train_steps=250, reference_runs=2)
SMALL_HYPERNET = HypernetConfig(train_steps=500, batch_size=64)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, those with most of them before others: so none is left to one worker in the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def population(digits: Dataset) -> Population:
    return train_population(SMALL_POPULATION, digits, "cpu")


@pytest.fixture(scope="session")
def reference(population: Population, digits: Dataset) -> Reference:
    return Reference.of(population, digits)


@pytest.fixture(scope="session")
def hypernetwork(population: Population, digits: Dataset) -> Hypernetwork:
    return train_hypernetwork(SMALL_HYPERNET, population, digits, "cpu")


@pytest.fixture
def random_weights(population: Population) -> torch.Tensor:
    return torch.randn(5, population.target.size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    """A fresh MLflow store of the module's own."""
    from commands import store_in

    with store_in(tmp_path_factory.mktemp("store")) as client:
        yield client


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of an empty store: to make one takes seconds."""
    import mlflow

    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def store(empty: Path, tmp_path: Path) -> Iterator[MlflowClient]:
    """A fresh MLflow store for each test."""
    from commands import store_in

    shutil.copy(empty, tmp_path / "mlflow.db")
    with store_in(tmp_path) as client:
        yield client


@pytest.fixture(scope="module")
def register(digits: Dataset) -> Callable[[Path], None]:
    """Registers a hypernetwork that has learnt next to nothing, in the store of the moment; its files lie in a folder."""
    from commands import TINY

    from hf_mlops.registry import hypernetworks
    from hf_mlops.registry.runs import step_run

    population = train_population(PopulationConfig(**TINY), digits, "cpu")
    hypernetwork = train_hypernetwork(HypernetConfig(train_steps=20), population, digits, "cpu")
    reference = Reference.of(population, digits)
    exported = hypernetworks.to_onnx_hypernetwork(hypernetwork, digits.class_names, "r1")  # once: it takes seconds

    def register(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch, step_run("hypernet", "f", {}):
            patch.setattr(hypernetworks, "to_onnx_hypernetwork", lambda *rest: exported)
            about = (hypernetwork, reference, digits.class_names, folder / "model", {}, "A test.")
            hypernetworks.register_hypernetwork(*about)

    return register


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """PostgreSQL, where this machine has it."""
    from benchmarks.servers import Postgres, postgres_programs

    try:
        postgres_programs()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with Postgres() as postgres:
        yield postgres


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """The environment of a user of an object store with the buckets `behind` and `direct`.

    The store lets everybody do everything, until it asks for rights (`/moto-api/reset-auth`): the user has that to read.
    """
    import boto3

    from benchmarks.servers import object_store

    with object_store() as server:
        endpoint = f"http://{server.address}"
        known = {"aws_access_key_id": "anybody", "aws_secret_access_key": "anything", "region_name": "us-east-1"}
        for bucket in ("behind", "direct"):
            boto3.client("s3", endpoint_url=endpoint, **known).create_bucket(Bucket=bucket)
        iam = boto3.client("iam", endpoint_url=endpoint, **known)
        iam.create_user(UserName="reader")
        rule = {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*", "s3:Head*"], "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
        iam.put_user_policy(UserName="reader", PolicyName="to-read", PolicyDocument=policy)
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        keys = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
        boto3.setup_default_session()  # the one before remembers the keys of the object store before
        yield {**keys, "AWS_DEFAULT_REGION": "us-east-1", "MLFLOW_S3_ENDPOINT_URL": endpoint}
