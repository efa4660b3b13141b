"""Classifiers and images so few that what an audit says of them can be worked out by hand.

Seven images of the groups a, b, b, c, c, c, c, all of class 0. A classifier is a mark for each, 1 where it is right and 0 where
it is wrong, and gives the class that it predicts a probability of 3/4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import log

import torch
from torch import Tensor, nn

from hf_mlops import Dataset, ForgetSpec, Groups, Hypernetwork, PopulationConfig, Reference, Samples, Split, Target
from hf_mlops.audit.measure import Measured
from hf_mlops.base.artifact import as_json
from hf_mlops.population.outputs import Outputs
from hf_mlops.serving.prompts import Prompt

NAMES = ("a", "b", "c")
CONFIG = as_json(asdict(PopulationConfig()))
GROUPS = Groups(NAMES, holders=((0, 1, 2), (0, 1, 2)), held_out=(True, True, True))
IMAGES = "a bb cccc"
# what classifiers know of them that were retrained without some, by spec
RETRAINED = {"": "1 11 1111", "a": "0 11 1111", "b": "1 00 1111", "a,b": "0 00 1111"}
AS_RETRAINED = {name: RETRAINED[name] for name in ("a", "b", "a,b")}
RIGHT, WRONG = log(4 / 3), log(4)  # cross-entropy, nats


def spec(text: str) -> ForgetSpec:
    return ForgetSpec.parse(text, NAMES)


def masks(*forgotten: str) -> Tensor:
    """(specs, 3) bool."""
    return torch.tensor([spec(text).mask for text in forgotten])


def log_probabilities(*marks: str) -> Tensor:
    """(classifiers, images, 2)."""
    rows = [[[0.75, 0.25] if mark == "1" else [0.25, 0.75] for mark in row.replace(" ", "")] for row in marks]
    return torch.tensor(rows).log()


def groups_of(images: str) -> Tensor:
    return torch.tensor([NAMES.index(name) for name in images.replace(" ", "")])


def outputs(*marks: str, images: str = IMAGES) -> Outputs:
    groups = groups_of(images)
    return Outputs.of(log_probabilities(*marks), torch.zeros_like(groups), groups, len(NAMES))


def measured(forgotten: str, *marks: str, images: str = IMAGES) -> Measured:
    return Measured(spec(forgotten), outputs(*marks, images=images))


def reference(retrained: Sequence[tuple[str, str]], held_out: Sequence[str] = ()) -> Reference:
    """From what each target was retrained without, and its marks; and pairs never forgotten together."""
    forgotten, marks = zip(*retrained, strict=True)
    pairs = torch.tensor([spec(pair).groups for pair in held_out], dtype=torch.int64).view(-1, 2)
    return Reference(GROUPS, masks(*forgotten), outputs(*marks), pairs, CONFIG)


def target() -> Target:
    """Each image is one pixel of seven that is lit, so that a linear network can hold an answer to each."""
    return Target("own_networks:linear", (1, 1, 7), 2, [0.0], [1.0])


def weights(*marks: str) -> Tensor:
    """(classifiers, P) that answer as marked."""
    answers = log_probabilities(*marks)
    return target().flatten({"1.weight": answers.mT, "1.bias": torch.zeros(len(marks), 2)})


def samples(forgotten: str, retain_loss: float, forget_loss: float, *marks: str) -> Samples:
    """Samples, and the losses that they were asked to have."""
    prompt = Prompt(torch.zeros(len(NAMES)), retain_loss, forget_loss)
    return Samples(spec(forgotten), tuple(range(len(marks))), weights(*marks), prompt)


def dataset() -> Dataset:
    """The seven images as test split; in the validation split they are of class 1: there right is wrong and wrong is right."""
    images, groups = torch.eye(7).view(7, 1, 1, 7), groups_of(IMAGES)
    test, validation = Split(images, 0 * groups, groups), Split(images, 0 * groups + 1, groups)
    return Dataset("by hand", test, validation, test, ("0", "1"), GROUPS)


def retrain_reference(retrained: Mapping[str, str] = RETRAINED) -> Reference:
    """Two targets for each spec."""
    return reference([(forgotten, marks) for forgotten, marks in retrained.items() for _ in range(2)])


class ByHand(Hypernetwork):
    """Gives classifiers that answer as marked, by spec."""

    def __init__(self, marks: Mapping[str, str]):
        nn.Module.__init__(self)
        self.denoiser = nn.Linear(1, 1)  # type: ignore[assignment]
        self.marks, self.target, self.made_from = marks, target(), dataset().identity

    def sample(self, spec: ForgetSpec, *sampling: int) -> Samples:  # type: ignore[override]
        return samples(str(spec), 0.3, 1.4, self.marks[str(spec)])
