"""Malformed requests to a served hypernetwork and to a served classifier: what they are answered, and what they leave.

    mlflow run . --env-manager local        # or any store with a champion and a classifier
    python -m benchmarks.fuzz               # half an hour on two cores; needs the extra [test]

Half of the requests come from schemathesis, by the schema of `/invocations` below: bodies that break it, and some that do not.
The other half are good bodies cut short, with bytes changed or put in, JSON of any form, and bodies of other content types.
Counted are answers by status; a 5xx is of hf_mlops if it says INTERNAL_ERROR, as its models do, and else of MLflow. Memory is
the resident one of the server's process, after all over after a tenth; the same good request is sent before and after.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click
import pandas as pd
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from schemathesis import GenerationMode

from benchmarks import write_table
from benchmarks.servers import Server, answering, model_server

JSON = "application/json"
PATIENCE = 60.0  # seconds for an answer

NUMBER = {"type": "number", "minimum": 0, "maximum": 10}
FEW = {"type": "integer", "minimum": 1, "maximum": 3}  # what is well formed is to be cheap
OPTIONS = {"n_samples": FEW, "seed": {"type": "integer", "minimum": 0}, "steps": FEW, "retain_loss": NUMBER}
OPTIONS |= {"forget_loss": NUMBER, "output": {"enum": ["weights", "onnx"]}}
SPEC = {"type": "string", "pattern": "^([0-9](,[0-9])?)?$"}
PARAMS = {"type": "object", "properties": OPTIONS, "additionalProperties": False}
SPECS = {"type": "array", "items": SPEC, "maxItems": 3}
ROW = {"type": "object", "properties": {"forget": SPEC, **OPTIONS}, "required": ["forget"]}
SPLIT = {"columns": {"const": ["forget"]}, "data": {"type": "array", "items": {"type": "array", "prefixItems": [SPEC]}}}


def body(**properties: Any) -> dict[str, Any]:
    """The schema of a request of these fields, the first of which is needed."""
    needed = next(iter(properties))
    return {"type": "object", "properties": properties, "required": [needed], "additionalProperties": False}


def images(*sides: int) -> dict[str, Any]:
    """The schema of a nested list of numbers from 0 to 1."""
    inner = images(*sides[1:]) if sides else {"type": "number", "minimum": 0, "maximum": 1}
    return {"type": "array", "items": inner, "minItems": sides[0], "maxItems": sides[0]} if sides else inner


@dataclass(frozen=True)
class Served:
    """What is served, and what may be asked of it.

    Args:
        model: its URI.
        bodies: schemas of requests.
        good: a request that is answered.
    """

    model: str
    bodies: tuple[dict[str, Any], ...]
    good: dict[str, Any]


HYPERNETWORK = Served(
    "models:/hyperforget@champion",
    (
        body(dataframe_split={**body(**SPLIT), "required": ["columns", "data"]}, params=PARAMS),
        body(dataframe_records={"type": "array", "items": ROW, "maxItems": 3}, params=PARAMS),
        body(inputs={"anyOf": [SPECS, body(forget=SPECS, **OPTIONS)]}, params=PARAMS),
        body(instances={"type": "array", "items": ROW, "maxItems": 3}, params=PARAMS),
    ),
    {"dataframe_split": {"columns": ["forget"], "data": [["7"], ["3,5"], [""]]}, "params": {"n_samples": 2, "seed": 5}},
)
ONE = images(1, 1, 8, 8)  # of digits
CLASSIFIER = Served(
    "models:/hyperforget-classifier@forget-7",
    (body(inputs=body(image=ONE)), body(inputs=ONE), body(instances=ONE)),
    {"inputs": {"image": [[[[(row * 8 + column) / 63 for column in range(8)] for row in range(8)]]]}},
)


@dataclass(frozen=True)
class Sent:
    """A request."""

    data: bytes
    content_type: str | None


@dataclass
class Answers:
    """What was answered: how often each status, and what of each kind of 5xx comes first."""

    statuses: Counter[int] = field(default_factory=Counter)
    faults: dict[str, tuple[Sent, str]] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)

    def note(self, sent: Sent, answer: requests.Response) -> None:
        self.statuses[answer.status_code] += 1
        if answer.status_code >= 500:
            kind = "hf_mlops" if "INTERNAL_ERROR" in answer.text else "MLflow"
            self.kinds[kind] += 1
            self.faults.setdefault(f"{kind} {sent.content_type} {answer.text[:80]}", (sent, answer.text))

    def at(self, hundred: int) -> int:
        """How many had a status of this hundred, 400 say."""
        return sum(count for status, count in self.statuses.items() if status // 100 == hundred // 100)


def by_schema(served: Served) -> SearchStrategy[Sent]:
    """What schemathesis makes of the schema: three in four break it."""
    content = {JSON: {"schema": {"oneOf": list(served.bodies)}}}
    operation = {"requestBody": {"required": True, "content": content}, "responses": {"200": {"description": "answers"}}}
    raw = {
        "openapi": "3.1.0",
        "info": {"title": "a served model", "version": "1"},
        "paths": {"/invocations": {"post": operation}},
    }
    post = schemathesis.openapi.from_dict(raw)["/invocations"]["POST"]
    modes = [GenerationMode.NEGATIVE] * 3 + [GenerationMode.POSITIVE]
    return st.one_of([post.as_strategy(generation_mode=mode) for mode in modes]).map(_as_sent)


def _as_sent(case: Any) -> Sent:
    data = case.body if isinstance(case.body, bytes) else json.dumps(case.body, default=lambda unset: {}).encode()
    return Sent(data, JSON)


ODD = ("NaN", "-Infinity", "1e999", "1" * 5000, "null", '"\\ud800"', "{}", "[[]]", '"\\u0000"', "true", "-0", "[" * 200)
TYPES = (JSON, "text/csv", "application/vnd.apache.parquet", "text/plain", f"{JSON}; charset=latin-1", f"{JSON}; x=1", None, "")
NESTED = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda some: st.lists(some, max_size=4) | st.dictionaries(st.text(max_size=10), some, max_size=4),
    max_leaves=20,
)


@st.composite
def by_hand(draw: st.DrawFn, served: Served) -> Sent:
    """A good body that was damaged, JSON of any form under names that MLflow knows, or bytes; of any content type."""
    text = json.dumps(served.good)
    first = draw(st.integers(0, len(text)))
    last = draw(st.integers(first, min(len(text), first + 20)))
    put_in = draw(st.sampled_from(["", *ODD]) | st.text(max_size=10))
    names = st.sampled_from(["dataframe_split", "dataframe_records", "inputs", "instances", "params", "messages"])
    kind = draw(st.integers(0, 5))
    if kind < 3:
        return Sent((text[:first] + put_in + text[last:]).encode(errors="surrogatepass"), JSON)
    if kind == 3:
        return Sent(json.dumps(draw(st.dictionaries(names, NESTED, min_size=1, max_size=3))).encode(), JSON)
    data = draw(st.binary(max_size=200) | st.just(text.encode()) | st.just(b"[" * 100_000) | st.just(b'{"inputs":' * 50_000))
    return Sent(data, draw(st.sampled_from(TYPES)))


def requests_to(served: Served) -> SearchStrategy[Sent]:
    """Of all kinds."""
    return by_schema(served) | by_hand(served)


def fuzz(
    server: Server, strategy: SearchStrategy[Sent], count: int, after: Callable[[int], None] = lambda number: None
) -> Answers:
    """Sends requests to a server; the same ones every time.

    Args:
        after: called with the number of each answer, from 1.
    """
    answers, url = Answers(), f"http://{server.address}/invocations"

    @seed(0)
    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(strategy)
    def send(sent: Sent) -> None:
        headers = {} if sent.content_type is None else {"Content-Type": sent.content_type}
        answers.note(sent, requests.post(url, data=sent.data, headers=headers, timeout=PATIENCE))
        after(answers.statuses.total())

    send()
    return answers


def good(server: Server, served: Served) -> bytes:
    """What the good request is answered.

    Raises:
        requests.HTTPError: it is not.
    """
    answer = requests.post(f"http://{server.address}/invocations", json=served.good, timeout=PATIENCE)
    answer.raise_for_status()
    return answer.content


def measured(served: Served, count: int) -> dict[str, Any]:
    """A row of the table."""
    with model_server(served.model) as server:
        process = answering(server)
        before, memory = good(server, served), []

        def look(number: int) -> None:
            if number in (count // 10, count):
                memory.append(process.memory_info().rss)

        answers = fuzz(server, requests_to(served), count, look)
        same = good(server, served) == before
    for kind, (sent, text) in answers.faults.items():
        print(f"{kind}: {sent.data[:200]!r} -> {text[:200]!r}")
    return {
        "served": served.model.removeprefix("models:/").partition("@")[0],
        "requests": answers.statuses.total(),
        **{f"{hundred // 100}xx": answers.at(hundred) for hundred in (200, 400)},
        "5xx of hf_mlops": answers.kinds["hf_mlops"],
        "5xx of MLflow": answers.kinds["MLflow"],
        "memory after all, over after a tenth": memory[-1] / memory[0],
        "the same answer afterwards": same,
    }


@click.command(help=__doc__)
@click.option("--count", default=10_000, show_default=True, help="Requests to each.")
def command(count: int) -> None:
    write_table("fuzz", pd.DataFrame([measured(served, count) for served in (HYPERNETWORK, CLASSIFIER)]))


if __name__ == "__main__":
    command()
