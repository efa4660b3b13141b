"""Where a version comes from: classifier, hypernetwork, population, data. By its tags alone: all before it may be deleted."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow.entities.model_registry import ModelVersion

from hf_mlops.registry.names import DATA_DIGEST, DATASET, FORGET, HYPERNET_RUN, SAMPLED_FROM, TARGETS_RUN
from hf_mlops.registry.versions import name_of


@dataclass(frozen=True)
class Lineage:
    """What a version was made from; empty where its tags do not say.

    Args:
        classifier: by name and number; empty for a hypernetwork.
        hypernetwork: that it was sampled from, by name and number.
        hypernet_run: the run that trained the hypernetwork.
        targets_run: the run that trained its population.
        dataset, data_digest: what both were trained on.
    """

    classifier: str
    hypernetwork: str
    hypernet_run: str
    targets_run: str
    dataset: str
    data_digest: str

    def in_markdown(self) -> str:
        """All but the classifier, as links in MLflow's pages."""
        sampled = f"Sampled from {link_to(self.hypernetwork)}, which was trained" if self.classifier else "Trained"
        runs = {"": self.hypernet_run, "on the population of ": self.targets_run}
        of = " ".join(f"{what}[run {run[:8]}](#/runs/{run})" for what, run in runs.items() if run)
        return f"{sampled}{' by ' * bool(of)}{of}; data: {self.dataset}, digest `{self.data_digest}`."


def lineage(version: ModelVersion) -> Lineage:
    """Where a registered classifier or hypernetwork comes from, from its tags alone."""
    return told_by(version.tags, name_of(version), version.run_id or "")


def told_by(tags: dict[str, str], version: str, run_id: str) -> Lineage:
    """The lineage that tags tell of a version, by name and number, that a run has made."""
    is_classifier = FORGET in tags
    return Lineage(
        classifier=version if is_classifier else "",
        hypernetwork=tags.get(SAMPLED_FROM, "") if is_classifier else version,
        hypernet_run=tags.get(HYPERNET_RUN, "") if is_classifier else run_id,
        targets_run=tags.get(TARGETS_RUN, ""),
        dataset=tags.get(DATASET, ""),
        data_digest=tags.get(DATA_DIGEST, ""),
    )


def origin(hypernetwork: ModelVersion) -> dict[str, str]:
    """The tags by which a classifier says what it was sampled from, and what that was trained on."""
    made_by = lineage(hypernetwork)
    tags = {SAMPLED_FROM: made_by.hypernetwork, HYPERNET_RUN: made_by.hypernet_run, TARGETS_RUN: made_by.targets_run}
    return {name: value for name, value in tags.items() if value}


def link_to(version: str) -> str:
    """A version of a registered model, `hyperforget/3`, as a link in MLflow's pages."""
    name, _, number = version.partition("/")
    return f"[{version}](#/models/{name}/versions/{number})"
