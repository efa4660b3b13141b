"""The shape that every step has, and how one is done but once."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import mlflow
from mlflow.entities import Run

from hf_mlops.base.source import library_versions, source_digest
from hf_mlops.registry.names import CODE, FINGERPRINT, child_tag
from hf_mlops.registry.runs import find_runs
from hf_mlops.registry.store import shown


class Step(ABC):
    """A step is a frozen dataclass of its inputs: `Targets(config, dataset, device).run()`.

    It refuses wrong inputs with a BadRequest when it is made, or else in `run` before it leaves anything.
    """

    name: ClassVar[str]  # of its entry point, where it has one
    room: ClassVar[str]  # the uppermost one whose code decides its result
    writes: ClassVar[tuple[str, ...]] = ()  # modules of the registry that decide what it leaves there

    @property
    @abstractmethod
    def inputs(self) -> dict[str, Any]:
        """All that decides the result of `run` beside the code: parameters, data, earlier runs; JSON-ready."""

    @property
    def fingerprint(self) -> str:
        """Digest of name, inputs, code and libraries; a finished run with the same one can stand for a new one."""
        code = source_digest(self.room, (*self.writes, "steps/step.py", f"steps/{self.name}.py"))
        text = json.dumps({"step": self.name, "code": code, "libraries": library_versions(), **self.inputs}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @abstractmethod
    def run(self) -> Run:
        """Does the work in an MLflow run, which holds the result, and prints what is to be known of it."""


def made_by(step: Step) -> dict[str, str]:
    """What made a version, for its tags: the step's fingerprint, the package's source, and the command that was typed.

    Who asked is left out: that is for the request log, and not for all who are given the classifier.
    """
    words, asking = [Path(sys.argv[0]).name], False
    for word in sys.argv[1:]:
        words.append("..." if asking else re.sub(r"^(--requester=).+", r"\1...", word, flags=re.DOTALL))
        asking = word == "--requester"
    command = shown(shlex.join(words))
    return {FINGERPRINT: step.fingerprint, CODE: source_digest(), "command": command}


def once(step: Step, still_good: Callable[[Run], bool] = lambda run: True) -> Run:
    """The latest finished run of a step with its fingerprint that is still good; else a new one."""
    print(f"\n== {step.name}")
    done = next(filter(still_good, find_runs(step.name, step.fingerprint)), None)
    if done is not None:
        print(f"re-used the finished run {done.info.run_id}: same parameters, code, libraries and data")
    else:
        done = step.run()
    mlflow.set_tag(child_tag(step.name), done.info.run_id)
    return mlflow.get_run(done.info.run_id)
