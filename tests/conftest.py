"""What several test files share: the digits, and a small population and hypernetwork made once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if "PYTEST_XDIST_WORKER" in os.environ:  # torch's threads of several processes would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

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
