"""The store: what its URI is taken for, whether it answers, and what its errors, and those of all behind it, are called."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeGuard
from urllib.parse import unquote, urlsplit

import mlflow
import requests
from mlflow.environment_variables import MLFLOW_ALLOW_FILE_STORE
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from hf_mlops.base.errors import BadRequest, DamagedArtifact, GateFailure, OutOfReach

# What a call of a server may take, where the environment says nothing else: a server that hangs is given up after
# 3 times 10 s and a pause of 12 s, one that refuses connections or answers 500 after the pause alone.
LIMITS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "6",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "PGCONNECT_TIMEOUT": "10",
}
ONCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}  # for a server that was given up
ASKED_SECONDS = 10.0  # that a server has to answer before any work

Foreseen = BadRequest | GateFailure | DamagedArtifact | OutOfReach

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
ALLOWED = "a server's begins with http:// or https://, a database's with sqlite:/// or postgresql://"
CREDENTIALS = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN, or user:password@ in its URI"

OF_THE_CALLER = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS")
REFUSED = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")
CLIENTS = ("sqlalchemy.", "sqlite3", "psycopg", "requests.", "urllib3.", "http.client")  # modules that speak to a store
OF_ARTIFACTS = ("botocore.", "boto3.", "s3transfer.", "google.api_core.", "google.auth.", "azure.core.")  # of artifacts


# What a URI is taken for


def describe(uri: str) -> str:
    """What MLflow takes a URI of a store for, without its password: `the server at http://127.0.0.1:5000`."""
    scheme, name = _scheme(uri), shown(uri)
    if scheme in ("http", "https"):
        return f"the server at {name}"
    if scheme == "sqlite":
        file = _sqlite_file(uri)
        return f"the SQLite database {file.absolute()}" if file else "a SQLite database in memory"
    if scheme in DATABASES:
        return f"the database at {name}"
    if scheme in ("", "file"):
        return f"the folder {Path(unquote(urlsplit(uri).path) if scheme else uri or 'mlruns').absolute()}"
    if scheme.startswith("databricks") or scheme == "uc":
        return f"the Databricks workspace {name}"
    return f"a store of the kind {scheme!r}"


def _scheme(uri: str) -> str:
    """`postgresql` of `postgresql+psycopg2://…`; `localhost` of `localhost:5000`, as MLflow has it."""
    named = re.match(r"([A-Za-z][\w.-]*)(?:\+\w+)?:|databricks$", uri)
    return named[1] or uri if named else ""


def _sqlite_file(uri: str) -> Path | None:
    path = uri.partition("://")[2].partition("?")[0]
    return Path(unquote(path[1:])) if path[1:] and path[1:] != ":memory:" else None


# Passwords


def shown(text: str) -> str:
    """Text with `***` for every password in a URI: `http://user:***@host`, and for those that MLflow is given."""
    text = re.sub(r"(https?://[^\s:/@]*:)[^\s/@]+@", r"\1***@", text)
    text = re.sub(r"((?:postgresql|mysql|mssql)[+\w]*://[^\s:/@]*:)[^\s@]+@", r"\1***@", text)
    text = re.sub(r"(?i)([?&](?:password|passwd|pwd|sslpassword|token)=)[^&\s]+", r"\1***", text)
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _secrets() -> set[str]:
    """Passwords of this process's stores, as they are written and as they are meant: a driver's error may quote either."""
    found = {os.environ.get(name, "") for name in ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")}
    for uri in (mlflow.get_tracking_uri(), mlflow.get_registry_uri()):
        user_and_password, at, _ = uri.partition("://")[2].rpartition("@")
        password = user_and_password.partition(":")[2] if at else ""
        found |= {password, unquote(password)}
    return {secret for secret in found if len(secret) > 3}  # a shorter one would blot out words


# Whether it answers


@contextmanager
def limited() -> Iterator[None]:
    """Within the block no call of a server takes longer than `LIMITS` say, unless the environment says otherwise."""
    before = {name: os.environ.get(name) for name in LIMITS}
    for name, value in LIMITS.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            os.environ.pop(name, None) if old is None else os.environ.update({name: old})


def hasten(error: BaseException) -> None:
    """After an error of a server that was given up, it is asked only once more for anything, and for a moment.

    What takes back what was half-made, and ends runs, would else wait as long again for each call.
    """
    if isinstance(error, Exception) and isinstance(foreseen(error), OutOfReach):
        os.environ.update(ONCE)


def require_store() -> None:
    """Asks the tracking store and the registry whether they answer.

    Raises:
        BadRequest: a URI that MLflow has no store for, or whose driver is not installed.
        OutOfReach: a server or a database that does not answer, refuses the credentials, or does not work.
    """
    tracking, registry = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    _require("MLFLOW_TRACKING_URI", tracking)
    if registry != tracking:
        _require("MLFLOW_REGISTRY_URI", registry)


def _require(variable: str, uri: str) -> None:
    scheme = _scheme(uri)
    if scheme in ("http", "https"):
        _require_server(uri)
    elif scheme in DATABASES:
        _require_database(variable, uri)
    elif not (scheme.startswith("databricks") or scheme == "uc") and not (
        scheme in ("", "file") and MLFLOW_ALLOW_FILE_STORE.get()
    ):
        folder = ", and MLflow works on no folder unless MLFLOW_ALLOW_FILE_STORE is true" if scheme in ("", "file") else ""
        meant = f"; http://{uri}?" if re.match(r"[\w.-]+:\d+", uri) else ""
        raise BadRequest(f"{variable} = {shown(uri)!r} is taken for {describe(uri)}{folder}; allowed: {ALLOWED}{meant}")


def _require_server(uri: str) -> None:
    """Asks what only a server that works can answer: its `/health` asks neither for credentials nor for its database."""
    credentials, request = get_default_host_creds(uri), {"max_results": 1}
    endpoint = "/api/2.0/mlflow/experiments/search"
    try:
        answer = http_request(
            credentials, endpoint, "POST", json=request, max_retries=0, timeout=ASKED_SECONDS, raise_on_status=False
        )
    except MlflowException as error:
        raise OutOfReach(
            f"no MLflow tracking server answers at {shown(uri)} ({_reason(error)}):"
            " start it, or set MLFLOW_TRACKING_URI to one that runs"
        ) from error
    if answer.status_code in (401, 403):
        raise OutOfReach(
            f"{describe(uri)} refuses these credentials (status {answer.status_code}); it is given them by {CREDENTIALS}"
        )
    if answer.status_code != 200:
        why = "its database may be down; its log says more" if answer.status_code >= 500 else "is it an MLflow server?"
        raise OutOfReach(f"{describe(uri)} answers with status {answer.status_code}: {why}")


def _require_database(variable: str, uri: str) -> None:
    """Connects once, since MLflow tries for minutes."""
    import sqlalchemy

    try:
        if _scheme(uri) == "sqlite":
            return _require_sqlite(uri)
        sqlalchemy.create_engine(uri).connect().close()
    except ModuleNotFoundError as error:
        needed = f"needs the package {error.name}, which is not installed"
        raise BadRequest(f"{variable} = {shown(uri)!r} {needed}") from error
    except sqlalchemy.exc.ArgumentError as error:
        raise BadRequest(f"{variable} = {shown(uri)!r} is not a URI; allowed: {ALLOWED}") from error
    except (sqlalchemy.exc.SQLAlchemyError, OSError, sqlite3.Error) as error:
        raise OutOfReach(f"{describe(uri)} is out of reach: {_reason(error)}") from error


def _require_sqlite(uri: str) -> None:
    """Reads from a database that is there, and looks for a place for one that is to be made."""
    import sqlalchemy

    sqlalchemy.make_url(uri)
    file = _sqlite_file(uri)
    if file is None:
        return
    if file.is_dir():
        raise OSError("it is a folder")
    if file.exists():
        # not read-only: what a process that was killed was writing is taken back by the next that opens the file
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            connection.execute("SELECT name FROM sqlite_master").fetchone()
        return
    folder = next(folder for folder in file.absolute().parents if folder.exists())
    try:
        return TemporaryFile(dir=folder).close()
    except OSError as error:
        why = error.strerror
    raise OSError(f"nothing can be written to {folder} ({why})")


# What its errors are called


def is_missing(error: MlflowException) -> bool:
    """Whether a store says that what was asked for is not in it; every other error leaves that open."""
    return error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def is_denied(error: Exception) -> bool:
    """Whether a store says that its user may not do this; to some it says so of what is not there as well."""
    if isinstance(error, MlflowException):
        return error.error_code == "PERMISSION_DENIED"
    return isinstance(error, requests.HTTPError) and error.response is not None and error.response.status_code == 403


def was_allowed(work: Callable[[], object]) -> bool:
    """Does what only some users may, and says whether this one may: who only may add leaves the rest for `doctor`."""
    try:
        work()
        return True
    except Exception as error:
        if not is_denied(error):
            raise
        return False


def is_no_model(name: str) -> bool:
    """Whether there is no registered model of this name."""
    try:
        mlflow.MlflowClient().get_registered_model(name)
    except MlflowException as error:
        return is_missing(error)
    return False


def foreseen(error: Exception) -> Foreseen | None:
    """An error as one of hf_mlops (base/errors.py), in one line; None for a fault of the program."""
    if isinstance(error, (BadRequest, GateFailure, DamagedArtifact, OutOfReach)):
        return error
    if isinstance(error, MlflowException):
        if error.error_code in OF_THE_CALLER:
            return BadRequest(_one_line(error.message))
        if error.error_code in REFUSED:
            return OutOfReach(f"{_where(error)} refuses these credentials or what they may do: {_reason(error)}")
        return OutOfReach(f"{_where(error)} is out of reach: {_reason(error)}")
    if _is_of(error, CLIENTS + OF_ARTIFACTS):
        return OutOfReach(f"{_where(error)} is out of reach: {_reason(error)}")
    if isinstance(error, OSError):
        return OutOfReach(_one_line(str(error)))
    return None


def _where(error: Exception) -> str:
    """The store that an error is about."""
    uri, causes = mlflow.get_tracking_uri(), list(_causes(error))
    if _is_of(error, OF_ARTIFACTS):
        endpoint = os.environ.get("MLFLOW_S3_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL")
        return f"the artifact store{f' at {shown(endpoint)}' if endpoint else ''}"
    answered = not isinstance(causes[-1], OSError) or isinstance(causes[-1], requests.HTTPError)
    if answered and any("/mlflow-artifacts/" in str(cause) for cause in causes):
        return f"the artifact store behind {describe(uri)}"
    return describe(uri)


def _reason(error: Exception) -> str:
    """The innermost cause in a few words."""
    *_, cause = _causes(error)
    text = _one_line((cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__)
    return (
        f"{text} (full, read-only, or a database that is down? the server's log says)" if " error responses" in text else text
    )


def _causes(error: Exception) -> Iterator[Exception]:
    """An error and those that led to it, the first of all last, as far as they are of modules that speak to a store."""
    yield error
    arguments = (getattr(error, "orig", None), getattr(error, "reason", None), *error.args)
    for cause in (error.__cause__, *arguments, error.__context__):
        if isinstance(cause, (OSError, MlflowException)) or _is_of(cause, CLIENTS + OF_ARTIFACTS):
            yield from _causes(cause)
            return


def _is_of(error: object, modules: tuple[str, ...]) -> TypeGuard[Exception]:
    """Whether it is an exception whose class, or one above it, is of these modules."""
    return isinstance(error, Exception) and any(kind.__module__.startswith(modules) for kind in type(error).__mro__)


def _one_line(text: str) -> str:
    """Without passwords, SQL, object addresses and hints for programmers, and of a bearable length."""
    text = re.split(r"\[SQL: |\(Background on this error", text)[0]
    text = re.sub(r"HTTPS?Connection(Pool)?\([^()]*\): ", "", text)
    text = shown(" ".join(text.split()))
    return text if len(text) < 400 else f"{text[:400]} …"
