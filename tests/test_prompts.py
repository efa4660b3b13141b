"""Prompts of small books whose numbers are worked out by hand; those of a trained one are in test_hypernetwork.py."""

from __future__ import annotations

import warnings
from math import exp, log

import pytest
import torch
from torch import Tensor

from hf_mlops import ForgetSpec
from hf_mlops.base.errors import BadRequest
from hf_mlops.serving.prompts import PromptBook, _powers

SHARE = torch.tensor([0.5, 0.25, 0.25])
ALONE, TOGETHER = torch.tensor(False), torch.tensor(True)  # features without pairs and with them
APART = torch.eye(3).bool(), ALONE  # three groups that are classes


def loss(log: float) -> float:
    """The loss, nats, that enters as this log loss."""
    return exp(log) - 0.001


def losses(*logs: list[float]) -> Tensor:
    return torch.tensor([[loss(log) for log in row] for row in logs])


def spec(*groups: int) -> ForgetSpec:
    return ForgetSpec.of(groups, "abc")


@pytest.fixture
def book() -> PromptBook:
    """Of three groups, whose usual log losses are -1, -1 and -2 where retained, 1, 2 and 3 where forgotten.

    Along the course of training group 1 goes half as far as D_r where retained; group 2 is quadratic where forgotten.
    """
    usual, course = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    usual[:, :, -1] = torch.tensor([[-1.0, -1.0, -2.0], [1.0, 2.0, 3.0]])
    course[0, :, 3] = torch.tensor([1.0, 0.5, 1.0])
    course[1, 2] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    return PromptBook(SHARE, *APART, usual, course, torch.tensor([0.01, 4.0]), torch.tensor([2.0, 40.0]))


def test_the_course_is_a_sum_of_squares_and_distances_also_times_the_number_of_groups_forgotten() -> None:
    forgotten = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])
    powers = [[8.0, 4.0, 4.0, 2.0], [27.0, 9.0, -9.0, -3.0], [0.0, 1.0, 0.0, -1.0]]
    assert _powers(torch.tensor([2.0, -3.0, -1.0]), forgotten).tolist() == powers


