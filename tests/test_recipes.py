from __future__ import annotations

from dataclasses import replace

import pytest

from hf_mlops.hypernet.recipes import RECIPES, find_recipe, recipe_for_poison


@pytest.mark.parametrize(("dataset", "architecture"), RECIPES)
def test_a_recipe_trains_the_network_it_is_for(dataset: str, architecture: str) -> None:
    assert find_recipe(dataset, architecture).population.architecture == architecture


def test_a_data_set_alone_has_its_first_recipe() -> None:
    assert find_recipe("mnist") == RECIPES["mnist", "mlp-32"]
    assert find_recipe("digits").population.architecture == "mlp-16"


@pytest.mark.parametrize("dataset", ["digits", "folder:/somewhere"])
def test_what_was_not_measured_has_the_nearest_recipe_with_the_network_asked_for(dataset: str) -> None:
    found, nearest = find_recipe(dataset, "resnet"), find_recipe(dataset)
    assert found.population.architecture == "resnet"
    assert found.population.runs == nearest.population.runs and found.hypernet == nearest.hypernet


@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist", "folder:/somewhere"])
def test_customers_of_large_images_are_told_apart_in_more_directions_than_classes(dataset: str) -> None:
    classes, customers = (find_recipe(dataset, classes=classes) for classes in (True, False))
    assert customers.population == classes.population
    assert customers.hypernet == replace(classes.hypernet, components=256, token_width=512)
    assert find_recipe("digits", classes=False).hypernet == find_recipe("digits").hypernet


def test_tokens_of_another_space_have_that_spaces_own_width_unless_one_was_given() -> None:
    recipe = find_recipe("mnist", classes=False)
    assert recipe.given({}, {"space": "latent"}, 0).hypernet.token_width == 0
    assert recipe.given({}, {"space": "latent", "token_width": 8}, 0).hypernet.token_width == 8
    assert recipe.given({}, {"space": "raw", "token_width": None}, 0).hypernet.token_width == 512
    assert recipe.given({}, {"space": None}, 0).hypernet.token_width == 512


@pytest.mark.parametrize(("dataset", "steps"), [("digits", 600), ("mnist", 2400)])
def test_poison_alone_is_learnt_from_few_runs_of_the_data_sets_first_recipe(dataset: str, steps: int) -> None:
    found, first = recipe_for_poison(dataset), find_recipe(dataset)
    assert found.population == replace(first.population, runs=256)
    assert found.hypernet == replace(first.hypernet, train_steps=steps)
