"""Training images dealt out to customers, or each class in pieces: what data that no customer is known of are tried with."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from hf_mlops.base.errors import BadRequest
from hf_mlops.base.noise import seed_of
from hf_mlops.data.dataset import LIMIT, TOO_MANY

LEAST = 10  # images of a customer
DRAWS = 1000  # of shares, until each customer has so many
ALPHAS = (0.01, 1000.0)  # under it shares are too small to be told from 0

Labels = Int64[np.ndarray, " images"]  # of the training images: their classes, or their groups


@runtime_checkable
class Partition(Protocol):
    """A way to deal out training images."""

    def deal(self, source: str, labels: Labels, class_names: Sequence[str]) -> tuple[tuple[str, ...], Labels]:
        """Names of the G groups, and the group of each image.

        Args:
            source: what errors call the data set and its grouping.

        Raises:
            BadRequest: too few images for so many groups.
        """
        ...


@dataclass(frozen=True)
class Shards:
    """Customers of equal size, drawn at random."""

    count: int
    form: ClassVar[str] = "shard:K"

    def deal(self, source: str, labels: Labels, class_names: Sequence[str]) -> tuple[tuple[str, ...], Labels]:
        """As in `Partition`; sizes differ by one image at most."""
        if self.count > len(labels):
            raise BadRequest(f"{source}: {len(labels)} training images are too few; allowed: K up to their number")
        return _customers(self.count), _cut(stream("shard"), np.arange(len(labels)), self.count)


@dataclass(frozen=True)
class Dirichlet:
    """Customers whose labels are skewed: the share of each class that a customer has is drawn from a Dirichlet distribution.

    All shares are drawn again until each customer has `LEAST` images. After Hsu, Qi and Brown, "Measuring the effects of
    non-identical data distribution for federated visual classification" (2019), class by class as in Li et al., "Federated
    learning on non-IID data silos" (2022).

    Args:
        alpha: concentration: about equal shares from 100 on, one customer for most of a class at 0.1.
    """

    count: int
    alpha: float
    form: ClassVar[str] = "dirichlet:K:ALPHA"

    def deal(self, source: str, labels: Labels, class_names: Sequence[str]) -> tuple[tuple[str, ...], Labels]:
        """As in `Partition`."""
        sizes = np.bincount(labels, minlength=len(class_names))
        random = stream("dirichlet")
        for _ in range(DRAWS if self.count * LEAST <= len(labels) else 0):
            shares = random.dirichlet([self.alpha] * self.count, len(sizes))  # (classes, customers)
            ends = np.floor(shares.cumsum(1) * sizes[:, None]).astype(int)
            ends[:, -1] = sizes
            if np.diff(ends, prepend=0).sum(0).min() >= LEAST:
                break
        else:
            raise BadRequest(
                f"{source}: of {len(labels)} training images some customer has fewer than {LEAST}, in each of {DRAWS} draws;"
                " allowed: fewer customers, or a larger ALPHA"
            )
        groups = np.empty_like(labels)
        for label, until in enumerate(ends):
            own = np.flatnonzero(labels == label)
            groups[own[random.permutation(len(own))]] = np.searchsorted(until, np.arange(len(own)), side="right")
        return _customers(self.count), groups


@dataclass(frozen=True)
class ClassShards:
    """Each class in pieces of equal size, drawn at random: `7.0`, `7.1` and so on."""

    count: int
    form: ClassVar[str] = "class-shard:K"

    def deal(self, source: str, labels: Labels, class_names: Sequence[str]) -> tuple[tuple[str, ...], Labels]:
        """As in `Partition`; a class's sizes differ by one image at most."""
        if self.count * len(class_names) > LIMIT:
            raise BadRequest(f"{source}: {len(class_names)} classes make {self.count * len(class_names)} groups; {TOO_MANY}")
        groups, random = np.empty_like(labels), stream("class-shard")
        for label, name in enumerate(class_names):
            own = np.flatnonzero(labels == label)
            if self.count > len(own):
                raise BadRequest(
                    f"{source}: the class {name!r} has {len(own)} training images; allowed: K up to the number of each class"
                )
            groups[own] = label * self.count + _cut(random, own, self.count)
        return tuple(f"{name}.{shard}" for name in class_names for shard in range(self.count)), groups


FORMS = tuple(kind.form for kind in (Shards, Dirichlet, ClassShards))


def parse_partition(text: str) -> Partition | None:
    """`shard:20`, `dirichlet:10:0.3` or `class-shard:5`; nothing for text of another form.

    Raises:
        BadRequest: a number that is not allowed.
    """
    kind, *numbers = text.split(":")
    match kind, len(numbers):
        case "shard", 1:
            return Shards(_count(text, numbers[0]))
        case "class-shard", 1:
            return ClassShards(_count(text, numbers[0]))
        case "dirichlet", 2:
            return Dirichlet(_count(text, numbers[0]), _alpha(text, numbers[1]))
    return None


def stream(purpose: str) -> np.random.RandomState:
    """A stream of its own for each purpose, the same in every NumPy: one that poison shared would lay it into one shard."""
    return np.random.RandomState(seed_of("grouping", purpose) % 2**32)


def _customers(count: int) -> tuple[str, ...]:
    return tuple(f"customer {number}" for number in range(count))


def _cut(random: np.random.RandomState, images: Labels, count: int) -> Labels:
    """The piece of each image: pieces of equal size, drawn at random."""
    pieces = np.empty_like(images)
    pieces[random.permutation(len(images))] = np.arange(len(images)) % count
    return pieces


def _count(text: str, number: str) -> int:
    count = int(number) if re.fullmatch("[0-9]{1,9}", number) else 0
    if count < 2:
        raise BadRequest(f"groups={text}: K = {number!r} is not allowed; allowed: a whole number from 2 to {LIMIT}")
    if count > LIMIT:
        raise BadRequest(f"groups={text}: {count} are too many groups; {TOO_MANY}")
    return count


def _alpha(text: str, number: str) -> float:
    try:
        alpha = float(number)
    except ValueError:
        alpha = math.nan
    least, most = ALPHAS
    if not least <= alpha <= most:
        raise BadRequest(f"groups={text}: ALPHA = {number!r} is not allowed; allowed: a number from {least:g} to {most:g}")
    return alpha
