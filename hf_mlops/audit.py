"""Audits: measured evidence about sampled classifiers, always beside the retrain reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hf_mlops import artifact
from hf_mlops.data import Dataset, Split
from hf_mlops.hypernetwork import Samples
from hf_mlops.population import Population
from hf_mlops.prompt import LOSS_FLOOR, set_means
from hf_mlops.spec import ForgetSpec
from hf_mlops.targets import Target


@dataclass(frozen=True)
class Measured:
    """How N classifiers of the same forget spec fare on a split.

    Args:
        spec: what they forgot, or were to forget.
        losses, accuracies: (N, G) mean cross-entropy in nats and accuracy on each group.
        share: (G,) share of the split that each group is.
    """

    spec: ForgetSpec
    losses: Tensor
    accuracies: Tensor
    share: Tensor

    def on_sets(self, values: Tensor, spec: ForgetSpec | None = None) -> tuple[Tensor, Tensor]:
        """Means (N,) of per-group values (N, G) over D_r and over D_f (NaN if empty) of a spec, by default its own."""
        mask = torch.tensor((spec or self.spec).mask).expand(len(values), -1)
        return set_means(values, mask, self.share)


def measure(target: Target, weights: Tensor, spec: ForgetSpec, split: Split) -> Measured:
    """Runs classifiers (N, P) on a split."""
    groups = len(spec.group_names)
    losses, accuracies = target.group_metrics(weights, split, groups)
    return Measured(spec, losses, accuracies, _share(split, groups))


def _share(split: Split, groups: int) -> Tensor:
    return torch.bincount(split.groups, minlength=groups) / len(split)


@dataclass(frozen=True)
class Reference:
    """The retrain reference: how targets retrained without D_f, unseen by the hypernetwork, fare on the test split.

    Args:
        group_names: names of the G groups.
        forgotten: (R, G) bool; what each of R targets was retrained without.
        losses, accuracies: (R, G) on the test split.
        share: (G,) share of the test split that each group is.
        held_out: (pairs, 2) group indices that no training run of the hypernetwork forgot together.
    """

    group_names: tuple[str, ...]
    forgotten: Tensor
    losses: Tensor
    accuracies: Tensor
    share: Tensor
    held_out: Tensor

    @classmethod
    def of(cls, population: Population, dataset: Dataset) -> Reference:
        """Measures the reference targets of a population.

        Raises:
            ValueError: a data set that the population was not trained on.
        """
        dataset.require(population.data)
        rows = population.reference & population.final
        groups = len(population.group_names)
        measures = population.target.group_metrics(population.weights[rows], dataset.test, groups)
        share = _share(dataset.test, groups)
        return cls(population.group_names, population.forgotten[rows], *measures, share, population.held_out)

    def specs(self) -> list[ForgetSpec]:
        """Every spec that there are retrained targets for, smallest D_f first."""
        masks = self.forgotten.unique(dim=0)
        specs = [ForgetSpec.of(mask.nonzero()[:, 0].tolist(), self.group_names) for mask in masks]
        return sorted(specs, key=lambda spec: (len(spec.groups), spec.groups))

    def closest(self, spec: ForgetSpec) -> Measured:
        """The retrained targets whose D_f is closest (Jaccard) to that of a spec: its own where they exist."""
        mask = torch.tensor(spec.mask)
        overlap = (self.forgotten & mask).sum(1) / (self.forgotten | mask).sum(1).clamp_min(1)
        overlap = torch.where((self.forgotten == mask).all(1), 2.0, overlap)
        best = (self.forgotten == self.forgotten[overlap.argmax()]).all(1)
        own = ForgetSpec.of(self.forgotten[best][0].nonzero()[:, 0].tolist(), self.group_names)
        return Measured(own, self.losses[best], self.accuracies[best], self.share)

    def never_together(self, spec: ForgetSpec) -> bool:
        """Whether a spec holds a pair of groups that no training run of the hypernetwork forgot together."""
        return any(set(pair) <= set(spec.groups) for pair in self.held_out.tolist())

    def save(self, directory: Path) -> None:
        """Writes reference.safetensors and reference.json into a directory."""
        names = ("forgotten", "losses", "accuracies", "share", "held_out")
        artifact.write(directory, "reference", {name: getattr(self, name) for name in names}, {"group_names": self.group_names})

    @classmethod
    def load(cls, directory: Path) -> Reference:
        """Reads what `save` wrote.

        Raises:
            ValueError: a missing, truncated or altered file.
        """
        tensors, about = artifact.read(directory, "reference")
        return cls(tuple(about["group_names"]), **tensors)


@dataclass(frozen=True)
class Gates:
    """What a sampled classifier must show on the test split before it may be promoted."""

    max_forget_accuracy: float = 0.01  # on D_f
    max_retain_gap: float = 0.02  # accuracy on D_r, mean of the retrain reference less the sample's

    def __post_init__(self) -> None:
        share = (lambda x: 0 <= x <= 1, "0 to 1")
        artifact.check_config(self, {"max_forget_accuracy": share, "max_retain_gap": share})


@dataclass(frozen=True)
class Audit:
    """Test results of samples of one spec and of the retrain reference.

    Args:
        sampled: the samples, on the test split.
        reference: the closest retrained targets, on the same split; its `spec` says which those are.
    """

    sampled: Measured
    reference: Measured

    def figures(self, index: int | None = None) -> dict[str, float]:
        """Accuracy and loss on D_f and D_r, of one sample or of the mean of all, beside the reference's mean.

        The reference is judged on the D_f and D_r of the sample's spec; D_f figures are absent where D_f is empty.
        """
        rows = slice(None) if index is None else slice(index, index + 1)
        result = {}
        for who, measured in (("", self.sampled), ("reference_", self.reference)):
            for what, values in (("accuracy", measured.accuracies), ("loss", measured.losses)):
                retain, forget = measured.on_sets(values[rows] if who == "" else values, self.sampled.spec)
                result[f"{who}retain_{what}"] = retain.mean().item()
                if self.sampled.spec.groups:
                    result[f"{who}forget_{what}"] = forget.mean().item()
        return result

    def failures(self, gates: Gates, index: int | None = None) -> list[str]:
        """The gates that a sample (or the mean of all) does not pass, each as a sentence; empty if it passes."""
        figures = self.figures(index)
        forget, retain = figures.get("forget_accuracy", 0.0), figures["retain_accuracy"]
        floor = figures["reference_retain_accuracy"] - gates.max_retain_gap
        failures = []
        if not forget <= gates.max_forget_accuracy:
            failures.append(f"accuracy on D_f is {forget:.4f}; allowed: at most {gates.max_forget_accuracy}")
        if not retain >= floor:
            failures.append(
                f"accuracy on D_r is {retain:.4f}; allowed: at least {floor:.4f}, which is"
                f" {gates.max_retain_gap} under the retrain reference"
            )
        return failures


def audit(target: Target, samples: Samples, dataset: Dataset, reference: Reference) -> Audit:
    """Runs samples on the test split, beside the retrain reference."""
    return Audit(measure(target, samples.weights, samples.spec, dataset.test), reference.closest(samples.spec))


def best_fit(target: Target, samples: Samples, dataset: Dataset) -> int:
    """Index of the sample whose losses on D_r and D_f of the validation split are closest to the prompt.

    The distance is the sum of squared differences of the log losses.
    """
    observed = measure(target, samples.weights, samples.spec, dataset.validation)
    asked = (samples.prompt.retain_loss, samples.prompt.forget_loss)
    distance = torch.zeros(len(samples.seeds))
    for losses, loss in zip(observed.on_sets(observed.losses), asked, strict=True):
        difference = (losses + LOSS_FLOOR).log() - torch.tensor(loss + LOSS_FLOOR).log()
        distance += difference.square().nan_to_num()  # a D_f that is empty has no loss
    return int(distance.argmin())
