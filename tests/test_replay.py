"""Functions replayed as CUDA graphs: the same results with fewer calls from Python; on a CPU nothing is recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from conftest import SMALL_HYPERNET, SMALL_POPULATION
from torch import Tensor

from hf_mlops import Dataset, Population
from hf_mlops.compute.replay import PLAIN_CALLS, Replayed
from hf_mlops.hypernet.training import Trainer
from hf_mlops.population.chunk import Chunk, train_chunk

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def counted(function: Callable[..., tuple[Tensor, ...]]) -> tuple[Replayed, list[int]]:
    """The function replayed, and the length of its first argument each time that Python calls it."""
    calls: list[int] = []

    def called(*given: Tensor) -> tuple[Tensor, ...]:
        calls.append(len(given[0]))
        return function(*given)

    return Replayed(called), calls


def test_on_a_cpu_every_call_is_plain() -> None:
    replayed, calls = counted(lambda one, other: (one + other, one * other))
    for number in range(6):
        total, product = replayed(torch.full((2,), float(number)), torch.ones(2))
        assert total.tolist() == [number + 1] * 2 and product.tolist() == [number] * 2
    assert calls == [2] * 6


@on_a_gpu
def test_a_graph_follows_its_arguments_and_what_is_changed_in_place() -> None:
    weight = torch.ones(3, device="cuda", requires_grad=True)
    replayed, calls = counted(lambda x: torch.autograd.grad((weight.square() * x).sum(), [weight]))
    for number in range(8):
        (gradient,) = replayed(torch.full((3,), float(number), device="cuda"))
        assert gradient.tolist() == [2.0 * number * (number + 1)] * 3
        with torch.no_grad():
            weight += 1
    assert len(calls) == PLAIN_CALLS + 1


@on_a_gpu
def test_other_shapes_are_not_replayed() -> None:
    replayed, calls = counted(lambda x: (x.sum(),))
    for size in (4, 4, 4, 2, 4, 3, 4):
        assert replayed(torch.ones(size, device="cuda"))[0] == size
    assert calls == [4, 4, 4, 2, 4, 3]


@on_a_gpu
def test_what_cannot_be_recorded_runs_all_the_same() -> None:
    replayed, calls = counted(lambda x: (x * torch.tensor(float(x.sum()), device="cuda"),))
    stream = torch.cuda.current_stream()
    for number in range(8):
        assert replayed(torch.full((2,), float(number), device="cuda"))[0].tolist() == [2.0 * number**2] * 2
    assert len(calls) == 8 + 1 and torch.cuda.current_stream() == stream


@on_a_gpu
def test_targets_are_trained_as_on_a_cpu_and_the_same_each_time(digits: Dataset) -> None:
    config = replace(SMALL_POPULATION, train_steps=40, checkpoints=2)
    chunk = Chunk(torch.eye(10, dtype=torch.bool), torch.zeros(10), 1)
    first, again, on_cpu = (train_chunk(config, digits, chunk, device) for device in ("cuda", "cuda", "cpu"))
    assert torch.equal(first.weights, again.weights)
    assert (first.weights - on_cpu.weights).norm() < 0.02 * (on_cpu.weights - on_cpu.weights.mean(0)).norm()


@on_a_gpu
def test_a_hypernetwork_is_trained_as_on_a_cpu(population: Population, digits: Dataset) -> None:
    def figures(device: str) -> list[float]:
        trainer = Trainer(SMALL_HYPERNET, population, digits, device)
        return [value.item() for _ in range(10) for value in trainer.train_step().values()]

    assert figures("cuda") == pytest.approx(figures("cpu"), rel=0.05)
