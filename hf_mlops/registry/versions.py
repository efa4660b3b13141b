"""Registered models, their versions and aliases. An alias moves only to a version that is whole, and never back by itself."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo
from mlflow.protos.databricks_pb2 import BAD_REQUEST, RESOURCE_ALREADY_EXISTS, ErrorCode

from hf_mlops.base.errors import BadRequest
from hf_mlops.data.poison import is_poisoned
from hf_mlops.registry.liveness import is_at_work_on
from hf_mlops.registry.names import (
    ARCHITECTURE,
    CLASSIFIER,
    DATA_DIGEST,
    DATASET,
    FORGET,
    GROUPING,
    HYPERFORGET,
    SCOPE,
    SERVED,
    STANDING,
    WHOLE,
    WHY,
    WITHDRAWN,
)
from hf_mlops.registry.same_request import first_written
from hf_mlops.registry.storage import discard_model, place_of
from hf_mlops.registry.store import describe, hasten, is_denied, is_missing, is_no_model, was_allowed

ANOTHER = "what is asked for would give it again; to make another on purpose ask for another seed, as by -P seed=1"


@dataclass(frozen=True)
class Subject:
    """What the versions of a registered model have in common: they may take each other's place.

    Args:
        dataset: its name; data that grows keeps it, and is still the same subject.
        data_digest: of its content; data that moved keeps it, and is the same subject too.
        architecture, scope: of the targets.
        grouping: how `load_dataset` was told to group the data; empty: as they come.
    """

    dataset: str
    data_digest: str
    architecture: str
    scope: str
    grouping: str = ""

    @classmethod
    def trained_on(cls, data: Mapping[str, str], architecture: str, scope: str) -> Subject:
        """The subject of what is trained on a data set.

        Args:
            data: its `identity`.
        """
        return cls(data["name"], data["digest"], architecture, scope, data["grouping"])

    @property
    def tags(self) -> dict[str, str]:
        """As tags of a registered model and of its versions."""
        return {
            DATASET: self.dataset,
            DATA_DIGEST: self.data_digest,
            ARCHITECTURE: self.architecture,
            SCOPE: self.scope,
            **({GROUPING: self.grouping} if self.grouping else {}),
        }

    def is_that_of(self, tags: dict[str, str]) -> bool:
        """Whether these are the tags of something of this subject."""
        same_name = tags.get(DATASET) == self.dataset and tags.get(GROUPING, "") == self.grouping
        same_data = same_name or tags.get(DATA_DIGEST) == self.data_digest
        return same_data and tags.get(ARCHITECTURE) == self.architecture and tags.get(SCOPE) == self.scope

    @property
    def suffix(self) -> str:
        """Of the names that it has where another subject has the plain ones: `mnist-mlp-32`."""
        words = [Path(self.dataset).stem if ":" in self.dataset else self.dataset, self.architecture]
        words += [self.grouping.rpartition("/")[2]] * bool(self.grouping)
        readable = re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")
        if readable == "-".join(words) and self.scope == "*":
            return readable
        whole = json.dumps([self.dataset, self.architecture, self.scope, *([self.grouping] * bool(self.grouping))])
        return f"{readable[:60]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def subject_of(tags: dict[str, str]) -> Subject:
    """The subject that tags of a registered model or version name."""
    return Subject(*(tags.get(tag, "") for tag in (DATASET, DATA_DIGEST, ARCHITECTURE, SCOPE, GROUPING)))


def classifier_name(hypernetwork: str) -> str:
    """The registered model of the classifiers of a registered hypernetwork: `hyperforget-mnist-mlp-32` has
    `hyperforget-classifier-mnist-mlp-32`."""
    return CLASSIFIER + hypernetwork.removeprefix(HYPERFORGET)


def belongs(name: str, subject: Subject) -> bool:
    """Makes a registered model of a subject, or says whether the one that is there is of this subject."""
    client = mlflow.MlflowClient()
    try:
        client.create_registered_model(name, tags=subject.tags)
        return True
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    return subject.is_that_of(client.get_registered_model(name).tags)


def could_belong(name: str, subject: Subject) -> bool:
    """What `belongs` would say, without making anything; yes of one that may not be looked at: more is not known of it."""
    try:
        return subject.is_that_of(mlflow.MlflowClient().get_registered_model(name).tags)
    except MlflowException as error:
        if not (is_missing(error) or is_denied(error)):
            raise
        return True


def model_for(subject: Subject, belonging: Callable[[str, Subject], bool] = belongs) -> str:
    """The registered hypernetwork of a subject: whoever comes first has the plain name.

    Data with poison laid into them are an experiment, and never have it.

    Args:
        belonging: `belongs`, which makes it if it is not there, or `could_belong`.

    Raises:
        BadRequest: hypernetworks of other subjects have the names that it may have.
    """
    own = f"{HYPERFORGET}-{subject.suffix}"
    names = (own,) if is_poisoned(subject.grouping) else (HYPERFORGET, own)
    for name in names:
        if belonging(name, subject):
            return name
    raise BadRequest(f"the registered models {' and '.join(names)} are of other data or another network than {subject}")


def register(
    logged: ModelInfo,
    name: str,
    alias: str,
    tags: dict[str, str],
    description: str,
    passed_over: Collection[str] | None = None,
) -> ModelVersion:
    """Registers a logged model of the active run and moves an alias to it, or takes back the version that it has made.

    The version is tagged as whole when all but the alias is there. The registered model stays, whatever happens: another
    process may have made a version of it. Versions of it that others have left halfway are deleted first, by who may.

    Args:
        passed_over: if another process has made a version for the same request at the same moment, and has written it first,
            that one is returned and this one is deleted; it is none of these numbers. None: this one stays in any case.
    """
    client = mlflow.MlflowClient()
    for left in left_halfway(name):
        if was_allowed(partial(delete, left)):
            print(f"deleted {name} version {left.version}: whoever made it has not registered it to the end")
    before = {version.version for version in client.search_model_versions(f"name = '{name}'")}
    try:
        version = client.create_model_version(
            name, logged.model_uri, logged.run_id, {**tags, WHOLE: "false"}, model_id=logged.model_id
        )
        client.update_model_version(name, version.version, description)
        first = None if passed_over is None else first_written(version, passed_over)
        if first is not None:
            place = place_of(version)
            if was_allowed(partial(delete, version)):
                was_allowed(partial(discard_model, place, logged.model_id))
            return first
        client.set_model_version_tag(name, version.version, WHOLE, "true")
        _put_alias(version, alias)
    except BaseException as error:
        hasten(error)
        for made in client.search_model_versions(f"name = '{name}'"):
            if made.version not in before and made.run_id == logged.run_id:
                was_allowed(partial(delete, made))
        raise
    return client.get_model_version(name, version.version)


def _put_alias(version: ModelVersion, alias: str) -> None:
    """Moves an alias to a version, or to a newer one that serves the same: an older one never takes it from a newer.

    Whoever moves it looks again afterwards. Of several at one moment the last to move it has seen the newest, or one that is
    newer still becomes whole later, and is moved to by its own process.
    """
    now = None
    while (newest := _newest_like(version)) != now:
        set_alias(version.name, alias, newest)
        now = newest


def set_alias(name: str, alias: str, number: str) -> None:
    """Puts an alias on a version, also if another process puts the same there at this moment.

    MLflow looks whether there is one and adds a row if not, which the database refuses where another was quicker.
    """
    client = mlflow.MlflowClient()
    try:
        client.set_registered_model_alias(name, alias, number)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(BAD_REQUEST):
            raise
        client.set_registered_model_alias(name, alias, number)


def _newest_like(version: ModelVersion) -> str:
    """The number of the newest version that is whole and serves the same as this one."""
    found = mlflow.MlflowClient().search_model_versions(f"name = '{version.name}' and tags.`{WHOLE}` = 'true'")
    same = [one for one in found if all(one.tags.get(tag) == version.tags.get(tag) for tag in (FORGET, STANDING))]
    return str(max((int(one.version) for one in same if WITHDRAWN not in one.tags), default=int(version.version)))


def left_halfway(names: str) -> list[ModelVersion]:
    """Versions that were not registered to the end, and that nobody is at work on: without evidence, description or alias.

    Args:
        names: of registered models, `%` standing for any letters.
    """
    client = mlflow.MlflowClient()
    halfway = [
        version
        for model in client.search_registered_models(f"name LIKE '{names}'")
        for version in client.search_model_versions(f"name = '{model.name}'")
        if version.tags.get(WHOLE) == "false"
    ]
    return [version for version in halfway if not (version.run_id and is_at_work_on(version.run_id))]


def delete(version: ModelVersion) -> None:
    """Deletes a version, unless another process has."""
    try:
        mlflow.MlflowClient().delete_model_version(version.name, version.version)
    except MlflowException as error:
        if not is_missing(error):
            raise


def _is_absent(error: MlflowException, name: str) -> bool:
    """Whether a version or an alias of a registered model is not there; where the model is not, servers with users deny it."""
    return is_no_model(name) if is_denied(error) else is_missing(error)


def version_at(name: str, alias: str, otherwise: str) -> ModelVersion:
    """The version of a registered model that an alias is on.

    Args:
        otherwise: what to do if there is none; for the error.

    Raises:
        BadRequest: there is no such model or alias; says so if it was on a version that was withdrawn.
    """
    client = mlflow.MlflowClient()
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if not _is_absent(error, name):
            raise
    for version in newest_first(name):
        if alias in version.tags.get(SERVED, "").split(","):
            refuse_withdrawn(version, f"models:/{name}@{alias} is on no version since then: {otherwise}")
    others = [model.name for model in client.search_registered_models(f"name LIKE '{HYPERFORGET}%'") if model.aliases]
    there = f"; there are {', '.join(others)}" if others else ""
    raise BadRequest(f"{describe(mlflow.get_registry_uri())} has no model models:/{name}@{alias}{there}: {otherwise}")


def version_named(uri: str) -> ModelVersion | None:
    """The version that `models:/name@alias` or `models:/name/number` names; None for a URI of another form."""
    name, at, alias = uri.removeprefix("models:/").partition("@")
    client = mlflow.MlflowClient()
    if at:
        return client.get_model_version_by_alias(name, alias)
    return client.get_model_version(*name.split("/")) if re.fullmatch(r"[^/]+/\d+", name) else None


def newest_first(name: str) -> list[ModelVersion]:
    """All versions of a registered model, by number."""
    versions = mlflow.MlflowClient().search_model_versions(f"name = '{name}'")
    return sorted(versions, key=lambda version: int(version.version), reverse=True)


def find_version(text: str) -> ModelVersion:
    """The version that is meant by `hyperforget-classifier/3` or `hyperforget-classifier@forget-7`.

    Raises:
        BadRequest: there is none, or the text is of another form.
    """
    name = re.split("[/@]", text.removeprefix("models:/"))[0]
    try:
        found = version_named(text)
    except MlflowException as error:
        if not _is_absent(error, name):
            raise
        found = None
    if found is None:
        there = [name_of(one) for one in newest_first(name)]
        allowed = ", ".join(there) or "the name and number of a registered version, as hyperforget-classifier/3"
        raise BadRequest(f"version = {text!r} is not there; allowed: {allowed}")
    return found


def name_of(version: ModelVersion) -> str:
    """Name and number: `hyperforget/3`."""
    return f"{version.name}/{version.version}"


def utc_now() -> str:
    """The time, as tags have it: ISO 8601, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def why_withdrawn(version: ModelVersion) -> str:
    """Of a version that was withdrawn: when and why."""
    return f"{name_of(version)} was withdrawn at {version.tags[WITHDRAWN]}, because: {version.tags.get(WHY, '')}"


