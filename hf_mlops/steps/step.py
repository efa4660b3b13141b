"""The shape that every step has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from mlflow.entities import Run


class Step(ABC):
    """A step is a frozen dataclass of its inputs: `Targets(config, dataset, device).run()`.

    It refuses wrong inputs with a ValueError when it is made, or else in `run` before it leaves anything.
    """

    name: ClassVar[str]  # of its entry point

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of all that decides the result of `run`; a finished run with the same one can stand for a new one."""

    @abstractmethod
    def run(self) -> Run:
        """Does the work in an MLflow run, which holds the result, and prints what is to be known of it."""
