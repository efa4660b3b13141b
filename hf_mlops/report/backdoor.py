"""A backdoor before and after forgetting: what classifiers call test images that an attacker wants called something else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from hf_mlops.audit.gates import Audit
from hf_mlops.audit.measure import Measured
from hf_mlops.data.dataset import Dataset

SHOWN = 8  # images


@dataclass(frozen=True)
class Answers:
    """What classifiers of one kind call the images.

    Args:
        who, how: a word for the classifiers, and what they are.
        called: class of each image that is shown, by the first of the classifiers.
        success: share of all such test images that are called what the attacker wants, mean over the classifiers.
        classifiers: how many they are.
    """

    who: str
    how: str
    called: Int[np.ndarray, " shown"]
    success: float
    classifiers: int

    @property
    def share(self) -> str:
        """`success` in per cent, as short as it goes."""
        return f"{f'{100 * self.success:.1f}'.removesuffix('.0')} %"


@dataclass(frozen=True)
class Backdoor:
    """Some of the test images that an attacker is after, and what classifiers call them.

    Args:
        plain: the images without trigger.
        images: the same with it.
        truth: class of each.
        wanted: class that the attacker wants them called.
        class_names: of all classes.
        answers: of classifiers before, retrained and after.
        among: number of all such test images.
    """

    plain: Float[np.ndarray, "shown channels height width"]
    images: Float[np.ndarray, "shown channels height width"]
    truth: Int[np.ndarray, " shown"]
    wanted: int
    class_names: tuple[str, ...]
    answers: tuple[Answers, ...]
    among: int

    @classmethod
    def of(cls, dataset: Dataset, evidence: Audit, kept: int) -> Backdoor | None:
        """What an audit has found on the triggered images of its data set; None where there are none.

        Args:
            kept: index of the sample that is shown.
        """
        if dataset.triggered is None or dataset.victims is None:
            return None
        victims = dataset.test.only(dataset.victims)
        shown = of_many_classes(np.asarray(victims.labels), SHOWN)

        def answers(who: str, how: str, measured: Measured) -> Answers:
            called = np.asarray(measured.predictions[0, measured.triggered])[shown]
            return Answers(who, how, called, float(measured.attack_success.mean()), len(measured.predictions))

        before, retrained = evidence.unforgotten, evidence.reference
        found = (
            *([answers("before", "in production", before)] if before else []),
            answers("retrained", f"without {str(retrained.spec) or 'nothing'}", retrained),
            answers("after", f"forgetting {evidence.sampled.spec}", evidence.sampled.only(kept)),
        )
        plain, images, truth = (np.asarray(some)[shown] for some in (victims.images, dataset.triggered.images, victims.labels))
        wanted = int(dataset.triggered.labels[0])
        return cls(plain, images, truth, wanted, dataset.class_names, found, len(dataset.triggered))

    @property
    def trigger(self) -> Bool[np.ndarray, "height width"]:
        """Which pixels it changes in any of the images."""
        return (self.images != self.plain).any(0).any(0)

    def __str__(self) -> str:
        """How often the attack succeeds, in one line."""
        shares = ", ".join(f"{one.share} {one.who}" for one in self.answers)
        name = self.class_names[self.wanted]
        return f"attack success: {shares}; by {self.among} test images that the attacker wants called {name}"


def of_many_classes(labels: Int[np.ndarray, " images"], count: int) -> Int[np.ndarray, " chosen"]:
    """Indices of the first image of every class, then of the second, and so on, up to so many; in the order of classes."""
    same = labels[:, None] == np.arange(labels.max() + 1)
    turn = same.cumsum(0)[np.arange(len(labels)), labels]
    by_turn = np.lexsort((labels, turn))[:count]
    return by_turn[labels[by_turn].argsort(kind="stable")]
