"""Start weights: which files they are read from, and whether they are of the population's kind."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import SMALL_POPULATION
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import Tensor

from hf_mlops import Dataset, ForgetSpec, Hypernetwork, Population, Target, retrain, to_onnx
from hf_mlops.base.errors import BadRequest
from hf_mlops.export.weights import read_weights
from hf_mlops.hypernet.spaces import SPACES
from hf_mlops.hypernet.start import FARTHEST, warn_of_foreign
from hf_mlops.population.networks import ARCHITECTURES

SEVEN = ForgetSpec.parse("7", [str(digit) for digit in range(10)])
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def target(digits: Dataset) -> Target:
    return Target.for_dataset("mlp-16", digits)


@pytest.fixture(scope="module")
def weights(target: Target) -> Tensor:
    return target.initial_weights(4)


def write_onnx(file: Path, arrays: dict[str, np.ndarray], **options: object) -> Path:
    """A model that holds these tensors, whatever it may compute."""
    graph = helper.make_graph([], "any", [], [], [numpy_helper.from_array(array, name) for name, array in arrays.items()])
    onnx.save_model(helper.make_model(graph), file, **options)
    return file


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "own_networks:Linear"])
def test_weights_come_back_from_an_onnx_file_and_from_a_state_dict(architecture: str, digits: Dataset, tmp_path: Path) -> None:
    own = Target.for_dataset(architecture, digits)
    weights = own.initial_weights(4)
    data = to_onnx(own, weights, SEVEN, digits.class_names).data
    for name in ("classifier.onnx", "CLASSIFIER.ONNX"):
        (tmp_path / name).write_bytes(data)
    for name in ("classifier.safetensors", "CLASSIFIER.SafeTensors"):
        save_file(own.state_dict(weights), tmp_path / name)
    for file in sorted(tmp_path.iterdir()):
        assert torch.equal(read_weights(file, own), weights)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_cast_and_it_is_said(
    dtype: torch.dtype, target: Target, weights: Tensor, tmp_path: Path
) -> None:
    name, state = str(dtype).removeprefix("torch."), {key: one.to(dtype) for key, one in target.unflatten(weights).items()}
    save_file(state, tmp_path / "start.safetensors")
    arrays = {f"network.{key}": one.float().numpy().astype(onnx_dtype(dtype)) for key, one in state.items()}
    for file in (tmp_path / "start.safetensors", write_onnx(tmp_path / "start.onnx", arrays)):
        with pytest.warns(UserWarning, match=rf"^{file} holds weights of {name}: they were cast to float32$"):
            assert torch.equal(read_weights(file, target), weights.to(dtype).float())


def onnx_dtype(dtype: torch.dtype) -> np.dtype:
    types = {torch.float16: TensorProto.FLOAT16, torch.bfloat16: TensorProto.BFLOAT16, torch.float64: TensorProto.DOUBLE}
    return helper.tensor_dtype_to_np_dtype(types[dtype])


def test_values_that_float32_cannot_hold_are_refused(target: Target, weights: Tensor, tmp_path: Path) -> None:
    save_file({name: tensor.double() * 1e60 for name, tensor in target.unflatten(weights).items()}, tmp_path / "s.safetensors")
    with pytest.warns(UserWarning, match="float64"), pytest.raises(BadRequest, match="that are not finite in float32; allowed"):
        read_weights(tmp_path / "s.safetensors", target)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model.network.", "module.module."])
def test_what_wrappers_put_before_names_is_passed_over(prefix: str, target: Target, weights: Tensor, tmp_path: Path) -> None:
    save_file({prefix + name: tensor for name, tensor in target.unflatten(weights).items()}, tmp_path / "s.safetensors")
    assert torch.equal(read_weights(tmp_path / "s.safetensors", target), weights)


def test_a_name_of_the_networks_own_goes_before_one_behind_a_prefix(tmp_path: Path) -> None:
    shapes = {"model.fc": (2,), "fc": (2,)}
    own = Target("mlp-16", (1, 8, 8), 10, [0.0], [1.0], shapes=shapes, shared={})
    plain = {"fc": torch.tensor([1.0, 2.0]), "model.fc": torch.tensor([3.0, 4.0])}
    for prefix in ("", "module."):
        save_file({prefix + name: tensor for name, tensor in plain.items()}, tmp_path / "s.safetensors")
        assert read_weights(tmp_path / "s.safetensors", own).tolist() == [3, 4, 1, 2]


def test_a_parameter_without_dimensions_may_have_one_of_1_in_a_file(digits: Dataset, tmp_path: Path) -> None:
    own = Target.for_dataset("own_networks:Linear", digits)
    state = own.unflatten(own.initial_weights(2))
    save_file({**state, "temperature": state["temperature"].view(1)}, tmp_path / "s.safetensors")
    assert torch.equal(read_weights(tmp_path / "s.safetensors", own), own.initial_weights(2))


def test_shared_values_that_are_not_the_populations_are_named(digits: Dataset, tmp_path: Path) -> None:
    own = Target.for_dataset("own_networks:frozen", digits, "head.*")
    weights = own.initial_weights(0)
    state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in own.state_dict(weights).items()}
    save_file(state, tmp_path / "same.safetensors")
    with pytest.warns(UserWarning, match="float16") as told:
        read_weights(tmp_path / "same.safetensors", own)
    assert len(told) == 1
    save_file({**own.state_dict(weights), "body.1.running_mean": torch.full((4,), 0.5)}, tmp_path / "s.safetensors")
    with pytest.warns(UserWarning, match=r"than the population's targets share, of body.1.running_mean: they are left out$"):
        assert torch.equal(read_weights(tmp_path / "s.safetensors", own), weights)


def renamed(state: State) -> State:
    return {name.replace("1.", "fc1.").replace("3.", "fc2."): tensor for name, tensor in state.items()}


def transposed(state: State) -> State:
    return {name: tensor.T.contiguous() if tensor.ndim == 2 else tensor for name, tensor in state.items()}


def folded(state: State) -> State:
    return {
        **{name: tensor for name, tensor in state.items() if name != "1.bias"},
        "onnx::MatMul_12": state["1.weight"].T.clone(),
    }


def quantised(state: State) -> State:
    return {**state, "1.weight": (state["1.weight"] * 100).to(torch.int8), "1.weight_scale": torch.tensor(0.01)}


def twice(state: State) -> State:
    return {prefix + name: tensor.clone() for name, tensor in state.items() for prefix in ("module.", "model.")}


def long(state: State) -> State:
    return {f"encoder.layer.{number}.attention.weight": torch.zeros(3, 4) for number in range(200)}


HELD = r"1.weight \(16, 64\), 3.bias \(10,\), 3.weight \(10, 16\)"
NOT_THERE = "1.weight is not there, 1.bias is not there, 3.weight is not there, 3.bias is not there"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed, rf"{NOT_THERE}; it holds fc1.bias \(16,\), fc1.weight \(16, 64\), fc2.bias \(10,\), fc2.weight \(10, 16\)"),
        (transposed, r"1.weight is float32 \(64, 16\), 3.weight is float32 \(16, 10\); it holds .*1.weight \(64, 16\)"),
        (folded, rf"1.bias is not there; it holds {HELD}, onnx::MatMul_12 \(64, 16\)"),
        (quantised, r"1.weight is int8 \(16, 64\); it holds 1.bias \(16,\), .*1.weight_scale \(\)"),
        (twice, "1.weight is there as model.1.weight and as module.1.weight, .*; it holds model.1.bias"),
        (long, rf"{NOT_THERE}; it holds encoder.layer.0.attention.weight \(3, 4\), .* and 192 more"),
        (lambda state: {}, f"{NOT_THERE}; it holds nothing"),
    ],
)
@pytest.mark.parametrize("kind", ["onnx", "safetensors"])
def test_a_file_with_other_weights_is_refused_by_what_it_holds_and_what_is_wanted(
    change: Callable[[State], State], message: str, kind: str, target: Target, weights: Tensor, tmp_path: Path
) -> None:
    file, state = tmp_path / f"start.{kind}", dict(sorted(change(target.unflatten(weights)).items(), key=by_number))
    if kind == "onnx":
        write_onnx(file, {name: tensor.numpy() for name, tensor in state.items()})
    else:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    with pytest.raises(BadRequest) as caught:
        read_weights(file, target)
    text = str(caught.value)
    allowed = "allowed: 1.weight (16, 64), 1.bias (16,), 3.weight (10, 16), 3.bias (10,), each once, of float32, float16,"
    assert text.startswith(f"{file} does not hold the weights of mlp-16: ") and f"{allowed} bfloat16, float64" in text
    assert re.search(message, text), text
    assert "\n" not in text and "got {" not in text and len(text) < 900


def by_number(item: tuple[str, Tensor]) -> tuple[int, str]:
    numbers = re.findall(r"\.(\d+)\.a", item[0])
    return (int(numbers[0]) if numbers else 0, item[0])


def test_quantised_weights_of_a_dtype_that_torch_has_not_are_named(target: Target, tmp_path: Path) -> None:
    tensor = helper.make_tensor("1.weight", TensorProto.INT4, [16, 64], [1] * 1024)
    onnx.save_model(helper.make_model(helper.make_graph([], "any", [], [], [tensor])), tmp_path / "s.onnx")
    with pytest.raises(BadRequest, match=r"1.weight is int4 \(16, 64\), 1.bias is not there"):
        read_weights(tmp_path / "s.onnx", target)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.onnx", "No such file"),
        ("absent.safetensors", "No such file"),
        ("text.onnx", "cannot be read as an ONNX model: Error parsing"),
        ("text.safetensors", "header"),
        ("apart.onnx", "apart.onnx.data"),
        ("folder", "it is a folder"),
    ],
)
def test_a_file_without_weights_is_refused_by_name(name: str, message: str, target: Target, tmp_path: Path) -> None:
    for text in ("text.onnx", "text.safetensors"):
        (tmp_path / text).write_text("no weights")
    (tmp_path / "folder").mkdir()
    apart = {"save_as_external_data": True, "location": "apart.onnx.data", "size_threshold": 0}
    write_onnx(tmp_path / "apart.onnx", {"1.weight": np.zeros((16, 64), np.float32)}, **apart)
    (tmp_path / "apart.onnx.data").unlink()
    with pytest.raises(
        BadRequest, match=rf"{name} holds no weights; allowed: an ONNX or a safetensors file \(.*{message}"
    ) as caught:
        read_weights(tmp_path / name, target)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.pt", "model.PTH", "pytorch_model.bin"])
def test_a_pickle_is_not_read_and_it_is_said_how_to_convert_it(
    name: str, target: Target, weights: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(target.unflatten(weights), tmp_path / name)
    with pytest.raises(
        BadRequest, match=r"is a pickle, which is not read: it may run code; allowed: .onnx, or .safetensors as by"
    ):
        read_weights(tmp_path / name, target)
    with pytest.raises(BadRequest) as caught:
        read_weights(tmp_path / name, target)
    monkeypatch.chdir(tmp_path)
    exec(f"import safetensors.torch, torch; {str(caught.value).split(' as by ')[1]}")
    assert torch.equal(read_weights(tmp_path / "start.safetensors", target), weights)


def test_values_that_are_not_finite_are_refused(target: Target, weights: Tensor, tmp_path: Path) -> None:
    save_file(target.state_dict(weights / 0), tmp_path / "broken.safetensors")
    with pytest.raises(BadRequest, match=r"broken.safetensors holds weights that are not finite in float32; allowed: all"):
        read_weights(tmp_path / "broken.safetensors", target)


@pytest.fixture(scope="module")
def foreign(digits: Dataset) -> Tensor:
    """Targets of three other initialisations, trained as the population's."""
    forgotten = torch.zeros(4, 10, dtype=torch.bool)
    forgotten[1, 3] = forgotten[2, 7] = True
    each = [retrain(replace(SMALL_POPULATION, seed=seed), digits, forgotten, 0, "cpu") for seed in (1, 2, 3)]
    return torch.cat(each)


