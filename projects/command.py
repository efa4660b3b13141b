"""What every entry point's command is run in: clear errors, orderly interruption, output line by line."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlparse
from urllib.request import urlopen

import click
import mlflow
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR

from hf_mlops.registry.interruption import raise_on_signals

logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
if not sys.stderr.isatty():
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turns errors and warnings that a user can cause into one clear line each, and checks that the tracking server answers.

    An error ends the process with status 1, an interruption with 130, after what was half-made is taken back.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what steps print is to be seen at once in a pipe as well
    warnings.formatwarning = lambda message, *rest, **more: f"warning: {message}\n"
    raise_on_signals()  # on Ctrl-C `mlflow run` sends SIGINT and SIGTERM, one after the other
    try:
        _require_tracking_server()
        yield
    except (ValueError, OSError, mlflow.MlflowException) as error:
        raise click.ClickException(str(error)) from error
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
        raise click.ClickException(
            f"no MLflow tracking server answers at {uri} ({error}): start it, or set MLFLOW_TRACKING_URI to one that runs"
        ) from error
