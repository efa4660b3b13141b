"""Audits and gates: what samples show on the test split, and what they must show to be promoted."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

from hf_mlops.audit.measure import Measured, at_most, measure
from hf_mlops.audit.reference import Reference
from hf_mlops.base.config import check_config
from hf_mlops.data.dataset import Dataset
from hf_mlops.hypernet.model import Samples
from hf_mlops.population.target import Target


@dataclass(frozen=True)
class Gates:
    """What a sampled classifier must show on the test split before it may be promoted."""

    max_forget_accuracy: float = 0.01  # on D_f
    max_retain_gap: float = 0.02  # accuracy on D_r, mean of the retrain reference less the sample's
    max_forget_distance: float = 0.5  # of the answers on D_f from retraining: 0 as retrained, 1 as with the classes masked

    def __post_init__(self) -> None:
        share = (lambda x: 0 <= x <= 1, "0 to 1")
        check_config(self, dict.fromkeys(self.names, share))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the gates."""
        return tuple(field.name for field in fields(self))


@dataclass(frozen=True)
class Audit:
    """Test results of samples of one spec and of the retrain reference.

    Args:
        sampled: the samples, on the test split.
        reference: retrained targets of the same spec, or of a part of it, on the same split; its `spec` says which.
        masked: classifiers that only leave the classes of the spec out of their answers, on the same split, if any.
    """

    sampled: Measured
    reference: Measured
    masked: Measured | None = None

    def figures(self, index: int | None = None) -> dict[str, float]:
        """Accuracy and loss on D_f and D_r, of one sample or of the mean of all, beside the reference's mean.

        The reference is judged on the D_f and D_r of the sample's spec; D_f figures are absent where D_f is empty. Of one
        sample, `forget_accuracy_at_most` bounds what its accuracy on D_f may be on images without number (`at_most`).

        Where several targets were retrained for the very spec, `forget_divergence` is that of the answers on D_f from the mean
        of theirs, beside each of theirs from the mean of the others; where there are masked classifiers, too,
        `forget_distance` is where on the way from the reference's, 0, to the masked ones', 1, it lies, clipped to these.
        """
        spec = self.sampled.spec
        judged = self.sampled if index is None else self.sampled.only(index)
        result = {}
        for who, measured in (("", judged), ("reference_", self.reference)):
            for what, values in (("accuracy", measured.accuracies), ("loss", measured.losses)):
                retain, forget = measured.on_sets(values, spec)
                result[f"{who}retain_{what}"] = retain.mean().item()
                if spec.groups:
                    result[f"{who}forget_{what}"] = forget.mean().item()
        if index is not None and spec.groups:
            result["forget_accuracy_at_most"] = at_most(result["forget_accuracy"], int(judged.to_forget.sum()))
        if spec.groups and self.reference.spec == spec and len(self.reference.losses) > 1:
            result |= self._divergences(judged)
        return result

    def _divergences(self, judged: Measured) -> dict[str, float]:
        """How far answers on D_f are from retrained ones."""
        found, floor = judged.divergence(self.reference.answers).mean().item(), self._floor
        result = {"forget_divergence": found, "reference_forget_divergence": floor}
        if self.masked is not None:
            result["masked_forget_divergence"] = masked = self._masked
            way = (found - floor) / (masked - floor) if masked > floor else float("nan")
            result["forget_distance"] = min(max(way, 0.0), 1.0)
        return result

    @cached_property
    def _floor(self) -> float:
        """Divergence of retrained targets' answers on D_f, each from the mean of the others."""
        count, total = len(self.reference.losses), self.reference.answers * len(self.reference.losses)
        each = [self.reference.only(index) for index in range(count)]
        return sum(one.divergence((total - one.answers) / (count - 1)).item() for one in each) / count

    @cached_property
    def _masked(self) -> float:
        """Divergence of masked classifiers' answers on D_f from the mean of retrained ones."""
        assert self.masked is not None
        return self.masked.divergence(self.reference.answers).mean().item()

    def refused(self, gates: Gates, index: int | None = None) -> dict[str, str]:
        """The gates that a sample (or the mean of all) does not pass, by name, each with a sentence; empty if it passes.

        A figure that could not be measured fails, but for a `forget_distance` that there is no reference for.
        """
        figures = self.figures(index)
        floor = figures["reference_retain_accuracy"] - gates.max_retain_gap
        result = {}
        for figure, what in (("forget_accuracy", "accuracy on D_f"), ("forget_distance", "distance from retraining on D_f")):
            most = getattr(gates, f"max_{figure}")
            if figure in figures and not figures[figure] <= most:  # NaN fails
                result[f"max_{figure}"] = f"{what} is {figures[figure]:.4f}; allowed: at most {most}"
        if not figures["retain_accuracy"] >= floor:
            result["max_retain_gap"] = (
                f"accuracy on D_r is {figures['retain_accuracy']:.4f}; allowed: at least {floor:.4f}, which is"
                f" {gates.max_retain_gap} under the retrain reference"
            )
        return result


def audit_samples(target: Target, samples: Samples, dataset: Dataset, reference: Reference) -> Audit:
    """Runs samples on the test split, beside the retrain reference.

    Raises:
        BadRequest: the reference has nothing that the spec may be judged beside.
    """
    spec = samples.spec
    return Audit(measure(target, samples.weights, spec, dataset.test), reference.beside(spec), reference.masked(spec))
