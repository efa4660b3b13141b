"""Audits: measured evidence about sampled classifiers, always beside the retrain reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hf_mlops.base.config import check_config
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.compute.losses import log_losses, set_means
from hf_mlops.compute.tensors import read_tensors, write_tensors
from hf_mlops.data.dataset import Dataset, Split
from hf_mlops.hypernet.model import Samples
from hf_mlops.population.population import Population
from hf_mlops.population.target import Target


@dataclass(frozen=True)
class Measured:
    """How N classifiers of the same forget spec fare on a split.

    Args:
        spec: what they forgot, or were to forget.
        losses, accuracies: (N, G) mean cross-entropy in nats and accuracy on each group.
        predictions: (N, images) int16 classes predicted.
        groups: (images,) of the split.
    """

    spec: ForgetSpec
    losses: Tensor
    accuracies: Tensor
    predictions: Tensor
    groups: Tensor

    @property
    def share(self) -> Tensor:
        """(G,) share of the split that each group is."""
        return torch.bincount(self.groups, minlength=len(self.spec.group_names)) / len(self.groups)

    def on_sets(self, values: Tensor, spec: ForgetSpec | None = None) -> tuple[Tensor, Tensor]:
        """Means (N,) of per-group values (N, G) over D_r and over D_f (NaN if empty) of a spec, by default its own."""
        mask = torch.tensor((spec or self.spec).mask).expand(len(values), -1)
        return set_means(values, mask, self.share)

    def churn(self, before: Tensor, spec: ForgetSpec | None = None) -> Tensor:
        """Share (N,) of the images in D_r of a spec, by default its own, that are not predicted as before, (images,)."""
        kept = ~torch.tensor((spec or self.spec).mask)[self.groups]
        return (self.predictions != before)[:, kept].float().mean(1)

    def disagreement(self, spec: ForgetSpec | None = None) -> float:
        """Share of the images in D_r that two of the N classifiers predict differently, mean over pairs; NaN for one alone."""
        among = torch.stack([self.churn(one, spec).sum() for one in self.predictions]).sum().item()
        return among / (len(self.predictions) * (len(self.predictions) - 1)) if len(self.predictions) > 1 else float("nan")


def measure(target: Target, weights: Tensor, spec: ForgetSpec, split: Split) -> Measured:
    """Runs classifiers (N, P) on a split."""
    metrics = target.group_metrics(weights, split, len(spec.group_names))
    return Measured(spec, metrics.losses, metrics.accuracies, metrics.predictions, split.groups)


@dataclass(frozen=True)
class Reference:
    """The retrain reference: how targets retrained without D_f, unseen by the hypernetwork, fare on the test split.

    Args:
        group_names: names of the G groups.
        forgotten: (R, G) bool; what each of R targets was retrained without.
        losses, accuracies: (R, G) on the test split.
        predictions: (R, images) int16 classes predicted on the test split.
        groups: (images,) of the test split.
        held_out: (pairs, 2) group indices that no training run of the hypernetwork forgot together.
    """

    group_names: tuple[str, ...]
    forgotten: Tensor
    losses: Tensor
    accuracies: Tensor
    predictions: Tensor
    groups: Tensor
    held_out: Tensor

    _TENSORS = ("forgotten", "losses", "accuracies", "predictions", "groups", "held_out")

    @classmethod
    def of(cls, population: Population, dataset: Dataset) -> Reference:
        """Measures the reference targets of a population.

        Raises:
            ValueError: a data set that the population was not trained on.
        """
        rows = population.reference & population.final
        return cls.of_targets(population, population.weights[rows], population.forgotten[rows], dataset)

    @classmethod
    def of_targets(cls, population: Population, weights: Tensor, forgotten: Tensor, dataset: Dataset) -> Reference:
        """Measures retrained targets (R, P) that a population's hypernetwork never saw, retrained without (R, G) bool.

        Raises:
            ValueError: a data set that the population was not trained on.
        """
        dataset.require(population.made_from)
        metrics = population.target.group_metrics(weights, dataset.test, len(population.groups))
        measures = metrics.losses, metrics.accuracies, metrics.predictions, dataset.test.groups
        return cls(population.groups.names, forgotten, *measures, population.held_out)

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
        return Measured(own, self.losses[best], self.accuracies[best], self.predictions[best], self.groups)

    def never_together(self, spec: ForgetSpec) -> bool:
        """Whether a spec holds a pair of groups that no training run of the hypernetwork forgot together."""
        return any(set(pair) <= set(spec.groups) for pair in self.held_out.tolist())

    def save(self, directory: Path) -> None:
        """Writes reference.safetensors and reference.json into a directory."""
        tensors = {name: getattr(self, name) for name in self._TENSORS}
        write_tensors(directory, "reference", tensors, {"group_names": self.group_names})

    @classmethod
    def load(cls, directory: Path) -> Reference:
        """Reads what `save` wrote.

        Raises:
            ValueError: a missing, truncated or altered file.
        """
        tensors, about = read_tensors(directory, "reference")
        return cls(tuple(about["group_names"]), **tensors)


@dataclass(frozen=True)
class Gates:
    """What a sampled classifier must show on the test split before it may be promoted."""

    max_forget_accuracy: float = 0.01  # on D_f
    max_retain_gap: float = 0.02  # accuracy on D_r, mean of the retrain reference less the sample's

    def __post_init__(self) -> None:
        share = (lambda x: 0 <= x <= 1, "0 to 1")
        check_config(self, {"max_forget_accuracy": share, "max_retain_gap": share})


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


def audit_samples(target: Target, samples: Samples, dataset: Dataset, reference: Reference) -> Audit:
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
        difference = log_losses(losses) - log_losses(torch.tensor(loss))
        distance += difference.square().nan_to_num()  # a D_f that is empty has no loss
    return int(distance.argmin())
