"""Sampling without torch: the same classifiers as in torch, whatever they are computed with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hf_mlops import Dataset, ForgetSpec, HypernetConfig, Hypernetwork, Population, train_hypernetwork
from hf_mlops.base.artifact import arrays_of
from hf_mlops.export.hypernetwork import to_onnx_hypernetwork
from hf_mlops.serving.hypernetwork import GRAPHS, OnnxHypernetwork
from hf_mlops.serving.prompts import PromptBook
from hf_mlops.serving.sampler import TOGETHER, Samples, Wanted
from hf_mlops.serving.signal import LossSignal, condition

NAMES = tuple("0123456789")
SEVEN, PAIR, NONE = (ForgetSpec.parse(text, NAMES) for text in ("7", "3,5", ""))


@pytest.fixture(scope="module")
def exported(hypernetwork: Hypernetwork) -> OnnxHypernetwork:
    return to_onnx_hypernetwork(hypernetwork, NAMES, "a run")


@pytest.fixture(scope="module")
def latent(population: Population, digits: Dataset) -> Hypernetwork:
    """One that diffuses in latents, is told every group's loss, and has hardly been trained."""
    config = HypernetConfig(variant="dihyfo-2", space="latent", train_steps=2, batch_size=8)
    return train_hypernetwork(config, population, digits, "cpu")


@pytest.fixture(scope="module")
def shares(population: Population, digits: Dataset) -> Hypernetwork:
    """One that is told which share of D_f each group is, and has hardly been trained."""
    return train_hypernetwork(HypernetConfig(shares=True, train_steps=2, batch_size=8), population, digits, "cpu")


def logits(hypernetwork: Hypernetwork, weights: Any, digits: Dataset) -> Tensor:
    return hypernetwork.target.logits(torch.as_tensor(weights), digits.test.images)


@pytest.mark.parametrize("wanted", [Wanted(SEVEN, 5, 3), Wanted(PAIR, 5, 2**40, 10, 0.5, 3.0, "ddpm"), Wanted(NONE, 5, 0, 1)])
@pytest.mark.parametrize("kind", ["hypernetwork", "latent", "shares"])
def test_the_same_seed_gives_the_same_classifier_as_in_torch(
    wanted: Wanted, kind: str, digits: Dataset, request: pytest.FixtureRequest
) -> None:
    in_torch: Hypernetwork = request.getfixturevalue(kind)
    exported = request.getfixturevalue("exported") if kind == "hypernetwork" else to_onnx_hypernetwork(in_torch, NAMES)
    (samples,) = exported.sampler.sample([wanted])
    expected = in_torch.sample(
        wanted.spec, wanted.n, wanted.seed, wanted.steps, wanted.retain_loss, wanted.forget_loss, wanted.sampler
    )
    assert samples.seeds == expected.seeds and samples.prompt.retain_loss == pytest.approx(
        expected.prompt.retain_loss, rel=1e-5
    )
    assert np.abs(samples.weights - expected.weights.numpy()).max() <= 1e-4
    own, other = (logits(in_torch, weights, digits) for weights in (samples.weights, expected.weights))
    top = own.topk(2, -1).values
    ties = top[..., 0] - top[..., 1] < 1e-3
    assert ((own.argmax(-1) == other.argmax(-1)) | ties).all() and ties.float().mean() < 0.01


def test_a_sample_is_the_same_to_the_last_bit_whatever_is_computed_with_it(exported: OnnxHypernetwork) -> None:
    several = exported.sampler.sample([Wanted(SEVEN, TOGETHER + 5, 10, 3)])[0].weights
    for count in (1, 2, 3, 7):
        alone = exported.sampler.sample([Wanted(SEVEN, count, 12, 3)])[0].weights
        assert np.array_equal(alone, several[2 : 2 + count])
    mixed = exported.sampler.sample([Wanted(PAIR, 3, 1, 2), Wanted(SEVEN, 4, 12, 3), Wanted(NONE), Wanted(SEVEN, 1, 15, 3)])
    assert [len(samples.weights) for samples in mixed] == [3, 4, 1, 1]
    assert np.array_equal(mixed[1].weights, several[2:6]) and np.array_equal(mixed[3].weights, several[5:6])
    in_threads = replace(exported.sampler, threads=3).sample([Wanted(SEVEN, TOGETHER + 5, 10, 3)])[0].weights
    in_one = replace(exported.sampler, threads=1).sample([Wanted(SEVEN, TOGETHER + 5, 10, 3)])[0].weights
    assert np.array_equal(in_threads, several) and np.array_equal(in_one, several)