@pytest.mark.parametrize("space", SPACES)
def test_targets_of_other_initialisations_are_told_from_the_populations_own_by_their_distance(
    space: str, population: Population, foreign: Tensor
) -> None:
    training = population.weights[~population.reference]
    found = SPACES[space].fit(population.target, training, 128, 128)
    own = population.weights[population.reference]  # it has not seen them
    assert found.distances(training).square().mean().item() == pytest.approx(1)
    assert found.distances(own).max() < 0.8 * FARTHEST < 1.15 * FARTHEST < found.distances(foreign).min()


def test_a_sample_near_weights_of_another_initialisation_comes_with_a_warning(
    hypernetwork: Hypernetwork, population: Population, foreign: Tensor
) -> None:
    for start in foreign:
        with pytest.warns(
            UserWarning, match=r"start weights lie \d\.\d times as far .*; usual is up to 2. .*another initialisation\?"
        ):
            hypernetwork.sample("7", start=start)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for start in population.weights[population.reference]:
            warn_of_foreign(hypernetwork.space, start)
        hypernetwork.sample("7", start=population.weights[-1])


def test_a_sample_that_begins_so_near_that_it_keeps_what_they_know_comes_with_a_warning(
    hypernetwork: Hypernetwork, population: Population
) -> None:
    start = population.weights[-1]
    with pytest.warns(UserWarning, match=r"start_time = 0.49: .* still tells which images .*; from 0.5 on it does not"):
        hypernetwork.sample("7", start=start, start_time=0.49)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hypernetwork.sample("7", start=start, start_time=0.5)
        hypernetwork.sample("7", start_time=0.1)  # of no start weights


def test_a_distance_counts_in_root_mean_squares_of_the_training_rows(digits: Dataset) -> None:
    target = Target.for_dataset("mlp-10", digits)
    rows = torch.stack([target.initial_weights(seed) for seed in range(6)])
    for name, width in (("raw", 128), ("latent", 2)):
        space = SPACES[name].fit(target, rows, width, 2)
        squared = (rows - rows.mean(0)).square().sum(1)
        if name == "latent":  # of which two components of five are kept, but the whole variance counts
            torch.testing.assert_close(space.distances(rows).float(), (squared / squared.mean()).sqrt())
        else:  # what its directions drop is not in the scale of a population
            assert (space.distances(rows) >= (squared / squared.mean()).sqrt() - 1e-6).all()
