"""Asking a loaded model as MLflow's server does, without the server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import invocations


def ask(model: Any, body: object) -> tuple[int, Any]:
    """Status and answer of MLflow's server for a JSON request, read by the letter: NaN is no JSON."""
    try:
        done = invocations(json.dumps(body), "application/json", model, model.metadata.get_input_schema())
    except MlflowException as error:
        return error.get_http_status_code(), error.message
    return done.status, json.loads(done.response, parse_constant=pytest.fail)["predictions"]
