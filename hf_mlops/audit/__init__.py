"""Measured evidence about classifiers, always beside the retrain reference."""
