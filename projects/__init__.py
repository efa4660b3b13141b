"""One click command per entry point of MLproject: parse, call a step of hf_mlops, print."""

from hf_mlops.registry.process import mlflow_run

STARTED_BY = mlflow_run()  # looked for at once: it may end in the seconds that the other imports take
