"""What every entry point's command is run in: clear errors, orderly interruption, output line by line."""

from __future__ import annotations

import io
import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any
from urllib.parse import urlparse
from urllib.request import urlopen

import click
import mlflow
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.exceptions import MlflowException

from hf_mlops.base.errors import BadRequest, DamagedArtifact, GateFailure, OutOfReach
from hf_mlops.registry.interruption import raise_on_signals

DEBUG = "hf_mlops.debug"  # in the context of a command

logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
if not sys.stderr.isatty():
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)


class Failure(click.ClickException):
    """An error that was foreseen, as one plain line; with its traceback if that was asked for."""

    def __init__(self, error: Exception):
        super().__init__(str(error))
        self.exit_code = getattr(error, "status", OutOfReach.status)  # type: ignore[misc]
        self.with_traceback_shown = click.get_current_context().meta[DEBUG]

    def show(self, file: IO[Any] | None = None) -> None:
        if self.with_traceback_shown:
            traceback.print_exception(self.__cause__)
        super().show(file)


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


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turns errors and warnings that a user can cause into one clear line each, and checks that the tracking server answers.

    The status is the error's own (base/errors.py), 1 for a fault of the program, which shows its traceback, and 130 after an
    interruption; what was half-made is taken back. `--debug` shows the traceback of every error.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what steps print is to be seen at once in a pipe as well
    warnings.formatwarning = lambda message, *rest, **more: f"warning: {message}\n"
    raise_on_signals()  # on Ctrl-C `mlflow run` sends SIGINT and SIGTERM, one after the other
    try:
        _require_tracking_server()
        yield
    except (BadRequest, GateFailure, DamagedArtifact, OSError, MlflowException) as error:
        raise Failure(error) from error
    except KeyboardInterrupt:
        print("interrupted: nothing is half-made; the same command goes on from the last finished step", file=sys.stderr)
        raise SystemExit(130) from None


def _require_tracking_server() -> None:
    uri = mlflow.get_tracking_uri()
    if urlparse(uri).scheme not in ("http", "https"):
        return
    try:
        urlopen(f"{uri.rstrip('/')}/health", timeout=10).close()
    except OSError as error:
        raise OutOfReach(
            f"no MLflow tracking server answers at {uri} ({error}): start it, or set MLFLOW_TRACKING_URI to one that runs"
        ) from error
