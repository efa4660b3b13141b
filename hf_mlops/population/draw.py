"""Which groups each run of a population forgets."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_mlops.base.coverage import holds_of, within_each
from hf_mlops.base.groups import Groups
from hf_mlops.base.noise import generator_of, seed_of
from hf_mlops.population.config import PopulationConfig

REFERRED_TO = 50  # single groups, and pairs with those held out, that have retrained targets, at most
RETRAINED = 400  # targets of the reference of more than ten groups, at most
HELD_OUT = 9  # pairs at most: with many more of them large sets could hardly be drawn
LARGER_SETS = 7  # drawn of each size from 3 to 5 tenths of the groups, or from 3 to 5
NEARLY_ALL = 0.3  # share of the runs that forget a class of several groups, or all of these but one or two
SHOWN = 5  # such classes, whole and all but one of their groups, that have retrained targets
LEAST_WEIGHT = 1e-3  # of the D_f of a run that forgets in part: less of it leaves nothing to be seen


@dataclass(frozen=True)
class ForgetSets:
    """What the runs of a population forget.

    Args:
        training: of each training run.
        forget_weight: sample weight that D_f keeps in each of them; 0 but for those that forget in part.
        reference: each once: nothing, single groups, pairs, and larger sets.
        retrained: how many targets each of these has.
        held_out: pairs of groups, ascending, that no training run forgets together.
    """

    training: Bool[Tensor, "runs groups"]
    forget_weight: Float[Tensor, " runs"]
    reference: Bool[Tensor, "specs groups"]
    retrained: int
    held_out: Int[Tensor, "pairs 2"]


def draw_forget_sets(config: PopulationConfig, groups: Groups) -> ForgetSets:
    """Draws what the runs of a population forget; no set holds all groups.

    Of more than ten groups a size stands for so many tenths of them: 3 for more than two tenths of them, up to three.
    """
    rng, count = generator_of(seed_of("forget sets", config.seed)), len(groups)
    pairs = list(combinations(range(count), 2)) if count > 2 else []
    rng.shuffle(pairs)
    apart = min(round(config.held_out_pairs * len(pairs)), HELD_OUT)
    held_out, shown = sorted(pairs[:apart]), pairs[apart:]

    sizes = _draw_sizes(config, count, rng)
    training = [_draw_without(set(held_out), rng.permutation(count).tolist(), size) for size in sizes.tolist()]
    in_part = rng.random(config.runs) < config.partial
    weights = torch.from_numpy(np.where(in_part & (sizes > 0), LEAST_WEIGHT ** rng.random(config.runs), 0).astype(np.float32))

    tenths = [size * max(count, 10) // 10 for size in (3, 4, 5)]
    drawn = [rng.choice(count, size=size, replace=False) for size in tenths for _ in range(LARGER_SETS) if size < count]
    larger = [tuple(sorted(some.tolist())) for some in drawn]
    singles = [(group,) for group in range(count)]
    if count > REFERRED_TO:
        singles = sorted(singles[group] for group in rng.permutation(count)[:REFERRED_TO].tolist())
    if shared := _in_one_class(groups):
        training = _nearly_whole(training, shared, count, set(held_out), rng)
        larger += [some for own in shared[:SHOWN] for some in (tuple(own), tuple(own[1:]))]
    reference = [(), *singles, *held_out, *shown[: REFERRED_TO - len(held_out)], *dict.fromkeys(larger)]
    retrained = config.reference_runs if count <= 10 else min(config.reference_runs, max(1, RETRAINED // len(reference)))
    pairs_apart = torch.tensor(held_out).view(-1, 2).long()
    return ForgetSets(_masks(training, count), weights, _masks(reference, count), retrained, pairs_apart)


def _draw_sizes(config: PopulationConfig, count: int, rng: np.random.Generator) -> Int[np.ndarray, " runs"]:
    """How many groups each run forgets, of so many."""
    shares = np.array(config.set_sizes[:count])  # a set of all groups would leave nothing to retain
    shares[0] = max(shares[0], shares[1:].sum() / (2**count - 1))  # of two groups a quarter of the runs forgets nothing
    sizes = rng.choice(len(shares), size=config.runs, p=shares / shares.sum())
    return sizes if count <= 10 else np.ceil((sizes - rng.random(config.runs)).clip(0) * count / 10).astype(int)


def _nearly_whole(
    training: list[list[int]], classes: list[list[int]], count: int, apart: set[tuple[int, int]], rng: np.random.Generator
) -> list[list[int]]:
    """Has some runs forget a class of several groups, or all of these but one or two; half of them beside what they forgot."""
    changed = list(training)
    for row in (rng.random(len(training)) < NEARLY_ALL).nonzero()[0].tolist():
        own = rng.permutation(classes[rng.integers(len(classes))])
        beside = training[row] if rng.random() < 0.5 else []
        order = dict.fromkeys([*own[rng.choice([0, 0, 1, 2]) :].tolist(), *beside])
        changed[row] = _draw_without(apart, order, min(len(order), count - 1))
    return changed


def _in_one_class(groups: Groups) -> list[list[int]]:
    """For each class that three or more groups hold, and nothing else, those groups."""
    own = torch.from_numpy(within_each(holds_of(groups)))
    return [row.nonzero()[:, 0].tolist() for row in own if 3 <= row.sum() < len(groups)]


def _draw_without(apart: set[tuple[int, int]], order: Iterable[int], size: int) -> list[int]:
    """The first `size` groups in this order, passing over each that would make a pair that must stay apart."""
    chosen: list[int] = []
    for group in order:
        if len(chosen) < size and not any((min(group, one), max(group, one)) in apart for one in chosen):
            chosen.append(group)
    return chosen


def _masks(sets: Collection[Iterable[int]], groups: int) -> Bool[Tensor, "sets groups"]:
    masks = torch.zeros(len(sets), groups, dtype=torch.bool)
    for mask, chosen in zip(masks, sets, strict=True):
        mask[list(chosen)] = True
    return masks
