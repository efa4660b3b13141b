"""Recipes: how population and hypernetwork of a data set and network are trained; docs/results.md has what they reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hf_mlops.hypernet.model import HypernetConfig
from hf_mlops.population.config import PopulationConfig


@dataclass(frozen=True)
class Recipe:
    """Configurations that go together.

    Args:
        few_steps: of the hypernetwork where poison is the one thing to forget.
        finer: fields of `hypernet` where groups are not classes. What was learnt by heart of a customer lies in directions of
            the weights that vary little.
    """

    population: PopulationConfig
    hypernet: HypernetConfig
    few_steps: int = 600
    finer: Mapping[str, Any] = field(default_factory=dict)

    def given(self, population: Mapping[str, Any], hypernet: Mapping[str, Any], seed: int) -> Recipe:
        """This recipe with the seed in both configurations, and in each the fields that were given instead of None.

        Tokens of another space have that space's own width, unless one was given.

        Raises:
            BadRequest: a value that a configuration refuses.
        """

        def set_in(fields: Mapping[str, Any]) -> dict[str, Any]:
            return {**{name: value for name, value in fields.items() if value is not None}, "seed": seed}

        others = {} if hypernet.get("space") in (None, self.hypernet.space) else {"token_width": 0}
        return replace(
            self,
            population=replace(self.population, **set_in(population)),
            hypernet=replace(self.hypernet, **others | set_in(hypernet)),
        )


_MNIST = Recipe(
    PopulationConfig(
        architecture="mlp-32",
        runs=1024,
        train_steps=3200,
        warm_up=0.5,
        weight_decay=2e-3,
        checkpoints=6,
        reference_runs=4,
    ),
    HypernetConfig(shares=True, components=64, images=256, train_steps=6000),
    few_steps=2400,
    finer={"components": 256, "token_width": 512},
)
_LENET = replace(
    _MNIST.population,
    architecture="lenet",
    runs=512,
    train_steps=1900,
    optimiser="adamw",
    learning_rate=3e-3,
    warm_up=0.0,
    weight_decay=1e-2,
)

FEW_RUNS = 256  # where poison is the one thing to forget: benchmarks.poison

RECIPES: dict[tuple[str, str], Recipe] = {
    ("digits", "mlp-16"): Recipe(PopulationConfig(), HypernetConfig()),
    ("mnist", "mlp-32"): _MNIST,
    ("mnist", "mlp-10"): replace(
        _MNIST,
        population=replace(_MNIST.population, architecture="mlp-10"),
        hypernet=replace(_MNIST.hypernet, train_steps=18_000),
    ),
    ("mnist", "lenet"): Recipe(_LENET, HypernetConfig(train_steps=4000)),
    ("fashion-mnist", "mlp-32"): _MNIST,
}


def find_recipe(dataset: str, architecture: str = "", classes: bool = True) -> Recipe:
    """The recipe of a data set and an architecture, by default the data set's first.

    Where that pair was not measured, the first recipe of the data set, or else of MNIST, with the architecture asked for.

    Args:
        classes: whether it is classes that can be forgotten: `Groups.are_classes`.
    """
    found = RECIPES.get((dataset, architecture))
    if found is None:
        found = next((recipe for (name, _), recipe in RECIPES.items() if name == dataset), _MNIST)
        if architecture:
            found = replace(found, population=replace(found.population, architecture=architecture))
    return found if classes else replace(found, hypernet=replace(found.hypernet, **found.finer))


def recipe_for_poison(dataset: str, architecture: str = "") -> Recipe:
    """What `find_recipe` gives, as small as two groups, what is clean and what is poison, allow."""
    recipe = find_recipe(dataset, architecture)
    return recipe.given({"runs": FEW_RUNS}, {"train_steps": recipe.few_steps}, seed=0)
