from __future__ import annotations

import pytest
import torch

from hf_mlops import ForgetSpec, Hypernetwork, Population
from hf_mlops.compute.losses import set_means
from hf_mlops.hypernet.prompts import PromptBook
from hf_mlops.hypernet.signal import LossSignal

SHARE = torch.full((10,), 0.1)


@pytest.fixture(scope="module")
def book(hypernetwork: Hypernetwork) -> PromptBook:
    return hypernetwork.prompts


def spec(text: str) -> ForgetSpec:
    return ForgetSpec.parse(text, [str(digit) for digit in range(10)])


def test_means_are_over_each_set_weighted_by_the_groups_shares() -> None:
    retain, forget = set_means(
        torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[True, False, False]]), torch.tensor([0.5, 0.25, 0.25])
    )
    assert retain.item() == pytest.approx(3)
    assert forget.item() == pytest.approx(1)


def test_dihyfo_2_sees_every_group_and_dihyfo_1_two_losses_and_the_forget_set(population: Population) -> None:
    losses, forgotten = population.losses, population.forgotten
    both = [LossSignal.fit(variant, losses, forgotten, SHARE) for variant in ("dihyfo-1", "dihyfo-2")]
    first, second = (signal(losses, forgotten) for signal in both)
    assert first.shape[1] == both[0].width == 12
    assert second.shape[1] == both[1].width == 10
    assert second.mean(0).abs().max() < 1e-3 and (second.std(0) - 1).abs().max() < 1e-2
    assert set(first[:, 2:].unique().tolist()) == {-1.0, 1.0}
    assert first.isfinite().all()  # also where nothing is forgotten


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown variant 'dihyfo-3'; allowed: dihyfo-1, dihyfo-2"):
        LossSignal.fit("dihyfo-3", torch.ones(1, 10), torch.zeros(1, 10, dtype=torch.bool), SHARE)


@pytest.mark.parametrize("text", ["7", "3,5"])
def test_default_prompts_are_what_retrained_targets_have(text: str, book: PromptBook, population: Population) -> None:
    mask = torch.tensor(spec(text).mask)
    rows = population.reference & population.final & (population.forgotten == mask).all(1)
    retain, forget = set_means(population.losses[rows], population.forgotten[rows], book.share)
    prompt = book.prompt(spec(text))
    assert prompt.retain_loss == pytest.approx(retain.mean().item(), rel=0.2)
    assert prompt.forget_loss == pytest.approx(forget.mean().item(), rel=0.2)


def test_usual_losses_are_those_of_default_prompts(book: PromptBook, population: Population) -> None:
    specs = [ForgetSpec.parse(text, population.groups.names) for text in ("", "7", "3,5", "0,1,2,3,4,5,6,7,8")]
    together = book.usual_losses(torch.tensor([spec.mask for spec in specs]))
    torch.testing.assert_close(together, torch.stack([book.prompt(spec).losses for spec in specs]))


@pytest.mark.parametrize("text", ["7", "3,5"])
def test_the_forget_loss_that_goes_with_a_retain_loss_is_that_of_checkpoints(
    text: str, book: PromptBook, population: Population
) -> None:
    rows = population.reference & (population.forgotten == torch.tensor(spec(text).mask)).all(1)
    retain, forget = set_means(population.losses[rows], population.forgotten[rows], book.share)
    for asked, found in zip(retain.tolist(), forget.tolist(), strict=True):
        assert book.prompt(spec(text), retain_loss=asked).forget_loss == pytest.approx(found, rel=0.2)


def test_a_prompt_has_the_losses_asked_for(book: PromptBook) -> None:
    prompt = book.prompt(spec("7"), retain_loss=0.2, forget_loss=5.0)
    assert prompt.retain_loss == pytest.approx(0.2, rel=1e-3)
    assert prompt.forget_loss == pytest.approx(5.0, rel=1e-3)
    assert prompt.losses[7].item() == pytest.approx(5.0, rel=1e-3)


def test_a_prompt_without_a_forget_set_has_no_forget_loss(book: PromptBook) -> None:
    prompt = book.prompt(spec(""))
    assert prompt.forget_loss != prompt.forget_loss
    with pytest.raises(ValueError, match="forgets nothing"):
        book.prompt(spec(""), forget_loss=5.0)


@pytest.mark.parametrize("loss", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["retain_loss", "forget_loss"])
def test_an_impossible_loss_is_refused(book: PromptBook, name: str, loss: float) -> None:
    with pytest.raises(ValueError, match=f"{name} = {loss} is not allowed; allowed: a finite loss from 0"):
        book.prompt(spec("7"), **{name: loss})


@pytest.mark.parametrize(("name", "loss"), [("retain_loss", 50.0), ("forget_loss", 1000.0), ("retain_loss", 1e-5)])
def test_a_loss_outside_the_training_range_is_clipped_and_the_warning_names_the_range(
    book: PromptBook, name: str, loss: float
) -> None:
    limits = (book.retain_range if name == "retain_loss" else book.forget_range).tolist()
    with pytest.warns(UserWarning, match=f"{name} = .* outside the training range {limits[0]:.4g} to {limits[1]:.4g}: clipped"):
        prompt = book.prompt(spec("7"), **{name: loss})
    assert getattr(prompt, name) == pytest.approx(min(max(loss, limits[0]), limits[1]), rel=1e-3)
