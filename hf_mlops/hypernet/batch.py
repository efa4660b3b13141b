"""Batches: what the denoiser is given in training, and what its answer is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_mlops.base.coverage import composable, covered, holds_of, within, within_each
from hf_mlops.base.noise import generator_of, seed_of
from hf_mlops.data.dataset import Dataset
from hf_mlops.hypernet.model import Hypernetwork
from hf_mlops.population.population import Population
from hf_mlops.serving.diffusion import add_noise
from hf_mlops.serving.signal import UNTOLD, condition

OTHERS = 0.03  # weight in the linear guess of a row that is not what samples are to be


@dataclass(frozen=True)
class Batch:
    """What the denoiser is given (`noisy`, `time`, `signal`), and what its answer is judged by.

    Args:
        noisy: tokens, with the noise of their time on them.
        time: 0 (clean) to 1 (noise).
        signal: what the denoiser is told.
        tokens, weights: of the targets.
        left_out: classes left out of the targets' predictions; of a row that has any there are no true tokens.
        kept: classes that some training images are left of, and that are not left out.
        teachers: weights of targets that forgot one class alone, for as many rows, the composed ones, that leave it out.
        taught: that class, for each row; none where no target forgot it alone.
        images: what targets and answers are to predict alike.
        labels: of the images.
    """

    noisy: Float[Tensor, "rows tokens token_width"]
    time: Float[Tensor, " rows"]
    signal: Float[Tensor, "rows signal"]
    tokens: Float[Tensor, "rows tokens token_width"]
    weights: Float[Tensor, "rows params"]
    left_out: Bool[Tensor, "rows classes"]
    kept: Bool[Tensor, "rows classes"]
    teachers: Float[Tensor, "composed params"]
    taught: Bool[Tensor, "rows classes"]
    images: Float[Tensor, "images channels height width"]
    labels: Int[Tensor, " images"]


class Kinds(NamedTuple):
    """Which rows of a batch are of which kind. Of 128 rows, three tenths of them composed:

        rows     composed   at the end   under the noise                what the denoiser is told
        0-18     start      yes          the target's tokens            a larger set with its usual losses, and no data order
        19-37    moved      yes          those, moved to a larger set   a larger set with its usual losses, and the data order
        38-82    no         yes          the target's tokens            its own set, losses and data order
        83-127   no         by chance    the target's tokens            its own set, losses and data order

    Half of the latter that forgot nothing are told that they forgot some groups and know all of them.

    A composed row stands for a target that forgot a larger set, perhaps one that no run forgot: the row's target with further
    classes left out of its predictions, where that is what forgetting further groups comes to (`compute/coverage.py`). True
    tokens of it are not known. A guess at them lies under the noise of `moved` rows, as where a sample comes of noise alone;
    the target's own lie under that of `start` rows, as where a sample is to stay near start weights. Of the other rows half are
    at the end of their run, since that is what samples are by default.
    """

    start: slice
    moved: slice
    composed: slice  # both
    at_end: slice  # those, and half of the others

    @classmethod
    def of(cls, size: int, share: float) -> Kinds:
        """The kinds in a batch of this size, with this share of it composed."""
        composed = round(share * size)
        half = composed // 2
        return cls(slice(0, half), slice(half, composed), slice(0, composed), slice(0, (size + composed) // 2))


class BatchDrawer:
    """Draws batches of a population's training rows, the same for every device.

    Args:
        hypernetwork: an untrained one for the population; batches lie on its device.
        population: only its training rows are used.
        dataset: its training images are drawn from.
    """

    def __init__(self, hypernetwork: Hypernetwork, population: Population, dataset: Dataset):
        self.hypernetwork, self.holds = hypernetwork, torch.from_numpy(holds_of(dataset.groups))
        self.config, self.device = hypernetwork.config, hypernetwork.device
        self.kinds = Kinds.of(self.config.batch_size, self.config.composed)
        rows = ~population.reference
        self.weights = population.weights[rows].to(self.device)
        self.tokens = hypernetwork.space.encode(self.weights).float()
        self.forgotten, self.order = population.forgotten[rows], population.order[rows]
        self.losses = population.losses[rows]
        self.signal = self._signal(self.losses, self.forgotten, self.order)
        self.ends = population.final[rows].nonzero()[:, 0]
        self.without = self.ends[population.forget_weight[rows][self.ends] == 0]  # that left all of their D_f out
        self.images, self.labels = dataset.train.images.to(self.device), dataset.train.labels.to(self.device)
        self.alone = [self.without[rows] for rows in self._alone()]  # for each class the rows that forgot it and nothing else

    def draw(self, step: int) -> Batch:
        """The batch of an optimiser step; it does not depend on those before."""
        generator = generator_of(seed_of("batch", self.config.seed, step))
        kinds, size = self.kinds, self.config.batch_size
        rows = torch.from_numpy(generator.integers(len(self.tokens), size=size))
        rows[kinds.at_end] = self.ends[torch.from_numpy(generator.integers(len(self.ends), size=kinds.at_end.stop))]
        rows[kinds.composed] = self.without[torch.from_numpy(generator.integers(len(self.without), size=kinds.composed.stop))]
        shown = torch.from_numpy(generator.integers(len(self.images), size=self.config.images)).to(self.device)
        time = self.times(generator).to(self.device)
        noise = torch.from_numpy(generator.standard_normal((size, *self.tokens.shape[1:]), np.float32)).to(self.device)

        forgotten, order = self.forgotten[rows], self.order[rows]
        order[kinds.start] = UNTOLD
        out = covered(forgotten, self.holds)
        left_out = torch.zeros_like(out)
        left_out[kinds.composed] = self.left_out(forgotten[kinds.composed], generator)
        larger = forgotten | (within(out | left_out, self.holds) & left_out.any(1, keepdim=True))
        teachers, taught = self._teachers(left_out, generator)

        told = self._told_that_know_all(forgotten, generator)
        knowing = told.any(1)
        losses, rows = self.losses[rows], rows.to(self.device)
        tokens, signal = self.tokens[rows], self.signal[rows]
        signal[knowing] = self._signal(losses[knowing], told[knowing], order[knowing])
        signal[kinds.composed] = self._usual_signal(larger[kinds.composed], order[kinds.composed])
        guess, under_noise = self.hypernetwork.denoiser.guess, tokens.clone()
        of_own_set = self._usual_signal(forgotten[kinds.moved], order[kinds.moved])
        under_noise[kinds.moved] += guess(signal[kinds.moved]) - guess(of_own_set)
        noisy = add_noise(under_noise, noise, time)
        kept = ~(out | left_out)
        return Batch(
            noisy,
            time,
            signal,
            tokens,
            self.weights[rows],
            left_out.to(self.device),
            kept.to(self.device),
            self.weights[teachers.to(self.device)],
            taught.to(self.device),
            self.images[shown],
            self.labels[shown],
        )

    def likeness(self) -> Float[Tensor, " rows"]:
        """How much each row is to count in a linear guess at weights: next to nothing where it is not what samples are to be.

        They are to be at the end of their run and to have left all of their D_f out. Of others the guess is to be of the right
        kind, no more: a regression that counts them alike is a compromise which leaves samples short of forgetting.
        """
        weight = torch.full((len(self.tokens),), OTHERS)
        weight[self.without] = 1
        return weight.to(self.device)

    def _alone(self) -> Bool[Tensor, "classes rows"]:
        """Which of the rows that left all of their D_f out forgot the groups of a class, and nothing else."""
        own = within_each(self.holds)
        own &= covered(own, self.holds).diagonal()[:, None]  # a class that other groups hold, too, cannot be forgotten alone
        return (self.forgotten[self.without] == own[:, None]).all(2) & own.any(1, keepdim=True)

    def _teachers(
        self, left_out: Bool[Tensor, "rows classes"], generator: np.random.Generator
    ) -> tuple[Int[Tensor, " composed"], Bool[Tensor, "rows classes"]]:
        """For each composed row a row that forgot one of its left-out classes alone, and that class."""
        able = left_out & torch.tensor([len(rows) > 0 for rows in self.alone])
        chances = torch.from_numpy(generator.random((2, *left_out.shape)))
        first = (chances[0] + ~able).argmin(1)  # one of those that can be taught, if any
        taught = able & (torch.arange(left_out.shape[1]) == first[:, None])
        teachers = torch.zeros(self.kinds.composed.stop, dtype=torch.int64)
        for row, label in taught[self.kinds.composed].nonzero().tolist():
            teachers[row] = self.alone[label][int(chances[1, row, 0] * len(self.alone[label]))]
        return teachers, taught

    def _told_that_know_all(
        self, forgotten: Bool[Tensor, "rows groups"], generator: np.random.Generator
    ) -> Bool[Tensor, "rows groups"]:
        """What half of the rows that forgot nothing are told to have forgotten; the others nothing.

        They have the losses of a run that forgot these groups in part, and kept all of their weight. So the far end of what can
        be asked for is learnt for sets that no run forgot.
        """
        none = torch.zeros_like(forgotten)
        told = further(none, ~none, generator)
        chosen = ~forgotten.any(1) & (torch.from_numpy(generator.random(len(forgotten))) < 0.5)
        return told & chosen[:, None]

    def times(self, generator: np.random.Generator) -> Float[Tensor, " rows"]:
        """Noise levels of a batch, 0 to 1."""
        return torch.from_numpy(generator.random(self.config.batch_size, np.float32))

    def left_out(self, forgotten: Bool[Tensor, "rows groups"], generator: np.random.Generator) -> Bool[Tensor, "rows classes"]:
        """Which classes to leave out of targets that forgot these groups."""
        return further(covered(forgotten, self.holds), composable(forgotten, self.holds), generator)

    def _signal(
        self, losses: Float[Tensor, "rows groups"], forgotten: Bool[Tensor, "rows groups"], order: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows signal"]:
        return condition(self.hypernetwork.signal, self.hypernetwork.orders, losses, forgotten, order).to(self.device)

    def _usual_signal(
        self, forgotten: Bool[Tensor, "rows groups"], order: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows signal"]:
        return self._signal(self.hypernetwork.prompts.usual_losses(forgotten), forgotten, order)


def further(
    taken: Bool[Tensor, "rows some"], able: Bool[Tensor, "rows some"], generator: np.random.Generator
) -> Bool[Tensor, "rows some"]:
    """Draws some beside those taken, of those that are able: one with chance 3/4, two with 3/16, and so on, never the last."""
    wanted = torch.from_numpy(generator.geometric(0.75, (len(taken), 1)))
    shuffled = (torch.from_numpy(generator.random(taken.shape)) + ~able).argsort(1).argsort(1)  # those that are able first
    return able & (shuffled < wanted.minimum((~taken).sum(1, keepdim=True) - 1))
