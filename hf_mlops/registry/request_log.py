"""The request log: who asked when to forget what, and what came of it. A row is a run of `forget`, by its tags."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from math import nan
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import Run, RunStatus, ViewType
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from hf_mlops.base.errors import BadRequest, GateFailure, SomeRefused
from hf_mlops.base.spec import visible
from hf_mlops.registry.liveness import is_at_work
from hf_mlops.registry.names import HYPERNETWORK, OUTCOME, PARAMETERS, PLACE, REASON, REQUESTER, SPEC, VERSION, WHOLE
from hf_mlops.registry.runs import open_run, runs_of, waiting_run
from hf_mlops.registry.store import foreseen, hasten, shown
from hf_mlops.registry.versions import name_of

ROWS_OF = "forget"  # the step whose runs are the rows
LONGEST, MOST = 500, 4000  # characters of a requester; of any other text, what is beyond them is cut off

# outcomes
REGISTERED = "registered"  # a classifier
ANSWERED = "answered"  # by the classifier that the same request has made before
REFUSED = "refused"  # what was asked for is not allowed
BY_GATES = "refused by gates"  # the classifier that was made
FAILED = "failed"
INTERRUPTED = "interrupted"  # by Ctrl-C or SIGTERM, or before its turn
BROKEN_OFF = "broken off"  # its process was killed
AT_WORK = "at work"

COLUMNS = ("asked", "seconds", "requester", "forget", "outcome", "version", "reason", "hypernetwork", "parameters", "run")


@dataclass(frozen=True)
class Request:
    """A request to forget.

    Args:
        forget: the spec, or several specs with a `|` between them.
        parameters: all else that was asked for, JSON-ready.
        requester: who asked, in the caller's words; at most `LONGEST` characters.

    Raises:
        BadRequest: a requester that is longer.
    """

    forget: str
    parameters: dict[str, Any] = field(default_factory=dict)
    requester: str = ""

    def __post_init__(self) -> None:
        if len(self.requester) > LONGEST:
            raise BadRequest(
                f"requester = {self.requester[:40]!r} … of {len(self.requester)} characters is not allowed; allowed: {LONGEST}"
            )

    @property
    def tags(self) -> dict[str, str]:
        """Of its run."""
        return {SPEC: self.forget, PARAMETERS: json.dumps(self.parameters, ensure_ascii=False), REQUESTER: self.requester}


def note(tags: dict[str, str]) -> None:
    """Tags the active run, without passwords and without what could not be printed."""
    mlflow.set_tags(_printable(tags))


def _printable(tags: dict[str, str]) -> dict[str, str]:
    texts = {tag: visible(shown(text)) for tag, text in tags.items()}
    return {tag: text if len(text) <= MOST else f"{text[:MOST]} …" for tag, text in texts.items()}


@contextmanager
def requested(request: Request) -> Iterator[Run]:
    """The run of a request: a row of the log from its beginning, with its outcome when it ends."""
    with open_run(ROWS_OF) as run:
        note({**request.tags, PLACE: _placed(_last_place() + 1)})
        with _noting_how_it_ends():
            yield run


def in_line(requests: list[Request], hypernetwork: str) -> dict[int, str]:
    """Children of the active run, one for each request, that wait for their turn: their identifiers, by place from 0."""
    tags, last = [_printable({**request.tags, HYPERNETWORK: hypernetwork}) for request in requests], _last_place()
    return {
        place: waiting_run(ROWS_OF, _name(request), {**tags[place], PLACE: _placed(last + 1 + place)})
        for place, request in enumerate(requests)
    }


def _placed(place: int) -> str:
    return f"{place:012}"  # MLflow sorts tags as text


def _last_place() -> int:
    """The place of the last row; two requests at one moment may have the same, and then the clock decides."""
    found = _rows(f"tags.`{PLACE}` != ''", order_by=[f"tags.`{PLACE}` DESC"], most=1)
    return int(found[0].data.tags[PLACE]) if found else 0


@contextmanager
def sent_away_on_error(waiting: dict[int, str]) -> Iterator[None]:
    """Ends the runs of those that wait in line when an error ends the block, for that reason or one of their own."""
    try:
        yield
    except BaseException as error:
        hasten(error)
        with suppress(Exception):  # of a store that is out of reach: they are known as broken off when their parent is
            for place, run_id in waiting.items():
                _send_away(run_id, error.of(place) if isinstance(error, SomeRefused) else error)
        raise


def _send_away(run_id: str, error: BaseException) -> None:
    client = mlflow.MlflowClient()
    for tag, text in _printable(_end(error)).items():
        client.set_tag(run_id, tag, text)
    status = RunStatus.KILLED if isinstance(error, KeyboardInterrupt) else RunStatus.FAILED
    client.set_terminated(run_id, RunStatus.to_string(status))


@contextmanager
def taken_up(run_id: str, request: Request) -> Iterator[Run]:
    """The run of a request that has waited in line, as `requested` has it."""
    with open_run(ROWS_OF, _name(request), run_id) as run, _noting_how_it_ends():
        yield run


def _name(request: Request) -> str:
    return visible(f"{ROWS_OF} {request.forget}")[:100]


@contextmanager
def _noting_how_it_ends() -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        hasten(error)
        with suppress(Exception):  # of a store that is out of reach: the run says by its status that it broke off
            note(_end(error))
        raise


def _end(error: BaseException) -> dict[str, str]:
    """Outcome and reason of a request that ends by an error."""
    if isinstance(error, KeyboardInterrupt):
        return {OUTCOME: INTERRUPTED}
    plain = foreseen(error) if isinstance(error, Exception) else None
    outcome = BY_GATES if isinstance(plain, GateFailure) else REFUSED if isinstance(plain, BadRequest) else FAILED
    reason = str(plain) if plain else f"{type(error).__name__}: {error}"
    return {OUTCOME: outcome, REASON: " ".join(reason.split())}


# Reading it


def request_log(since: datetime | None = None) -> pd.DataFrame:
    """All requests, in the order that they were asked in, with the columns `COLUMNS`; those of deleted runs, too, until
    `mlflow gc` has taken them.

    Args:
        since: when the first was asked, with its time zone; None: all.
    """
    runs = _rows(f"attributes.start_time >= {1000 * since.timestamp():.0f}" if since else "")
    runs.sort(key=lambda run: (run.data.tags.get(PLACE, ""), run.info.start_time))
    parents = {run.data.tags.get(MLFLOW_PARENT_RUN_ID) for run in runs}  # of several requests, each of which is a row
    return pd.DataFrame([_row(run) for run in runs if run.info.run_id not in parents], columns=list(COLUMNS))


def _rows(also: str = "", **how: Any) -> list[Run]:
    """Runs of requests, in the trash too; `how` as for `runs_of`."""
    return runs_of(f"= '{ROWS_OF}'", also, ViewType.ALL, **how)


def _row(run: Run) -> dict[str, object]:
    tags, ended = run.data.tags, run.info.end_time
    outcome = tags.get(OUTCOME) or _outcome_of_no_word(run)
    whole = ended and outcome not in (AT_WORK, BROKEN_OFF)  # of a killed one nobody knows when it ended
    return {
        "asked": datetime.fromtimestamp(run.info.start_time / 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seconds": max(0.0, (ended - run.info.start_time) / 1000) if whole else nan,
        "requester": tags.get(REQUESTER, ""),
        "forget": tags.get(SPEC) or run.data.params.get(f"{ROWS_OF}.spec", ""),
        "outcome": outcome,
        "version": tags.get(VERSION) or (_registered_by(run) if outcome in (BROKEN_OFF, INTERRUPTED) else ""),
        "reason": tags.get(REASON, ""),
        "hypernetwork": tags.get(HYPERNETWORK) or run.data.params.get(f"{ROWS_OF}.hypernetwork", ""),
        "parameters": tags.get(PARAMETERS, ""),
        "run": run.info.run_id,
    }


def _outcome_of_no_word(run: Run) -> str:
    """Of a run that has not noted its outcome: it is at work or was killed, or an earlier version of this package made it."""
    if is_at_work(run):
        return AT_WORK
    by_status = {"FINISHED": REGISTERED, "FAILED": FAILED}
    return by_status.get(run.info.status, BROKEN_OFF)


def _registered_by(run: Run) -> str:
    """The version that a run had registered to the end when it broke off, by name and number; empty: none."""
    found = mlflow.MlflowClient().search_model_versions(f"run_id = '{run.info.run_id}'")
    return next((name_of(one) for one in found if one.tags.get(WHOLE) == "true"), "")
