"""The retrain reference: what samples are judged beside."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_mlops.audit.measure import Measured
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.compute.tensors import read_tensors, write_tensors
from hf_mlops.data.dataset import Dataset
from hf_mlops.population.outputs import Outputs
from hf_mlops.population.population import Population


def jaccard(one: Set[int], other: Set[int]) -> float:
    """What two sets share of their union: 1/3 for {1, 2} and {2, 3}; 1 for equal sets, two empty ones too."""
    return 1.0 if one == other else len(one & other) / len(one | other)


@dataclass(frozen=True)
class Reference:
    """The retrain reference: how targets retrained without D_f, unseen by the hypernetwork, fare on the test split.

    Args:
        group_names: names of the groups.
        forgotten: what each of the targets was retrained without.
        outputs: what they answer to the test images.
        held_out: indices of groups that no training run of the hypernetwork forgot together.
    """

    group_names: tuple[str, ...]
    forgotten: Bool[Tensor, "models groups"]
    outputs: Outputs
    held_out: Int[Tensor, "pairs 2"]

    @classmethod
    def of(cls, population: Population, dataset: Dataset) -> Reference:
        """Measures the reference targets of a population.

        Raises:
            BadRequest: a data set that the population was not trained on.
        """
        rows = population.reference & population.final
        return cls.of_targets(population, population.weights[rows], population.forgotten[rows], dataset)

    @classmethod
    def of_targets(
        cls,
        population: Population,
        weights: Float[Tensor, "models params"],
        forgotten: Bool[Tensor, "models groups"],
        dataset: Dataset,
    ) -> Reference:
        """Measures targets that a population's hypernetwork never saw, each retrained without what is given as forgotten.

        Raises:
            BadRequest: a data set that the population was not trained on.
        """
        dataset.require(population.made_from)
        outputs = Outputs.of_targets(population.target, weights, dataset.test, len(population.groups))
        return cls(population.groups.names, forgotten, outputs, population.held_out)

    @cached_property
    def _spec_of_each(self) -> list[ForgetSpec]:
        """What each of the targets was retrained without."""
        sets = [[group for group, gone in enumerate(mask) if gone] for mask in self.forgotten.tolist()]
        return [ForgetSpec.of(groups, self.group_names) for groups in sets]

    def specs(self) -> list[ForgetSpec]:
        """Every spec that there are retrained targets for, smallest D_f first."""
        return sorted(set(self._spec_of_each), key=lambda spec: (len(spec.groups), spec.groups))

    def closest(self, spec: ForgetSpec) -> Measured:
        """The retrained targets whose D_f is most like that of a spec: its own where they exist.

        {3, 5} and {3} share 1/2 of their union, {3, 5} and {3, 5, 7} share 2/3: of these two it is the latter (`jaccard`).
        Where several are as like, it is the D_f of the first target.
        """
        nearest = max(self._spec_of_each, key=lambda own: jaccard(set(own.groups), set(spec.groups)))
        return Measured(nearest, self.outputs.only(torch.tensor([own == nearest for own in self._spec_of_each])))

    def never_together(self, spec: ForgetSpec) -> bool:
        """Whether a spec holds a pair of groups that no training run of the hypernetwork forgot together."""
        return any(set(pair) <= set(spec.groups) for pair in self.held_out.tolist())

    def save(self, directory: Path) -> None:
        """Writes reference.safetensors and reference.json into a directory."""
        tensors = {
            "forgotten": self.forgotten,
            "log_probabilities": self.outputs.log_probabilities,
            "labels": self.outputs.labels,
            "groups": self.outputs.groups,
            "held_out": self.held_out,
        }
        write_tensors(directory, "reference", tensors, {"group_names": self.group_names})

    @classmethod
    def load(cls, directory: Path) -> Reference:
        """Reads what `save` wrote.

        Raises:
            DamagedArtifact: a missing, truncated or altered file.
        """
        tensors, about = read_tensors(directory, "reference")
        names = tuple(about["group_names"])
        outputs = Outputs.of(tensors["log_probabilities"], tensors["labels"], tensors["groups"], len(names))
        return cls(names, tensors["forgotten"], outputs, tensors["held_out"])
