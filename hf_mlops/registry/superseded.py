"""Versions whose place others have taken: which, since when, and their deletion."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import mlflow
from mlflow.entities.model_registry import ModelVersion, RegisteredModel

from hf_mlops.registry.names import ARCHITECTURE, CHALLENGER, CHAMPION_SINCE, FORGET, STANDING, WHOLE, WITHDRAWN
from hf_mlops.registry.storage import delete_model, place_of
from hf_mlops.registry.versions import delete, name_of
from hf_mlops.registry.withdrawal import delete_exports


@dataclass(frozen=True)
class Registry:
    """All that is registered in a store, by whomever, as it is at one moment."""

    versions: tuple[ModelVersion, ...]
    models: tuple[RegisteredModel, ...]

    @classmethod
    def read(cls) -> Registry:
        return cls(tuple(mlflow.search_model_versions()), tuple(mlflow.search_registered_models()))

    @cached_property
    def serving(self) -> set[str]:
        """Versions under an alias, by name and number."""
        return {f"{model.name}/{number}" for model in self.models for number in model.aliases.values()}

    @cached_property
    def by_place(self) -> dict[str, list[ModelVersion]]:
        """Versions that have the same files, one and its copies, by where these are."""
        found: dict[str, list[ModelVersion]] = defaultdict(list)
        for version in sorted(self.versions, key=lambda version: version.creation_timestamp):
            found[place_of(version)].append(version)
        return dict(found)

    @cached_property
    def runs_serving(self) -> set[str]:
        """Runs that have made a version under an alias."""
        return {version.run_id or "" for version in self.versions if name_of(version) in self.serving}

    def superseded_since(self, version: ModelVersion) -> float | None:
        """When another version took the place of this one, or when it was withdrawn, in seconds since 1970.

        None: it has not been, is under an alias, or is not this package's to judge.
        """
        tags = version.tags
        if name_of(version) in self.serving or ARCHITECTURE not in tags or tags.get(WHOLE) != "true":
            return None
        if WITHDRAWN in tags:
            return _seconds(tags[WITHDRAWN])
        after = [other for other in self._successors[_post(version)] if int(other.version) > int(version.version)]
        return max(version.creation_timestamp / 1000, min(map(_in_place_since, after))) if after else None

    @cached_property
    def _successors(self) -> dict[tuple[str, str], list[ModelVersion]]:
        """Versions that may take the place of an older one of the same post. A challenger does not."""
        found: dict[tuple[str, str], list[ModelVersion]] = defaultdict(list)
        for version in self.versions:
            tags = version.tags
            if tags.get(WHOLE) == "true" and WITHDRAWN not in tags and tags.get(STANDING) != CHALLENGER:
                found[_post(version)].append(version)
        return found


def _post(version: ModelVersion) -> tuple[str, str]:
    """What only one version of a registered model serves as: the classifier of a spec, or the champion."""
    return version.name, version.tags.get(FORGET, "")


def _in_place_since(version: ModelVersion) -> float:
    since = version.tags.get(CHAMPION_SINCE)
    return _seconds(since) if since else version.creation_timestamp / 1000


def _seconds(time: str) -> float:
    """Seconds since 1970 of a time as tags have it."""
    return datetime.fromisoformat(time).timestamp()


def delete_versions(versions: list[ModelVersion], place: str, model_id: str | None) -> None:
    """Deletes versions that have the same files, then copies that `export` has left of them in the store, then the files.

    Whoever is killed in between leaves files that no version refers to, which are found as such.
    """
    for version in versions:
        delete_exports(version)
        delete(version)
    delete_model(place, model_id)
