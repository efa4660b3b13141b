"""One click command per entry point of MLproject: parse, call hf_mlops, log to MLflow."""
