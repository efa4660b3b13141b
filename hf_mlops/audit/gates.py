"""Audits and gates: what samples show, and what they must show to be promoted."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import isnan, nan

from array_api_compat import array_namespace

from hf_mlops.audit.closing import SCALE, Way
from hf_mlops.audit.measure import Measured, at_most, measure
from hf_mlops.audit.reference import Reference
from hf_mlops.base.config import check_config
from hf_mlops.data.dataset import Dataset
from hf_mlops.population.outputs import Answering
from hf_mlops.serving.sampler import Samples

CHANCE = 2.0  # standard deviations of retrained targets that a sample may be beside them


@dataclass(frozen=True)
class Gates:
    """What a sampled classifier must show before it may be promoted."""

    max_forget_gap: float = 0.01  # accuracy on D_f, the sample's less that of the retrain reference
    max_retain_gap: float = 0.02  # accuracy on D_r, mean of the retrain reference less the sample's
    max_forget_distance: float = 0.5  # on D_f from retraining: 0 as retrained, 1 as if nothing was forgotten; 1 lets all pass

    def __post_init__(self) -> None:
        share = (lambda x: 0 <= x <= 1, "0 to 1")
        check_config(self, dict.fromkeys(self.names, share))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the gates."""
        return tuple(field.name for field in fields(self))