def test_nothing_wanted_is_nothing_sampled(exported: OnnxHypernetwork) -> None:
    assert exported.sampler.sample([]) == []


def test_it_comes_back_from_disk_and_samples_the_same(exported: OnnxHypernetwork, tmp_path: Path) -> None:
    exported.save(tmp_path)
    again = OnnxHypernetwork.read(tmp_path)
    assert (again.groups, again.class_names, again.made_by) == (exported.groups, NAMES, "a run")

    def drawn(some: OnnxHypernetwork) -> Samples:
        return some.sampler.sample([Wanted(PAIR, 2, retain_loss=0.3)])[0]

    assert np.array_equal(drawn(again).weights, drawn(exported).weights)
    classifiers = [some.classifier(drawn(some).weights[0], PAIR) for some in (again, exported)]
    assert classifiers[0].data == classifiers[1].data and classifiers[0].metadata["hypernetwork"] == "a run"
    for name in GRAPHS:
        file = tmp_path / f"{name}.onnx"
        whole = file.read_bytes()
        file.write_bytes(whole[:-1])
        with pytest.raises(ValueError, match=f"{name}.onnx is truncated or was altered"):
            OnnxHypernetwork.read(tmp_path)
        file.unlink()
        with pytest.raises(ValueError, match=f"{name}.onnx cannot be read"):
            OnnxHypernetwork.read(tmp_path)
        file.write_bytes(whole)


def test_the_graphs_say_nothing_of_the_machine_that_they_were_exported_on(exported: OnnxHypernetwork) -> None:
    for graph in exported.graphs.values():
        assert b".py" not in graph and str(Path.cwd()).encode() not in graph


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n_samples = 0 is not allowed; allowed: 1 to 10000"),
        ({"seed": 2**62, "n": 2}, "seed = 4611686018427387904 is not allowed; allowed: 0 to 4611686018427387903"),
        ({"steps": 1001}, "steps = 1001 is not allowed; allowed: 1 to 1000"),
        ({"sampler": "euler"}, "unknown sampler 'euler'; allowed: ddim, ddpm"),
    ],
)
def test_what_cannot_be_wanted_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Wanted(SEVEN, **arguments)


def test_prompts_and_signals_of_numpy_arrays_are_those_of_tensors(hypernetwork: Hypernetwork) -> None:
    book = PromptBook(**arrays_of(hypernetwork.prompts))
    signal = LossSignal("dihyfo-1", **arrays_of(hypernetwork.signal))
    for spec, asked in ((SEVEN, {}), (PAIR, {"retain_loss": 0.4, "forget_loss": 2.0}), (NONE, {"retain_loss": 0.3})):
        own, expected = book.prompt(spec, **asked), hypernetwork.prompts.prompt(spec, **asked)
        assert isinstance(own.losses, np.ndarray) and own.losses.dtype == np.float32
        np.testing.assert_allclose(own.losses, expected.losses.numpy(), rtol=1e-5)
        forgotten = np.array([spec.mask])
        told = condition(signal, 3, own.losses[None], forgotten, np.array([2]))
        in_torch = (torch.from_numpy(array) for array in (own.losses[None], forgotten, np.array([2])))
        np.testing.assert_allclose(told, condition(hypernetwork.signal, 3, *in_torch).numpy(), rtol=1e-5, atol=1e-6)
        assert told[0, -3:].tolist() == [0, 0, 1]
