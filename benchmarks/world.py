"""A world that `benchmarks.worlds` judges: what is trained on one half of the training images, and what it answers to them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from benchmarks.trained import KEPT
from hf_mlops import Dataset, ForgetSpec, Split, retrain, train_hypernetwork, train_population
from hf_mlops.base.artifact import as_json, whole_directory
from hf_mlops.base.progress import Progress
from hf_mlops.compute.tensors import read_tensors, write_tensors
from hf_mlops.hypernet.recipes import Recipe, find_recipe
from hf_mlops.population.draw import draw_forget_sets
from hf_mlops.population.outputs import Outputs

PRODUCTION, RETRAINED, SAMPLED = "production", "retrained", "sampled"
START_TIMES = (0.1, 0.2, 0.5, 0.8, 1.0)
SINGLE, PAIR = SETS = ("single", "pair never together")
IMAGES = 200  # judged of each class, at most


@dataclass(frozen=True)
class Plan:
    """What is trained in every world, and what is asked of it.

    Args:
        name: of data set and network.
        recipe: of population and hypernetwork, the same seed in all worlds: they differ in their images alone.
        specs: each with the set, of `SETS`, that it is of; an image is in one spec of a set at most.
        models: classifiers of each kind and spec.
        judged: indices of the training images.
    """

    name: str
    recipe: Recipe
    specs: dict[ForgetSpec, str]
    models: int
    judged: Int[Tensor, " images"]

    @classmethod
    def of(
        cls, data: Dataset, architecture: str | None, models: int, runs: int | None, hypernet_steps: int | None, seed: int
    ) -> Plan:
        """The recipe of the data set, but for what is given instead."""
        recipe = find_recipe(data.name, architecture or "")
        recipe = recipe.given({"runs": runs, "reference_runs": 1}, {"train_steps": hypernet_steps}, seed)
        names, labels = data.groups.names, data.train.labels
        specs = {ForgetSpec.of([group], names): SINGLE for group in range(len(names))}
        used: set[int] = set()
        for pair in draw_forget_sets(recipe.population, data.groups).held_out.tolist():
            if not used & set(pair):
                specs[ForgetSpec.of(pair, names)] = PAIR
                used |= set(pair)
        first = torch.cat([(labels == label).nonzero()[:IMAGES, 0] for label in labels.unique()])
        return cls(f"{data.name}-{recipe.population.architecture}", recipe, specs, models, first.sort().values)

    def about(self, world: Dataset) -> dict:
        """All that a world's answers depend on; JSON-ready."""
        recipe = {"population": asdict(self.recipe.population), "hypernet": asdict(self.recipe.hypernet)}
        asked = {"specs": list(map(str, self.specs)), "models": self.models, "judged": len(self.judged), "times": START_TIMES}
        return as_json({**recipe, **asked, "made_from": world.identity})

    @property
    def folder(self) -> Path:
        """Where worlds are kept."""
        runs, steps = self.recipe.population.runs, self.recipe.hypernet.train_steps
        return KEPT / f"worlds-{self.name}-{self.recipe.population.seed}-{runs}-{steps}-{self.models}"


def worlds_answers(
    plan: Plan, data: Dataset, members: Bool[Tensor, "worlds images"], device: str, afresh: bool
) -> dict[str, Float[Tensor, "worlds models images classes"]]:
    """Log probabilities of every kind of classifier on the images judged; NaN on images that the kind was not asked about.

    Worlds that were kept are read, the others trained and kept.
    """
    found = []
    with Progress("worlds", len(members), "world") as progress:
        for number, own in enumerate(members):
            train = Split(data.train.images[own], data.train.labels[own], data.train.groups[own])
            world, folder = replace(data, train=train), plan.folder / f"world-{number}"
            answers = _kept(folder, plan.about(world)) if not afresh else None
            if answers is None:
                answers = _answers(plan, world, data.train, device)
                with whole_directory(folder) as partial:
                    write_tensors(partial, "answers", answers, plan.about(world))
            found.append(answers)
            progress.advance()
    return {kind: torch.stack([one[kind] for one in found]) for kind in found[0]}


def _kept(folder: Path, about: dict) -> dict[str, Tensor] | None:
    """The answers of a world, if they are there and are of this plan."""
    if not folder.exists():
        return None
    answers, found = read_tensors(folder, "answers")
    return answers if found == about else None


def _answers(plan: Plan, world: Dataset, train: Split, device: str) -> dict[str, Float[Tensor, "models images classes"]]:
    """Trains a world, and asks each kind of classifier about the images of its spec; float16."""
    config, seed = plan.recipe.population, plan.recipe.population.seed
    population = train_population(config, world, device)
    hypernetwork = train_hypernetwork(plan.recipe.hypernet, population, world, device)
    masks = torch.tensor([[False] * len(world.groups), *(spec.mask for spec in plan.specs)])
    fresh = retrain(config, world, masks.repeat(plan.models, 1), seed, device, together=len(masks))
    production, *retrained = fresh.unflatten(0, (plan.models, len(masks))).unbind(1)
    judged = Split(train.images[plan.judged], train.labels[plan.judged], train.groups[plan.judged])
    hypernetwork.place(torch.device("cpu"))
    population.target.to(torch.device("cpu"))

    def asked(weights: Tensor) -> Tensor:
        outputs = Outputs.of_targets(population.target, weights, judged, len(world.groups))
        return outputs.log_probabilities.half()

    answers = {PRODUCTION: asked(production)}
    with Progress("sampling", len(plan.specs), "spec") as progress:
        for (spec, of), targets in zip(plan.specs.items(), retrained, strict=True):
            images = torch.tensor(spec.mask)[judged.groups]
            kinds = {RETRAINED: targets, SAMPLED: hypernetwork.sample(spec, plan.models, seed).weights}
            for time in START_TIMES:
                begun = [
                    hypernetwork.sample(spec, 1, seed + i, start=start, start_time=time).weights
                    for i, start in enumerate(production)
                ]
                kinds[f"start time {time}"] = torch.cat(begun)
            for kind, weights in kinds.items():
                empty = torch.full_like(answers[PRODUCTION], torch.nan)
                answers.setdefault(f"{kind}, {of}", empty)[:, images] = asked(weights)[:, images]
            progress.advance()
    return answers