@dataclass(frozen=True)
class Audit:
    """Results of samples of one spec and of the retrain reference.

    Args:
        sampled: the samples, on `Dataset.audited`.
        reference: retrained targets of the same spec, or of a part of it, on the same images; its `spec` says which.
        unforgotten: targets that forgot nothing, which at most leave the classes of the spec out of their answers, on the same
            images, if any.
    """

    sampled: Measured
    reference: Measured
    unforgotten: Measured | None = None

    def figures(self, index: int | None = None) -> dict[str, float]:
        """Accuracy and loss on D_f and D_r, of one sample or of the mean of all, beside the reference's mean.

        The reference is judged on the D_f and D_r of the sample's spec; D_f figures are absent where D_f is empty. Of one
        sample, `forget_accuracy_at_most` bounds what its accuracy on D_f may be on images without number (`at_most`), unless
        it was measured on training images. `attack_success` stands beside those of the reference and of unforgotten targets
        where there are images with a trigger.

        Where several targets were retrained for the very spec, `forget_divergence` is that of the answers on D_f from the mean
        of theirs, beside each of theirs from the mean of the others. Where there are unforgotten classifiers, too, `closed` is
        where on the way from their mean loss on D_f, 0, to the reference's, 1, the sample's lies, unless they mask what a
        retrained one never saw; and `forget_distance` is how far it is from the end of that way, or of the way that divergences
        go, whichever is more, clipped to 0 and 1. A way counts that is longer by half than retrained targets are off each
        other; where neither is, the distance is NaN. `least_closed` is the least that is closed on any of several groups of D_f
        by itself whose way counts.
        """
        spec, judged = self.sampled.spec, self._judged(index)
        result = {}
        for who, measured in (("", judged), ("reference_", self.reference)):
            for what, (retain, forget) in (
                ("accuracy", measured.accuracy_on_sets(spec)),
                ("loss", measured.loss_on_sets(spec)),
            ):
                result[f"{who}retain_{what}"] = float(retain.mean())
                if spec.groups:
                    result[f"{who}forget_{what}"] = float(forget.mean())
        for who, some in (("", judged), ("reference_", self.reference), ("unforgotten_", self.unforgotten)):
            if some is not None and some.triggered.any():
                result[f"{who}attack_success"] = float(some.attack_success.mean())
        if index is not None and spec.groups and not self._learnt:
            result["forget_accuracy_at_most"] = at_most(result["forget_accuracy"], int(judged.to_forget.sum()))
        if spec.groups and self.reference.spec == spec and len(self.reference.losses) > 1:
            result |= self._divergences(judged)
        return result

    def _judged(self, index: int | None) -> Measured:
        return self.sampled if index is None else self.sampled.only(index)

    def _divergences(self, judged: Measured) -> dict[str, float]:
        """How far answers on D_f are from retrained ones."""
        found, floor = float(judged.divergence(self.reference.answers).mean()), self._floor
        result = {"forget_divergence": found, "reference_forget_divergence": floor}
        if self.unforgotten is not None:
            result["unforgotten_forget_divergence"] = known = self._known
            off = [max((found - floor) / (known - floor), 0.0)] if known > SCALE * floor else []
            if self._way.exists:
                result["closed"] = closed = self._way.gone(float(judged.loss_on_sets().forget.mean()))
                off += [abs(1 - closed)] if self._way.counts else []
            if gone := self._gone(judged):
                result["least_closed"] = min(gone.values())
            result["forget_distance"] = min(max(off, default=nan), 1.0)
        return result

    @property
    def _learnt(self) -> bool:
        """Whether D_f is judged on training images of its own."""
        apart = self.sampled.outputs.apart
        return apart is not None and bool((apart & self.sampled.to_forget).any())

    @cached_property
    def _floor(self) -> float:
        """Divergence of retrained targets' answers on D_f, each from the mean of the others."""
        count, total = len(self.reference.losses), self.reference.answers * len(self.reference.losses)
        each = [self.reference.only(index) for index in range(count)]
        return sum(float(one.divergence((total - one.answers) / (count - 1))[0]) for one in each) / count

    @cached_property
    def _way(self) -> Way:
        """Of the mean loss on D_f."""
        assert self.unforgotten is not None
        return Way.between(self.unforgotten.loss_on_sets().forget, self.reference.loss_on_sets().forget)

    @cached_property
    def _ways(self) -> dict[int, Way]:
        """Those that count of the losses on each of several groups in D_f.

        By two or three retrained targets nobody can say how far they are off each other on one group: it is taken as the root
        mean square over the groups, or of fifty some would be refused by chance.
        """
        assert self.unforgotten is not None
        several = self.sampled.spec.groups if len(self.sampled.spec.groups) > 1 else ()
        ways = {group: Way.between(self.unforgotten.losses[:, group], self.reference.losses[:, group]) for group in several}
        ways = {group: way for group, way in ways.items() if way.exists}
        spread = (sum(way.spread**2 for way in ways.values()) / max(len(ways), 1)) ** 0.5
        ways = {group: replace(way, spread=spread) for group, way in ways.items()}
        return {group: way for group, way in ways.items() if way.counts}

    def _gone(self, judged: Measured) -> dict[int, float]:
        """How far on each of `_ways`."""
        return {group: way.gone(float(judged.losses[:, group].mean())) for group, way in self._ways.items()}

    @cached_property
    def _known(self) -> float:
        """Divergence of unforgotten classifiers' answers on D_f from the mean of retrained ones."""
        assert self.unforgotten is not None
        return float(self.unforgotten.divergence(self.reference.answers).mean())

    def refused(self, gates: Gates, index: int | None = None) -> dict[str, str]:
        """The gates that a sample (or the mean of all) does not pass, by name, each with a sentence; empty if it passes.

        A figure that could not be measured fails, but for a `forget_distance` that there is no reference for, or any that is
        allowed to be 1.
        """
        figures = self.figures(index)
        floor = figures["reference_retain_accuracy"] - gates.max_retain_gap
        result = {}
        if "forget_accuracy" in figures:
            retrained = self.reference.accuracy_on_sets(self.sampled.spec).forget
            chance = CHANCE * float(array_namespace(retrained).std(retrained, correction=1)) if len(retrained) > 1 else 0.0
            most = float(retrained.mean()) + chance + gates.max_forget_gap
            if not figures["forget_accuracy"] <= most:  # NaN fails
                result["max_forget_gap"] = (
                    f"accuracy on D_f is {figures['forget_accuracy']:.4f}; allowed: at most {most:.4f}, which is"
                    f" {gates.max_forget_gap} over the retrain reference{' and what chance makes of it' * (chance > 0)}"
                )
        if gates.max_forget_distance < 1 and (why := self._too_far(figures, gates.max_forget_distance, index)):
            result["max_forget_distance"] = why
        if not figures["retain_accuracy"] >= floor:
            result["max_retain_gap"] = (
                f"accuracy on D_r is {figures['retain_accuracy']:.4f}; allowed: at least {floor:.4f}, which is"
                f" {gates.max_retain_gap} under the retrain reference"
            )
        return result

    def _too_far(self, figures: dict[str, float], most: float, index: int | None) -> str:
        """Why D_f or a group of it is not forgotten, by a largest distance; empty if it is.

        A single group is told less surely than all of D_f, and may be half as far from 1 as that.
        """
        distance, least = figures.get("forget_distance", 0.0), (1 - most) / 2
        if isnan(distance):
            hardly = "classifiers that forgot nothing are hardly farther from retrained ones than these from each other"
            return f"distance from retraining on D_f cannot be told, since {hardly}; allowed: at most {most}"
        if distance > most:
            return f"distance from retraining on D_f is {distance:.4f}; allowed: at most {most}"
        if figures.get("least_closed", 1.0) < least:
            gone = self._gone(self._judged(index))
            name = self.sampled.spec.group_names[min(gone, key=lambda group: gone[group])]
            return (
                f"loss on {name}, which is a part of D_f, has gone {figures['least_closed']:.4f} of the way to retraining;"
                f" allowed: at least {least}"
            )
        return ""

    def passed(self, gates: Gates) -> float:
        """Share of the samples that pass all gates, each judged by itself."""
        count = len(self.sampled.losses)
        return sum(not self.refused(gates, index) for index in range(count)) / count


def audit_samples(target: Answering, samples: Samples, dataset: Dataset, reference: Reference) -> Audit:
    """Runs samples on what audits look at, beside the retrain reference.

    Raises:
        BadRequest: the reference has nothing that the spec may be judged beside.
    """
    spec = samples.spec
    measured = measure(target, samples.weights, spec, dataset.audited)
    return Audit(measured, reference.beside(spec), reference.unforgotten(spec))
