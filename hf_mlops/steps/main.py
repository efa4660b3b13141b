"""Step `main`: the whole path, each step a child run; finished steps with the same inputs are re-used."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from hf_mlops.audit.gates import Gates
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Dataset
from hf_mlops.hypernet.recipes import Recipe
from hf_mlops.population.executor import Engine
from hf_mlops.registry.lineage import link_to
from hf_mlops.registry.models import load_hypernetwork
from hf_mlops.registry.names import CHALLENGER, CHAMPION, PURGED, STANDING, VERSION, alias_of
from hf_mlops.registry.permissions import EDIT, MANAGE, require_permissions
from hf_mlops.registry.runs import find_run, step_run
from hf_mlops.registry.store import shown
from hf_mlops.registry.versions import (
    Subject,
    classifier_name,
    could_belong,
    model_for,
    name_of,
    refuse_withdrawn,
    serving,
    still_there,
)
from hf_mlops.steps.evaluate import Evaluate
from hf_mlops.steps.export import Export
from hf_mlops.steps.forget import Forget, Sampling
from hf_mlops.steps.hypernet import Hypernet
from hf_mlops.steps.promote import Promote, in_office
from hf_mlops.steps.step import Step, once
from hf_mlops.steps.targets import Targets


@dataclass(frozen=True)
class Main(Step):
    """Trains, audits, registers and exports.

    Args:
        recipe: of the population and the hypernetwork.
        dataset: to train on.
        data_dir: where its files were looked for; only noted.
        spec: what the classifier to register forgets.
        gates: what it and the hypernetwork must show.
        output: the folder to export to.
        seed: of evaluation and sampling.
        device: `auto`, `cpu` or `cuda`.
        engine: where targets are trained.
        retrained: how many to retrain for the very spec, to judge the classifier beside; 0: the population's will do.
    """

    name = "main"
    room = "audit"

    recipe: Recipe
    dataset: Dataset
    data_dir: str
    spec: ForgetSpec
    gates: Gates
    output: Path
    seed: int = 0
    device: str = "auto"
    engine: Engine = Engine()
    retrained: int = 0

    @property
    def inputs(self) -> dict[str, Any]:
        """Only noted: the whole path is gone through each time; its steps are found by their own fingerprints."""
        return {
            "dataset": self.dataset.name,
            "data_dir": self.data_dir,
            "groups": self.dataset.grouping,
            "device": self.device,
            "engine": asdict(self.engine),
            "forget_class": str(self.spec),
            "population": asdict(self.recipe.population),
            "hypernet": asdict(self.recipe.hypernet),
            "gates": asdict(self.gates),
            "retrained": self.retrained,
        }

    def check(self) -> None:
        """Asks for the names that it will register under, and whether the user may.

        Raises:
            BadRequest: other subjects have them, or the user may not.
        """
        population = self.recipe.population
        name = model_for(Subject.trained_on(self.dataset.identity, population.architecture, population.scope), could_belong)
        require_permissions(models={name: MANAGE, classifier_name(name): EDIT})

    def run(self) -> Run:
        self.check()
        dataset, params = self.dataset, {"forget_class": str(self.spec), "dataset": self.dataset.name}
        targets = Targets(self.recipe.population, dataset, self.device, self.engine)
        title = f"forget {self.spec} · {dataset.name} · {self.recipe.population.architecture}"
        with step_run(self.name, self.fingerprint, params, name=title) as active:
            mlflow.log_dict(self.inputs, "configuration.json")
            population = once(targets, self._serves)
            hypernet = once(self._hypernet(population), is_registered)
            champion = load_hypernetwork(version_of(hypernet))
            if champion.version.tags.get(STANDING) == CHALLENGER:
                print("\n== promote")
                Promote(champion, in_office(champion), dataset, self.gates).run()
            evaluation = once(Evaluate(champion, dataset, seed=self.seed))
            arrays = dataset.each(np.asarray)
            request = Forget(champion, arrays, self.spec, self.gates, Sampling(seed=self.seed), self.retrained)
            forget = once(request, is_registered)
            classifier = version_of(forget)
            print("\n== export")
            Export(classifier, self.output).run()
            mlflow.log_metrics({**evaluation.data.metrics, **forget.data.metrics})
            mlflow.set_tag("mlflow.note.content", f"{link_to(name_of(classifier))}, sampled from {link_to(str(champion))}.")
            for version, alias in ((champion.version, CHAMPION), (classifier, alias_of(self.spec.slug))):
                print(f"\n{serving(version, alias)}")
            uri = shown(mlflow.get_tracking_uri())
            where = uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"
            print(f"\nall runs, figures and pictures: {where}")
        return active

    def _hypernet(self, population: Run) -> Hypernet:
        return Hypernet(self.recipe.hypernet, self.gates, population, self.dataset, self.device)

    def _serves(self, population: Run) -> bool:
        """Whether a population is there to be trained on, or else the hypernetwork that has been."""
        if PURGED not in population.data.tags:
            return True
        trained = find_run(Hypernet.name, self._hypernet(population).fingerprint)
        return trained is not None and is_registered(trained)


def is_registered(run: Run) -> bool:
    """Whether the version that a run has registered is still there.

    Raises:
        BadRequest: it was withdrawn: neither is it used again, nor another made by the way.
    """
    version = still_there(run.data.tags[VERSION]) if VERSION in run.data.tags else None
    if version is not None:
        refuse_withdrawn(version)
    return version is not None


def version_of(run: Run) -> ModelVersion:
    """The version of a registered model that a run has made."""
    version = still_there(run.data.tags[VERSION])
    assert version is not None
    return version
