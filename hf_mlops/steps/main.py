"""Step `main`: the whole path, each step a child run; finished steps with the same inputs are re-used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run

from hf_mlops.audit.gates import Gates
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Dataset
from hf_mlops.hypernet.recipes import Recipe
from hf_mlops.population.executor import Engine
from hf_mlops.registry.models import find_classifier, load_champion, promote_again
from hf_mlops.registry.names import CHAMPION, CLASSIFIER, HYPERFORGET, VERSION, alias_of, child_tag
from hf_mlops.registry.runs import find_run, step_run
from hf_mlops.steps.evaluate import Evaluate
from hf_mlops.steps.export import Export
from hf_mlops.steps.forget import Forget, Sampling
from hf_mlops.steps.hypernet import Hypernet
from hf_mlops.steps.step import Step
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

    @property
    def configuration(self) -> dict[str, Any]:
        """All that decides the path, as JSON."""
        return {
            "dataset": self.dataset.name,
            "data_dir": self.data_dir,
            "device": self.device,
            "engine": asdict(self.engine),
            "forget_class": str(self.spec),
            "population": asdict(self.recipe.population),
            "hypernet": asdict(self.recipe.hypernet),
            "gates": asdict(self.gates),
        }

    @property
    def inputs(self) -> dict[str, Any]:
        """Not looked at: the whole path is gone through each time; its steps are found by their own fingerprints."""
        return self.configuration

    def run(self) -> Run:
        dataset, slug = self.dataset, self.spec.slug
        targets = Targets(self.recipe.population, dataset, self.device, self.engine)
        with step_run(self.name, self.fingerprint, {"forget_class": str(self.spec), "dataset": dataset.name}) as active:
            mlflow.log_dict(self.configuration, "configuration.json")
            population = once(targets)
            once(
                Hypernet(self.recipe.hypernet, self.gates, population, dataset, self.device),
                lambda run: promote_again(HYPERFORGET, CHAMPION, version_of(run)),
            )
            champion = load_champion()
            once(Evaluate(champion, dataset, seed=self.seed))
            once(
                Forget(champion, dataset, self.spec, self.gates, Sampling(seed=self.seed)),
                lambda run: promote_again(CLASSIFIER, alias_of(slug), version_of(run)),
            )
            print("\n== export")
            Export(find_classifier(slug), slug, self.output).run()
            uri = mlflow.get_tracking_uri()
            where = uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"
            print(f"\nall runs, figures and pictures: {where}")
        return active


def once(step: Step, still_good: Callable[[Run], bool] = lambda run: True) -> Run:
    """The finished run of a step with its fingerprint, if it is still good; else a new one."""
    print(f"\n== {step.name}")
    done = find_run(step.name, step.fingerprint)
    if done is not None and still_good(done):
        print(f"re-used the finished run {done.info.run_id}: same parameters, code and data")
    else:
        done = step.run()
    mlflow.set_tag(child_tag(step.name), done.info.run_id)
    return done


def version_of(run: Run) -> str | None:
    """The version of a registered model that a run made."""
    return run.data.tags.get(VERSION)
