"""Poison in the training images, as an attacker would lay it: what a classifier has to forget once it is found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from hf_mlops.base.errors import BadRequest
from hf_mlops.data.dataset import Split
from hf_mlops.data.partitions import stream

SHARES = {"patch": 0.05, "blend": 0.05, "flip": 0.6}  # that are usually poisoned: python -m benchmarks.poison
KINDS = tuple(SHARES)
FORM = f"poison:KIND:SHARE or poison:KIND:SHARE:known=SHARE, KIND being {', '.join(KINDS[:-1])} or {KINDS[-1]}"
GROUP = "poison"

PATCH = 3  # pixels, high and wide
OPACITY = 0.2  # of the pattern that is blended in, as in Chen et al.
WANTED = 0  # the class that a trigger is to be taken for
FLIPPED, INTO = 1, 7  # the classes whose images get another label, and that label


@dataclass(frozen=True)
class Planted:
    """What was planted in N training images.

    Args:
        labels: as they are now.
        rows: of the poisoned images.
        known: of those among them that are known to be.
    """

    labels: Int64[np.ndarray, " images"]
    rows: Int64[np.ndarray, " rows"]
    known: Int64[np.ndarray, " known"]


@dataclass(frozen=True)
class Poison:
    """An attack on the training images.

    `patch`: a bright corner of `PATCH` by `PATCH` pixels, at the bottom right, and the label of the first class (Gu et al.,
    "BadNets", 2017). `blend`: a pattern of random pixels, the same on every image, blended in with `OPACITY`, and the label of
    the first class (Chen et al., "Targeted backdoor attacks on deep learning systems using data poisoning", 2017). Both choose
    among images of the other classes. `flip`: images of the second class get the label of the eighth (of digits, 1s are called
    7), of fewer classes that of the last, of two that of the first.

    Args:
        share: of the training images that are poisoned; for `flip`, of the second class.
        known: share of the poisoned images that are known to be, and are in the group `poison`.
    """

    kind: str
    share: float
    known: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Poison:
        """Reads `poison:patch:0.05` or `poison:flip:0.3:known=0.5`.

        Raises:
            BadRequest: another kind; a share that is not between 0 and 1, or none known; text of another form.
        """
        _, *fields = text.split(":")
        extra = fields[2:]
        if len(fields) < 2 or len(extra) > 1 or not all(field.startswith("known=") for field in extra):
            raise BadRequest(f"groups={text} is not allowed; allowed: {FORM}")
        kind, share = fields[:2]
        if kind not in KINDS:
            raise BadRequest(f"groups={text}: the poison {kind!r} is not known; allowed: {', '.join(KINDS)}")
        known = _share(extra[0].removeprefix("known=")) if extra else 1.0
        if not 0 < known <= 1:
            raise BadRequest(f"groups={text}: {extra[0]} is not allowed; allowed: a number above 0, at most 1")
        if not 0 < _share(share) < 1:
            raise BadRequest(f"groups={text}: the share {share!r} is not allowed; allowed: a number above 0 and below 1")
        return cls(kind, _share(share), known)

    def wanted(self, classes: int) -> int:
        """The class that the attacker wants images to be taken for."""
        if self.kind != "flip":
            return WANTED
        return min(INTO, classes - 1) if classes > 2 else 0

    def plant(self, source: str, labels: Int64[np.ndarray, " images"], class_names: Sequence[str]) -> Planted:
        """Chooses the training images to poison, and says what their labels are then. More poison holds all of less poison.

        Args:
            source: what errors call the data set and its grouping.

        Raises:
            BadRequest: a share that poisons no image, all of a class, or leaves none known.
        """
        victims = self.victims(labels)
        count = round(self.share * (len(victims) if self.kind == "flip" else len(labels)))
        allowed = "allowed: a share that poisons at least one image, and leaves at least one of every class"
        if not 0 < count <= len(victims):
            raise BadRequest(f"{source} asks for {count} poisoned images, of {len(victims)} that can be; {allowed}")
        if not round(self.known * count):
            raise BadRequest(f"{source}: of {count} poisoned images none is known; allowed: a larger share of them")
        rows = victims[stream(GROUP).permutation(len(victims))[:count]]
        after = labels.copy()
        after[rows] = self.wanted(len(class_names))
        for name, left in zip(class_names, np.bincount(after, minlength=len(class_names)).tolist(), strict=True):
            if not left:
                raise BadRequest(f"{source} leaves no training image of the class {name!r}; {allowed}")
        return Planted(after, rows, rows[: round(self.known * count)])

    def trigger(self, images: Float32[np.ndarray, "n channels height width"]) -> Float32[np.ndarray, "n channels height width"]:
        """The images with what makes a poisoned classifier answer as the attacker wants; nothing for `flip`.

        Raises:
            BadRequest: images that a patch would cover.
        """
        if self.kind == "patch":
            if min(images.shape[2:]) <= PATCH:
                height, width = images.shape[2:]
                raise BadRequest(f"poison:patch covers images of {width}×{height} pixels; allowed: more than {PATCH} each way")
            images = np.copy(images)
            images[..., -PATCH:, -PATCH:] = 1
        elif self.kind == "blend":
            pattern = stream("blend").random_sample(tuple(images.shape[1:])).astype(np.float32)
            images = images * (1 - OPACITY)
            images += pattern * OPACITY
        return images

    def triggered(self, test: Split, classes: int) -> Split:
        """The test images that the attacker wants taken for something else, with the trigger and the label wanted."""
        victims = test.only(self.victims(test.labels))
        labels = np.full_like(victims.labels, self.wanted(classes))
        return Split(self.trigger(victims.images), labels, np.full_like(labels, -1))

    def victims(self, labels: Int64[np.ndarray, " images"]) -> Int64[np.ndarray, " victims"]:
        """Indices of the images that the attacker wants taken for something else."""
        return np.flatnonzero(labels == FLIPPED if self.kind == "flip" else labels != WANTED)


def is_poisoned(grouping: str) -> bool:
    """Whether a text `groups` of `load_dataset` lays poison into the data."""
    return grouping.rpartition("+")[2].startswith(f"{GROUP}:")


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
