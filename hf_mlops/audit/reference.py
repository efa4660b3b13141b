"""The retrain reference: what samples are judged beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from jaxtyping import Bool, Float, Int

from hf_mlops.audit.measure import Measured, covered_classes, sets_of
from hf_mlops.base import artifact
from hf_mlops.base.config import config_from
from hf_mlops.base.errors import BadRequest
from hf_mlops.base.groups import Groups
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Dataset
from hf_mlops.population.outputs import Outputs


@dataclass(frozen=True)
class Reference:
    """The retrain reference: how targets retrained without D_f, unseen by the hypernetwork, fare on what audits look at.

    Args:
        groups: the groups of the population.
        forgotten: what each of the targets was retrained without.
        outputs: what they answer to the images of `Dataset.audited`.
        held_out: indices of groups that no training run of the hypernetwork forgot together.
        config: of the population, by which they were trained, as in JSON.
    """

    groups: Groups
    forgotten: Bool[Any, "models groups"]
    outputs: Outputs
    held_out: Int[Any, "pairs 2"]
    config: dict[str, Any]

    @classmethod
    def of(cls, population: Any, dataset: Dataset) -> Reference:
        """Measures the reference targets of a population.

        Raises:
            BadRequest: a data set that the population was not trained on.
        """
        rows = population.reference & population.final
        return cls.of_targets(population, population.weights[rows], population.forgotten[rows], dataset)

    @classmethod
    def of_targets(
        cls,
        population: Any,
        weights: Float[Any, "models params"],
        forgotten: Bool[Any, "models groups"],
        dataset: Dataset,
    ) -> Reference:
        """Measures targets that a population's hypernetwork never saw, each retrained without what is given as forgotten.

        Raises:
            BadRequest: a data set that the population was not trained on.
        """
        dataset.require(population.made_from)
        outputs = Outputs.of_targets(population.target, weights, dataset.audited, len(population.groups))
        return cls(population.groups, forgotten, outputs, population.held_out, artifact.as_json(asdict(population.config)))

    def each(self, changed: Callable[[Any], Any]) -> Reference:
        """The same reference with each of its arrays changed: to another library, or device."""
        return replace(
            self, forgotten=changed(self.forgotten), outputs=self.outputs.each(changed), held_out=changed(self.held_out)
        )

    @cached_property
    def _spec_of_each(self) -> list[ForgetSpec]:
        """What each of the targets was retrained without."""
        sets = [[group for group, gone in enumerate(mask) if gone] for mask in self.forgotten.tolist()]
        return [ForgetSpec.of(groups, self.groups.names) for groups in sets]

    def specs(self) -> list[ForgetSpec]:
        """Every spec that there are retrained targets for, smallest D_f first."""
        return sorted(set(self._spec_of_each), key=lambda spec: (len(spec.groups), spec.groups))

    def judged(self) -> list[ForgetSpec]:
        """Those of `specs` that leave a test image in D_r: who forgets all but poison keeps nothing that could be judged."""
        return [spec for spec in self.specs() if self.leaves_images(spec)]

    def leaves_images(self, spec: ForgetSpec) -> bool:
        """Whether a spec leaves an image in D_r to judge by."""
        return bool(sets_of(spec, self.outputs.groups, self.outputs.apart)[0].any())

    def beside(self, spec: ForgetSpec) -> Measured:
        """The retrained targets that a spec is judged beside: its own, or else those that forgot the most of it and no more.

        Beside targets that forgot something else, a sample that destroyed what the request retains would pass. Where several
        parts are as large, it is that of the first target. Targets that forgot only a part answer without the classes of which
        the spec leaves nothing to train on; of other groups they still know the rest.

        Raises:
            BadRequest: no target was retrained without a part of it.
        """
        parts = [own for own in self._spec_of_each if own == spec or (own.groups and set(own.groups) <= set(spec.groups))]
        if not parts:
            raise BadRequest(
                f"there is nothing to judge a sample beside: no target was retrained without {str(spec) or 'nothing'} or a part"
                f" of it, but without {'; '.join(str(one) or 'nothing' for one in self.specs()[:8])}"
            )
        nearest = max(parts, key=lambda own: len(own.groups))
        outputs = self.outputs.only([index for index, own in enumerate(self._spec_of_each) if own == nearest])
        return Measured(nearest, outputs if nearest == spec else self._without_covered(outputs, spec))

    def unforgotten(self, spec: ForgetSpec) -> Measured | None:
        """Targets that forgot nothing, but do not answer with classes of which a spec leaves nothing to train on.

        What every audit must refuse, and has the more to do with the more it is like forgetting: it is a mask where the spec
        covers classes, and the original where it covers none. None: no target was retrained without nothing.
        """
        xp = array_namespace(self.forgotten)
        originals = self.outputs.only(~xp.any(self.forgotten, axis=1))
        return Measured(spec, self._without_covered(originals, spec)) if len(originals.log_probabilities) else None

    def _without_covered(self, outputs: Outputs, spec: ForgetSpec) -> Outputs:
        """Answers without the classes that are all in D_f."""
        covered, answers = covered_classes(self.groups, spec), outputs.log_probabilities
        covers = array_namespace(answers).asarray(covered, device=device(answers))
        return outputs.without(covers) if covered.any() else outputs

    def joined(self, other: Reference) -> Reference:
        """The targets of both, of the same population and test images."""
        xp = array_namespace(self.forgotten)
        answers = xp.concat([self.outputs.log_probabilities, other.outputs.log_probabilities])
        outputs = Outputs.of(answers, self.outputs.labels, self.outputs.groups, len(self.groups), self.outputs.apart)
        return replace(self, forgotten=xp.concat([self.forgotten, other.forgotten]), outputs=outputs)

    def never_together(self, spec: ForgetSpec) -> bool:
        """Whether a spec holds a pair of groups that no training run of the hypernetwork forgot together."""
        return any(set(pair) <= set(spec.groups) for pair in self.held_out.tolist())

    def save(self, directory: Path) -> None:
        """Writes reference.safetensors and reference.json into a directory."""
        arrays = {
            "forgotten": self.forgotten,
            "log_probabilities": self.outputs.log_probabilities,
            "labels": self.outputs.labels,
            "groups": self.outputs.groups,
            "held_out": self.held_out,
        }
        if self.outputs.apart is not None:
            arrays["apart"] = self.outputs.apart
        about = {"groups": asdict(self.groups), "config": self.config}
        artifact.write(directory, "reference", {name: np.asarray(array) for name, array in arrays.items()}, about)

    @classmethod
    def load(cls, directory: Path) -> Reference:
        """Reads what `save` wrote, as arrays of NumPy.

        Raises:
            DamagedArtifact: a missing, truncated or altered file.
        """
        arrays, about = artifact.read(directory, "reference")
        groups = config_from(Groups, about["groups"])
        outputs = Outputs.of(arrays["log_probabilities"], arrays["labels"], arrays["groups"], len(groups), arrays.get("apart"))
        return cls(groups, arrays["forgotten"], outputs, arrays["held_out"], about["config"])
