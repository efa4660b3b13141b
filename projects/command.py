"""What every entry point's command is run in: where it was typed, clear errors, orderly interruption, nothing left over."""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import IO, Any

import click
import mlflow
import psutil
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR, MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT

from hf_mlops.registry.interruption import raise_on_signals
from hf_mlops.registry.permissions import require_permissions
from hf_mlops.registry.process import ending_with, own_temporary_folder
from hf_mlops.registry.store import foreseen, limited, require_store, shown
from hf_mlops.registry.versions import classifier_name
from projects import STARTED_BY

DEBUG, DIRECTORY = "hf_mlops.debug", "hf_mlops.directory"  # in the context of a command
PROJECT = Path(__file__).parents[1]  # the folder that `mlflow run` starts commands in


class WithoutPasswords(logging.Filter):
    """Takes passwords out of what MLflow logs: its errors quote the store's URI."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = shown(record.getMessage()), ()
        return True


for handler in logging.getLogger("mlflow").handlers:
    handler.addFilter(WithoutPasswords())
for name in ("mlflow.system_metrics", "urllib3.connectionpool"):  # what is wrong with a store is said once, at the end
    logging.getLogger(name).setLevel(logging.ERROR)
if not sys.stderr.isatty():
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)


class Failure(click.ClickException):
    """An error that was foreseen, as one plain line; with its traceback if that was asked for."""

    def __init__(self, error: Exception, status: int):
        super().__init__(shown(f"{error}{_looked_in(error)}"))
        self.exit_code = status  # type: ignore[misc]
        self.with_traceback_shown = click.get_current_context().meta[DEBUG]

    def show(self, file: IO[Any] | None = None) -> None:
        if self.with_traceback_shown and self.__cause__:
            print(shown("".join(traceback.format_exception(self.__cause__))), end="", file=file or sys.stderr)
        super().show(file)


def _looked_in(error: Exception) -> str:
    """Where the module of a user's network was looked for, if it is not there."""
    context = click.get_current_context()
    module = (context.params.get("architecture") or "").partition(":")[0]
    missing = isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name == module
    return f" (looked in {context.meta[DIRECTORY]} and among the installed packages)" if missing else ""


def entry_point(command: Callable[..., None]) -> Callable[..., None]:
    """Runs a command in `clear_errors`, and gives it the switch `--debug`."""
    debug = click.option(
        "--debug",
        is_flag=True,
        envvar="HF_MLOPS_DEBUG",
        show_envvar=True,
        expose_value=False,
        callback=lambda context, parameter, value: context.meta.update({DEBUG: value}),
        help="Show the traceback of an error.",
    )
    return debug(clear_errors()(command))


def needs(runs: str = "", model: str = "", classifiers: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """What a command's user must be permitted, or it ends before anything else: `READ`, `EDIT` or `MANAGE`; empty: nothing.

    Args:
        runs: on the experiment that its runs are made in.
        model: on the registered model that its option `--model` names.
        classifiers: on the registered model of that one's classifiers.
    """

    def checked_first(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def checked(**given: Any) -> None:
            if not given.get("dry_run"):
                named = {given["model"]: model} if model else {}
                require_permissions(runs, {**named, **({classifier_name(given["model"]): classifiers} if classifiers else {})})
            command(**given)

        return checked

    return checked_first


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turns errors and warnings that a user can cause into one clear line each, and checks that the store answers.

    The status is the error's own (base/errors.py), 1 for a fault of the program, which shows its traceback, and 130 after an
    interruption, of `mlflow run` too; what was half-made is taken back. `--debug` shows the traceback of every error.
    The command works where `mlflow run` was typed, and keeps what is temporary in a folder that goes with it.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what steps print is to be seen at once in a pipe as well
    warnings.formatwarning = lambda message, *rest, **more: shown(f"warning: {message}\n")
    raise_on_signals()  # on Ctrl-C `mlflow run` sends SIGINT and SIGTERM, one after the other
    try:
        with where_typed(STARTED_BY), own_temporary_folder(), ending_with(STARTED_BY), limited():
            context = click.get_current_context()
            context.meta[DIRECTORY] = Path.cwd()
            if not context.params.get("dry_run"):
                _prepare_store()
            yield
    except KeyboardInterrupt:
        print("interrupted: nothing is half-made; the same command goes on from the last finished step", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        plain = foreseen(error)
        if plain is None:
            raise
        raise Failure(plain, plain.status) from error


@contextmanager
def where_typed(run: psutil.Process | None) -> Iterator[None]:
    """Works in the directory that `mlflow run` was typed in, and finds modules there first.

    `mlflow run` starts commands in the project's folder; one that was started elsewhere, by another project say, stays there.
    """
    folder = None if run is None or not PROJECT.samefile(Path.cwd()) else _directory_of(run)
    if folder is None:
        yield
        return
    before = Path.cwd()
    os.chdir(folder)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        os.chdir(before)


def _directory_of(process: psutil.Process) -> str | None:
    """Its working directory; None if that cannot be told."""
    try:
        return process.cwd()
    except psutil.Error:
        return None


def _prepare_store() -> None:
    require_store()
    uri = mlflow.get_tracking_uri()
    if shown(uri) != uri:
        MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)  # it would print the password
