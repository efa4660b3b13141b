"""The MLflow side: runs, registered models, aliases. Nothing to the left of this room imports mlflow."""
