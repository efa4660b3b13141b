"""Audits and gates: what samples show on the test split, and what they must show to be promoted."""

from __future__ import annotations

from dataclasses import dataclass

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

    def __post_init__(self) -> None:
        share = (lambda x: 0 <= x <= 1, "0 to 1")
        check_config(self, {"max_forget_accuracy": share, "max_retain_gap": share})


@dataclass(frozen=True)
class Audit:
    """Test results of samples of one spec and of the retrain reference.

    Args:
        sampled: the samples, on the test split.
        reference: retrained targets of the same spec, or of a part of it, on the same split; its `spec` says which.
    """

    sampled: Measured
    reference: Measured

    def figures(self, index: int | None = None) -> dict[str, float]:
        """Accuracy and loss on D_f and D_r, of one sample or of the mean of all, beside the reference's mean.

        The reference is judged on the D_f and D_r of the sample's spec; D_f figures are absent where D_f is empty. Of one
        sample, `forget_accuracy_at_most` bounds what its accuracy on D_f may be on images without number (`at_most`).
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
            result["forget_accuracy_at_most"] = at_most(result["forget_accuracy"], judged.images_to_forget)
        return result

    def failures(self, gates: Gates, index: int | None = None) -> list[str]:
        """The gates that a sample (or the mean of all) does not pass, each as a sentence; empty if it passes."""
        figures = self.figures(index)
        forget, retain = figures.get("forget_accuracy"), figures["retain_accuracy"]
        floor = figures["reference_retain_accuracy"] - gates.max_retain_gap
        failures = []
        if forget is not None and not forget <= gates.max_forget_accuracy:  # NaN fails
            failures.append(f"accuracy on D_f is {forget:.4f}; allowed: at most {gates.max_forget_accuracy}")
        if not retain >= floor:
            failures.append(
                f"accuracy on D_r is {retain:.4f}; allowed: at least {floor:.4f}, which is"
                f" {gates.max_retain_gap} under the retrain reference"
            )
        return failures


def audit_samples(target: Target, samples: Samples, dataset: Dataset, reference: Reference) -> Audit:
    """Runs samples on the test split, beside the retrain reference.

    Raises:
        BadRequest: the reference has nothing that the spec may be judged beside.
    """
    return Audit(measure(target, samples.weights, samples.spec, dataset.test), reference.beside(samples.spec))
