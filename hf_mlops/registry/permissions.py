"""What the user may do in a store, asked before the work. Only servers know users: databases let everyone do everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlflow
from mlflow.environment_variables import MLFLOW_EXPERIMENT_ID, MLFLOW_EXPERIMENT_NAME, MLFLOW_RUN_ID
from mlflow.exceptions import MlflowException
from mlflow.tracking.default_experiment import DEFAULT_EXPERIMENT_ID
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from hf_mlops.base.errors import BadRequest
from hf_mlops.registry.store import ASKED_SECONDS, describe, is_denied, is_no_model

READ, EDIT, MANAGE = "READ", "EDIT", "MANAGE"  # to look at; to add to; to delete from, too
LEVELS = (READ, "USE", EDIT, MANAGE)  # of MLflow, each of which includes those before it

EXPERIMENT, MODEL = "experiment", "registered_model"  # kinds of what is permitted, in MLflow's words
USER = "/api/2.0/mlflow/users/current"
PERMISSION = "/api/3.0/mlflow/users/permissions/get"


def require_permissions(
    runs: str = "", models: Mapping[str, str] | None = None, experiments: Mapping[str, str] | None = None
) -> None:
    """Lets pass a user who may do what is about to be done. Nothing is written, and on a store without users nothing is asked.

    Args:
        runs: what is needed on the experiment that the next run is made in, one of `LEVELS`; empty: nothing.
        models: what is needed on registered models, by their names; one that is not there anyone may make.
        experiments: what is needed on further experiments, by their identifiers.

    Raises:
        BadRequest: the user lacks some of it; says what, and on what.
    """
    own = _experiment() if runs else None
    needed = [(EXPERIMENT, one, level) for one, level in {**(experiments or {}), **({own: runs} if own else {})}.items()]
    lacking = _lacking(mlflow.get_tracking_uri(), needed)
    lacking += _lacking(mlflow.get_registry_uri(), [(MODEL, *one) for one in (models or {}).items()])
    if lacking:
        raise BadRequest("; ".join(lacking))


def _lacking(uri: str, needed: list[tuple[str, str, str]]) -> list[str]:
    """What the user of a store lacks, as sentences."""
    user = _user(uri) if needed else None
    if user is None:
        return []
    said = []
    for kind, resource, level in needed:
        has = _ask(uri, PERMISSION, username=user, resource_type=kind, resource_id=resource).get("permission", level)
        if not _suffices(has, level) and not (kind == MODEL and is_no_model(resource)):
            grant = f"it has {has}; whoever has {MANAGE} there can grant {level}"
            said.append(f"user = {user!r} lacks {level} on {_named(kind, resource)} of {describe(uri)}: {grant}")
    return said


def _user(uri: str) -> str | None:
    """Who is asking, for a server that knows users; None: it does not, or whoever asks may do everything."""
    user = _ask(uri, USER).get("user", {})
    return None if user.get("is_admin", True) else user.get("username")


def _ask(uri: str, endpoint: str, **params: str) -> dict[str, Any]:
    """What a server answers; empty: nothing, since it knows no users. What it refuses the work itself will hear."""
    if not uri.startswith(("http://", "https://")):
        return {}
    credentials = get_default_host_creds(uri)
    answer = http_request(
        credentials, endpoint, "GET", params=params, max_retries=0, timeout=ASKED_SECONDS, raise_on_status=False
    )
    said = answer.headers.get("Content-Type", "").startswith("application/json") and answer.status_code == 200
    return answer.json() if said else {}


def _suffices(has: str, level: str) -> bool:
    return has in LEVELS and LEVELS.index(has) >= LEVELS.index(level)


def _experiment() -> str | None:
    """The experiment that the next run is made in; None: one that will be made for it."""
    if active := mlflow.active_run():
        return active.info.experiment_id
    if run_id := MLFLOW_RUN_ID.get():  # `mlflow run` has made it
        return mlflow.get_run(run_id).info.experiment_id
    if name := MLFLOW_EXPERIMENT_NAME.get():
        found = mlflow.get_experiment_by_name(name)
        return found.experiment_id if found else None
    return MLFLOW_EXPERIMENT_ID.get() or DEFAULT_EXPERIMENT_ID


def _named(kind: str, resource: str) -> str:
    if kind == MODEL:
        return f"the registered model {resource}"
    try:
        return f"the experiment {resource} ({mlflow.get_experiment(resource).name})"
    except MlflowException as error:
        if not is_denied(error):
            raise
        return f"the experiment {resource}"
