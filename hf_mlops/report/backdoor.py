"""A backdoor before and after forgetting: what classifiers call test images that an attacker wants called something else."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

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
    called: Int[Tensor, " shown"]
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

    plain: Float[Tensor, "shown channels height width"]
    images: Float[Tensor, "shown channels height width"]
    truth: Int[Tensor, " shown"]
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
        shown = of_many_classes(victims.labels, SHOWN)

        def answers(who: str, how: str, measured: Measured) -> Answers:
            called = measured.predictions[0, measured.triggered][shown]
            return Answers(who, how, called, measured.attack_success.mean().item(), len(measured.predictions))

        before, retrained = evidence.unforgotten, evidence.reference
        found = (
            *([answers("before", "in production", before)] if before else []),
            answers("retrained", f"without {str(retrained.spec) or 'nothing'}", retrained),
            answers("after", f"forgetting {evidence.sampled.spec}", evidence.sampled.only(kept)),
        )
        images, wanted = dataset.triggered.images[shown], int(dataset.triggered.labels[0])
        return cls(
            victims.images[shown], images, victims.labels[shown], wanted, dataset.class_names, found, len(dataset.triggered)
        )

    @property
    def trigger(self) -> Bool[Tensor, "height width"]:
        """Which pixels it changes in any of the images."""
        return (self.images != self.plain).any(0).any(0)

    def __str__(self) -> str:
        """How often the attack succeeds, in one line."""
        shares = ", ".join(f"{one.share} {one.who}" for one in self.answers)
        name = self.class_names[self.wanted]
        return f"attack success: {shares}; by {self.among} test images that the attacker wants called {name}"


def of_many_classes(labels: Int[Tensor, " images"], count: int) -> Int[Tensor, " chosen"]:
    """Indices of the first image of every class, then of the second, and so on, up to so many; in the order of classes."""
    turn = one_hot(labels).cumsum(0).gather(1, labels[:, None])[:, 0]
    by_turn = (turn * (labels.max() + 1) + labels).argsort(stable=True)[:count]
    return by_turn[labels[by_turn].argsort(stable=True)]
