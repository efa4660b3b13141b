"""What the entry points do, one module each: a step's inputs, its fingerprint, its work. They use MLflow, and print."""
