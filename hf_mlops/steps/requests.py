"""Answers requests to forget, one or several in a row, each a row of the request log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import pandas as pd

from hf_mlops.audit.gates import Gates
from hf_mlops.base.errors import BadRequest, GateFailure, SomeRefused
from hf_mlops.base.spec import ForgetSpec, split_specs
from hf_mlops.registry.models import Champion, load_champion
from hf_mlops.registry.names import HYPERNETWORK, alias_of
from hf_mlops.registry.request_log import (
    ANSWERED,
    BY_GATES,
    REGISTERED,
    Request,
    in_line,
    note,
    requested,
    sent_away_on_error,
    taken_up,
)
from hf_mlops.registry.runs import active_run_id
from hf_mlops.registry.versions import name_of, serving
from hf_mlops.steps.data import trained_on
from hf_mlops.steps.forget import Forget, Sampling

Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Answer:
    """What has come of a request: a row of the table that is printed after several.

    Args:
        forget: the spec.
        outcome: as the request log has it.
        version: of a registered model, by name and number; empty: none.
        remark: where its alias is, or why there is none.
    """

    forget: str
    outcome: str = "not done"
    version: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Requests:
    """One request to forget or several, of one hypernetwork and with the same parameters.

    Args:
        forget: the spec, or several with a `|` between them.
        model: the registered hypernetwork whose champion to sample from.
        places: where the data is now, for `trained_on`: `dataset`, `data_dir` and `groups`.
        sampling, gates, retrained: as for `Forget`.
        force: whether to make a new version where the same request has made one before.
        requester: who asks, for the request log.
    """

    forget: str
    model: str
    places: dict[str, str]
    sampling: Sampling
    gates: Gates
    retrained: int = 0
    force: bool = False
    requester: str = ""

    def run(self) -> None:
        """Answers them, one after the other.

        Raises:
            BadRequest: one of them is not allowed; none was answered.
            GateFailure: classifiers that fail their gates; all others are registered.
        """
        with requested(self._request(self.forget)):
            champion = load_champion(self.model)
            note({HYPERNETWORK: str(champion)})
            texts = split_specs(self.forget, champion.onnx.groups.names)
            if len(texts) > 1:
                return self._in_a_row(champion, texts)
            self._answer(self._steps(champion, texts)[0])

    def _request(self, forget: str) -> Request:
        sampled = {**self.sampling.params, **asdict(self.gates), "retrained": self.retrained, "force": self.force}
        return Request(forget, {"model": self.model, **self.places, **sampled}, self.requester)

    def _steps(self, champion: Champion, texts: list[str]) -> list[Forget]:
        """A step for each spec, none of which is refused later.

        Raises:
            BadRequest: specs that are not allowed, or that say the same as one before.
        """
        specs = read(texts, champion.onnx.groups.names)
        data = trained_on(champion.onnx.made_from, **self.places)
        steps = [Forget(champion, data, spec, self.gates, self.sampling, self.retrained) for spec in specs]
        all_of(Forget.check, steps)
        return steps

    def _in_a_row(self, champion: Champion, texts: list[str]) -> None:
        asked = [self._request(text) for text in texts]
        waiting = in_line(asked, str(champion))
        with sent_away_on_error(waiting):
            steps = self._steps(champion, texts)
            answers = [Answer(str(step.spec)) for step in steps]
            try:
                for place, step in enumerate(steps):
                    print(f"\n== {step.name} {step.spec}, {place + 1} of {len(steps)}")
                    answers[place] = self._take_up(step, waiting.pop(place), asked[place])
            finally:
                print(f"\n{pd.DataFrame(answers).to_string(index=False)}")
        failed = sum(answer.outcome == BY_GATES for answer in answers)
        if failed:
            raise GateFailure(f"not registered, since they fail their gates: {failed} of {len(answers)} classifiers")

    def _take_up(self, step: Forget, run_id: str, request: Request) -> Answer:
        """The answer to a request whose turn it is; that of its gates is one, too."""
        try:
            with taken_up(run_id, request):
                return self._answer(step)
        except GateFailure as error:
            print(error)
            return Answer(str(step.spec), BY_GATES, remark=" ".join(str(error).split()))

    def _answer(self, step: Forget) -> Answer:
        """The answer to the request of the active run: a version of before that stands for it, or a new one."""
        version = step.answer(self.force)
        outcome = REGISTERED if version.run_id == active_run_id() else ANSWERED
        return Answer(str(step.spec), outcome, name_of(version), serving(version, alias_of(step.spec.slug)))


def read(texts: Sequence[str], group_names: Sequence[str]) -> list[ForgetSpec]:
    """Forget specs from text.

    Raises:
        BadRequest: some are not allowed, or say the same as one before them.
    """
    places: dict[ForgetSpec, int] = {}

    def one(place: int) -> ForgetSpec:
        spec = ForgetSpec.parse(texts[place], group_names, allow_empty=False)
        first = places.setdefault(spec, place)
        if first != place:
            raise BadRequest(f"{texts[place]!r} asks for what number {first + 1} asks for; allowed: each set of groups once")
        return spec

    return all_of(one, range(len(texts)))


def all_of(make: Callable[[Given], Made], things: Sequence[Given]) -> list[Made]:
    """What is made of each thing.

    Raises:
        BadRequest: something cannot be made of some, which are named by their place, if there are several.
    """
    made: list[Made] = []
    errors: dict[int, BadRequest] = {}
    for place, thing in enumerate(things):
        try:
            made.append(make(thing))
        except BadRequest as error:
            errors[place] = error
    if errors:
        raise errors[0] if len(things) == 1 else SomeRefused(errors, len(things))
    return made
