"""Going back: an alias moves to the version before, if that is what was audited."""

from __future__ import annotations

import mlflow
from mlflow.entities.model_registry import ModelVersion

from hf_mlops.base.errors import BadRequest
from hf_mlops.base.spec import slug_of
from hf_mlops.registry.models import classifier_of, load_hypernetwork
from hf_mlops.registry.names import CHALLENGER, CHAMPION, FORGET, STANDING, WHOLE, WITHDRAWN, alias_of
from hf_mlops.registry.versions import name_of, newest_first, set_alias


def roll_back(name: str, forget: str = "") -> tuple[str, str, ModelVersion]:
    """Moves an alias to the newest version that is older than the one it is on, whole and not withdrawn; and, of hypernetworks,
    that was champion before.

    One that is on no version moves to the newest of all: what it was on has been withdrawn.

    Args:
        name: of a registered model.
        forget: names of groups, joined by commas: that forget spec's alias; empty: `champion`.

    Returns:
        the alias, the number of the version that it was on (empty: none), and the version that it is on now.

    Raises:
        BadRequest: there is no such version; says which there are.
        DamagedArtifact: there is, and it is not what was audited.
    """
    alias = alias_of(slug_of(forget.split(","))) if forget else CHAMPION
    versions = [version for version in newest_first(name) if _alias(version) == alias]
    now = str(mlflow.MlflowClient().get_registered_model(name).aliases.get(alias, "")) if versions else ""
    older = [one for one in versions if _may_serve(one) and (not now or int(one.version) < int(now))]
    if not older:
        there = ", ".join(f"{name_of(one)} ({_state(one, alias, now)})" for one in versions) or f"no version of it in {name}"
        raise BadRequest(f"models:/{name}@{alias} has no older version to go back to; there is {there}")
    before = older[0]
    classifier_of(before) if forget else load_hypernetwork(before)
    set_alias(name, alias, before.version)
    return alias, now, before


def _alias(version: ModelVersion) -> str:
    """The alias that a version may bear."""
    spec = version.tags.get(FORGET)
    return CHAMPION if spec is None else alias_of(slug_of(spec.split(",")))


def _may_serve(version: ModelVersion) -> bool:
    tags = version.tags
    return tags.get(WHOLE) == "true" and WITHDRAWN not in tags and tags.get(STANDING) != CHALLENGER


def _state(version: ModelVersion, alias: str, now: str) -> str:
    if WITHDRAWN in version.tags:
        return f"withdrawn at {version.tags[WITHDRAWN]}"
    if version.tags.get(STANDING) == CHALLENGER:
        return "never champion"
    if not _may_serve(version):
        return "not registered to the end"
    return alias if str(version.version) == now else "newer"