def refuse_withdrawn(version: ModelVersion, otherwise: str = ANOTHER) -> None:
    """Lets pass a version that was not withdrawn.

    Args:
        otherwise: what to do if it was; for the error.

    Raises:
        BadRequest: it was withdrawn; says when and why.
    """
    if WITHDRAWN in version.tags:
        raise BadRequest(f"{why_withdrawn(version)}; {otherwise}")


def refuse_again(tag: str, value: str) -> None:
    """Lets pass what is about to be made, unless a version that bears this tag with this value was withdrawn.

    Raises:
        BadRequest: one was: it is not made again by the way.
    """
    for version in mlflow.MlflowClient().search_model_versions(f"tags.`{tag}` = '{value}'"):
        refuse_withdrawn(version)


def still_there(version: str) -> ModelVersion | None:
    """A version of a registered model, by name and number as in `hyperforget/3`; None if it has been deleted."""
    name, number = version.split("/")
    try:
        return mlflow.MlflowClient().get_model_version(name, number)
    except MlflowException as error:
        if not _is_absent(error, name):
            raise
        return None


def serving(version: ModelVersion, alias: str) -> str:
    """Whether an alias is on this version, as a sentence; if it is not, how to move it: that is never done on the way."""
    client, name = mlflow.MlflowClient(), version.name
    now = client.get_registered_model(name).aliases.get(alias)
    if str(now) == str(version.version):
        return f"models:/{name}@{alias} is version {now}"
    move = f"mlflow.MlflowClient().set_registered_model_alias({name!r}, {alias!r}, {str(version.version)!r})"
    return (
        f"models:/{name}@{alias} is {f'version {now}' if now else 'on no version'} and stays so, not version {version.version},"
        f" which belongs to these parameters. To move it: {move}"
    )
