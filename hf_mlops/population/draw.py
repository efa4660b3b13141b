"""Which groups each run of a population forgets."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_mlops.base.noise import generator_of, seed_of
from hf_mlops.population.config import PopulationConfig

PAIRS_REFERRED_TO = 100  # at most, beside those held out
LARGER_SETS = 7  # drawn of each size from 3 to 5
LEAST_WEIGHT = 1e-3  # of the D_f of a run that forgets in part: less of it leaves nothing to be seen


@dataclass(frozen=True)
class ForgetSets:
    """What the runs of a population forget.

    Args:
        training: of each training run.
        forget_weight: sample weight that D_f keeps in each of them; 0 but for those that forget in part.
        reference: each once: nothing, every single group, pairs, and larger sets. Every one has several retrained targets.
        held_out: pairs of groups, ascending, that no training run forgets together.
    """

    training: Bool[Tensor, "runs groups"]
    forget_weight: Float[Tensor, " runs"]
    reference: Bool[Tensor, "specs groups"]
    held_out: Int[Tensor, "pairs 2"]


def draw_forget_sets(config: PopulationConfig, groups: int) -> ForgetSets:
    """Draws what the runs of a population forget, of this many groups; no set holds all of them."""
    rng = generator_of(seed_of("forget sets", config.seed))
    pairs = list(combinations(range(groups), 2)) if groups > 2 else []
    rng.shuffle(pairs)
    count = round(config.held_out_pairs * len(pairs))
    held_out, shown = sorted(pairs[:count]), pairs[count:]

    shares = np.array(config.set_sizes[:groups])  # a set of all groups would leave nothing to retain
    sizes = rng.choice(len(shares), size=config.runs, p=shares / shares.sum())
    training = [_draw_without(set(held_out), rng.permutation(groups).tolist(), size) for size in sizes.tolist()]

    in_part = rng.random(config.runs) < config.partial
    weights = torch.from_numpy(np.where(in_part & (sizes > 0), LEAST_WEIGHT ** rng.random(config.runs), 0).astype(np.float32))

    larger = [rng.choice(groups, size=size, replace=False) for size in (3, 4, 5) for _ in range(LARGER_SETS) if size < groups]
    singles = [(group,) for group in range(groups)]
    each_once = dict.fromkeys(tuple(sorted(chosen.tolist())) for chosen in larger)
    reference = [(), *singles, *held_out, *shown[:PAIRS_REFERRED_TO], *each_once]
    return ForgetSets(_masks(training, groups), weights, _masks(reference, groups), torch.tensor(held_out).view(-1, 2).long())


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
