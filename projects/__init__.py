"""One click command per entry point of MLproject: parse, call a step of hf_mlops, print."""

import os

from hf_mlops.registry.process import mlflow_run

STARTED_BY = mlflow_run()  # looked for at once: it may end in the seconds that the other imports take
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime reports from its import on, and leaves a file