def test_usual_losses_follow_from_the_groups_forgotten() -> None:
    usual = torch.zeros(2, 3, 4)
    usual[0, 0] = torch.tensor([9.0, 0.5, 0.25, 7.75])  # of each group 1 if it is forgotten, else -1, and a constant
    usual[1, 2] = torch.tensor([-1.0, 0.5, 1.0, 3.5])
    book = PromptBook(SHARE, *APART, usual, torch.zeros(2, 3, 4), torch.zeros(2), torch.ones(2))
    forgotten = torch.tensor([[False, False, False], [False, True, False], [False, True, True]])
    expected = losses([-2.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [-0.5, 0.0, 6.0])
    torch.testing.assert_close(book.usual_losses(forgotten), expected)
    for row, one in zip(expected, (spec(), spec(1), spec(1, 2)), strict=True):
        torch.testing.assert_close(book.prompt(one).losses, row)


@pytest.mark.parametrize(("groups", "expected"), [(2, [[-1.0, 2.3]]), (3, [[-1.0, 2.3, -1.0]])])
def test_usual_losses_follow_from_pairs_where_the_book_has_them(groups: int, expected: list[list[float]]) -> None:
    """Group 1 where it is forgotten: 2 of the constant, and 1 of the pair with group 0, whose feature is 0.3."""
    usual = torch.zeros(2, groups, groups + groups * (groups - 1) // 2 + 1)
    usual[:, :, -1] = torch.tensor([[-1.0], [-1.0]])
    usual[1, 1, groups], usual[1, 1, -1] = 1.0, 2.0
    book = PromptBook(
        torch.full((groups,), 1 / groups),
        torch.eye(groups).bool(),
        TOGETHER,
        usual,
        torch.zeros(2, groups, 4),
        torch.ones(2),
        torch.ones(2),
    )
    forgotten = torch.tensor([[True, True, False][:groups]])
    torch.testing.assert_close(book.usual_losses(forgotten), losses(*expected))


def test_the_means_of_a_prompt_are_over_the_data(book: PromptBook) -> None:
    prompt = book.prompt(spec(2))
    assert prompt.losses.tolist() == pytest.approx([loss(-1), loss(-1), loss(3)], rel=1e-5)
    assert prompt.retain_loss == pytest.approx(loss(-1), rel=1e-5)
    assert prompt.forget_loss == pytest.approx(loss(3), rel=1e-5)
    nothing = book.prompt(spec())
    assert nothing.retain_loss == pytest.approx(0.75 * loss(-1) + 0.25 * loss(-2), rel=1e-5)
    assert nothing.forget_loss != nothing.forget_loss


def test_another_loss_on_the_retain_set_moves_all_losses_along_the_course(book: PromptBook) -> None:
    """The log loss on D_r is to be 1 instead of -1, so x = 2 and, with one group forgotten, n = 1.

    Group 2 goes from 3 to 3 + (0.1 + 0.2) 4 + (0.3 + 0.4) 2 = 5.6; groups 0 and 1 from -1 to 1 and to 0, and then both are
    scaled so that their mean is what was asked for.
    """
    prompt = book.prompt(spec(2), retain_loss=loss(1))
    scale = loss(1) / ((2 * loss(1) + loss(0)) / 3)
    assert prompt.losses.tolist() == pytest.approx([loss(1) * scale, loss(0) * scale, loss(5.6)], rel=1e-5)
    assert prompt.retain_loss == pytest.approx(loss(1), rel=1e-5)
    assert prompt.forget_loss == pytest.approx(loss(5.6), rel=1e-5)


def test_the_course_depends_on_how_many_groups_are_forgotten(book: PromptBook) -> None:
    """n = 2: group 2 goes from 3 to 3 + (0.2 + 0.2) 4 + (0.6 + 0.4) 2 = 6.6; group 1 has no course where it is forgotten."""
    prompt = book.prompt(spec(1, 2), retain_loss=loss(1))
    assert prompt.losses.tolist() == pytest.approx([loss(1), loss(2), loss(6.6)], rel=1e-5)


@pytest.mark.parametrize("asked", [5.0, 40.0])
def test_losses_go_as_far_towards_those_of_knowing_everything_as_the_one_asked_for_on_the_forget_set(
    book: PromptBook, asked: float
) -> None:
    """On the way of its log from what is usual to what is if nothing is forgotten, -1, -1, -2; beyond, losses are scaled."""
    book.usual[0, 0] = torch.tensor([0.0, 0.2, 0.0, -0.8])  # forgetting group 1 makes group 0 worse, by 0.4
    book.forget_range[0] = 0.1
    prompt = book.prompt(spec(1, 2), forget_loss=asked)
    logs = [log(some + 0.001) for some in (asked, (loss(2) + loss(3)) / 2, (loss(-1) + loss(-2)) / 2)]
    known = max((logs[0] - logs[1]) / (logs[2] - logs[1]), 0)
    first, second = loss(2 - 3 * known), loss(3 - 5 * known)
    scale = asked / ((first + second) / 2)
    expected = [loss(-1 + 0.4 * (1 - known)), first * scale, second * scale]
    assert prompt.losses.tolist() == pytest.approx(expected, rel=1e-4)
    assert prompt.forget_loss == pytest.approx(asked, rel=1e-5)
    assert prompt.retain_loss == pytest.approx(expected[0], rel=1e-4)


def test_who_knows_all_of_the_forget_set_has_the_losses_of_forgetting_nothing(book: PromptBook) -> None:
    book.usual[0, 0, 1], book.forget_range[0] = 0.4, 0.1
    everything = book.prompt(spec()).losses
    prompt = book.prompt(spec(1, 2), forget_loss=everything[1:].mean().item())
    torch.testing.assert_close(prompt.losses, everything)


def test_losses_can_be_asked_for_on_both_sets(book: PromptBook) -> None:
    prompt = book.prompt(spec(1, 2), retain_loss=0.5, forget_loss=5.0)
    assert (prompt.retain_loss, prompt.forget_loss) == pytest.approx((0.5, 5), rel=1e-5)


def test_losses_of_0_become_what_is_asked_for() -> None:
    usual = torch.zeros(2, 3, 4)
    usual[:, :, -1] = -20.0
    nothing = PromptBook(SHARE, *APART, usual, torch.zeros(2, 3, 4), torch.tensor([0.0, 4.0]), torch.tensor([0.0, 4.0]))
    assert nothing.prompt(spec(1)).losses.tolist() == [0, 0, 0]
    assert nothing.prompt(spec(1), retain_loss=0.5, forget_loss=0.25).losses.tolist() == pytest.approx([0.5, 0.25, 0.5])


@pytest.mark.parametrize(("lowest", "losses"), [(0.2, [0.15, 0.3]), (0.05, [0.075, 0.15])])
def test_a_usual_loss_on_the_retain_set_is_no_lower_than_that_of_any_run(lowest: float, losses: list[float]) -> None:
    """Of a set far larger than runs forgot, whose two groups left have usual losses of 0.075 and 0.15, so 0.1 on average."""
    usual = torch.zeros(2, 4, 5)
    usual[:, :, -1] = torch.tensor([log(0.075 + 0.001), log(0.15 + 0.001), 1.0, 1.0])
    share = torch.tensor([0.5, 0.25, 0.125, 0.125])
    limits = torch.tensor([lowest, 4.0]), torch.tensor([0.0, 40.0])
    book = PromptBook(share, torch.eye(4).bool(), ALONE, usual, torch.zeros(2, 4, 4), *limits)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prompt = book.prompt(ForgetSpec.of((2, 3), "abcd"))
    assert prompt.retain_loss == pytest.approx(max(lowest, 0.1), rel=1e-5)
    assert prompt.losses.tolist() == pytest.approx([*losses, exp(1) - 0.001, exp(1) - 0.001], rel=1e-5)


@pytest.mark.parametrize("asked", [5.0, 123.456])
def test_a_forget_loss_is_refused_as_it_was_asked_for_where_nothing_is_forgotten(book: PromptBook, asked: float) -> None:
    """123.456 is outside the training range: it is neither clipped nor warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BadRequest, match=f"^forget_loss = {asked} was asked for, but the forget spec '' forgets nothing$"):
            book.prompt(spec(), forget_loss=asked)


@pytest.mark.parametrize("asked", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize(("name", "best"), [("retain_loss", "0.01 to 4"), ("forget_loss", "2 to 40")])
def test_an_impossible_loss_is_refused(book: PromptBook, name: str, best: str, asked: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} = {asked} is not allowed; allowed: a finite loss from 0, best {best}$"):
        book.prompt(spec(1), **{name: asked})


@pytest.mark.parametrize(
    ("name", "asked", "used", "text"),
    [
        ("retain_loss", 0.0, 0.01, "retain_loss = 0 lies outside the training range 0.01 to 4: clipped to 0.01"),
        ("retain_loss", 4.5, 4.0, "retain_loss = 4.5 lies outside the training range 0.01 to 4: clipped to 4"),
        ("forget_loss", 1.5, 2.0, "forget_loss = 1.5 lies outside the training range 2 to 40: clipped to 2"),
        ("forget_loss", 123.456, 40.0, "forget_loss = 123.5 lies outside the training range 2 to 40: clipped to 40"),
    ],
)
def test_a_loss_outside_the_training_range_is_clipped_with_a_warning(
    book: PromptBook, name: str, asked: float, used: float, text: str
) -> None:
    with pytest.warns(UserWarning) as caught:
        prompt = book.prompt(spec(1), **{name: asked})
    assert [str(one.message) for one in caught] == [text]
    assert getattr(prompt, name) == pytest.approx(used, rel=1e-5)


@pytest.mark.parametrize("asked", [2.0, 40.0])
def test_the_ends_of_the_range_can_be_asked_for(book: PromptBook, asked: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert book.prompt(spec(1), forget_loss=asked).forget_loss == pytest.approx(asked, rel=1e-5)


def test_a_book_learns_usual_losses_from_the_ends_of_runs_and_the_course_from_all_checkpoints() -> None:
    """Four runs that forget nothing or group 1; the log loss of group 0 is -2 at the end of all, that of group 1 is -2 or 1.

    Two checkpoints of the last run are one above and one below the usual log loss on D_r, which is group 0 there: x = 1, -1.
    Group 0 is off its usual log loss by just that. Group 1 is off by 0.5 and 0.3: their odd part, 0.1 x, is not penalised, and
    the even part, 0.4 x², is shared by the two coefficients of x² under a penalty: y = 2 * 0.4 / (2 * 2 + 1) each.
    """
    at_end = [[-2.0, -2.0], [-2.0, -2.0], [-2.0, 1.0], [-2.0, 1.0]]
    forgotten = torch.tensor([[False, False]] * 2 + [[False, True]] * 4)
    final = torch.tensor([True] * 4 + [False] * 2)
    share = torch.tensor([0.25, 0.75])
    rows = losses(*at_end, [-1.0, 1.5], [-3.0, 1.3])
    book = PromptBook.fit(rows, forgotten, final, torch.ones(6, dtype=torch.bool), share, torch.eye(2).bool(), TOGETHER)

    torch.testing.assert_close(book.share, share)
    usual = torch.zeros(2, 2, 4)  # of group 0, of group 1, of both, constant
    usual[0, 0, 3], usual[0, 1, 3], usual[1, 1, 3] = -2.0, -2.0, 1.0
    torch.testing.assert_close(book.usual, usual, rtol=0, atol=1e-4)
    course = torch.zeros(2, 2, 4)
    course[0, 0, 3] = 1.0
    course[1, 1] = torch.tensor([0.16, 0.16, 0.0, 0.1])
    torch.testing.assert_close(book.course, course, rtol=0, atol=1e-4)
    torch.testing.assert_close(book.retain_range, torch.tensor([loss(-3), loss(-1)]))
    torch.testing.assert_close(book.forget_range, torch.tensor([loss(1), loss(1.5)]))


def test_a_run_that_forgot_in_part_only_widens_what_can_be_asked_for() -> None:
    forgotten = torch.tensor([[False, False], [False, True], [False, True], [False, True]])
    rows, final = losses([-2.0, -2.0], [-2.0, 1.0], [-1.0, 1.5], [-2.0, -0.5]), torch.tensor([True, True, False, True])
    without, share = torch.tensor([True, True, True, False]), torch.tensor([0.5, 0.5])
    book = PromptBook.fit(rows, forgotten, final, without, share, torch.eye(2).bool(), TOGETHER)
    others = PromptBook.fit(
        *(tensor[without] for tensor in (rows, forgotten, final, without)), share, torch.eye(2).bool(), TOGETHER
    )
    torch.testing.assert_close(book.usual, others.usual)
    torch.testing.assert_close(book.course, others.course)
    torch.testing.assert_close(book.retain_range, others.retain_range)
    torch.testing.assert_close(book.forget_range, torch.tensor([loss(-0.5), loss(1.5)]))


def test_what_a_group_forgotten_does_to_another_is_penalised() -> None:
    """Group 0 has a log loss of -2 in two runs and of -1 in the two that forget group 1.

    Least squares would say half of that up and half of it down from -1.5. Under a penalty it is 0.4: 4 * 0.5 / (4 + 1).
    """
    forgotten = torch.tensor([[False, False], [False, False], [False, True], [False, True]])
    ends = losses([-2.0, 0.0], [-2.0, 0.0], [-1.0, 1.0], [-1.0, 1.0])
    everything = torch.ones(4, dtype=torch.bool)
    book = PromptBook.fit(ends, forgotten, everything, everything, torch.tensor([0.5, 0.5]), torch.eye(2).bool(), TOGETHER)
    torch.testing.assert_close(book.usual[0, 0], torch.tensor([0.0, 0.4, 0.0, -1.5]), rtol=0, atol=1e-4)
