"""What may be deleted: what was last of use longer ago than its kind is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property, partial
from math import inf

import mlflow
import pandas as pd
from mlflow.entities import LoggedModel, Run, ViewType

from hf_mlops.base.errors import BadRequest
from hf_mlops.registry.liveness import runs_at_work
from hf_mlops.registry.names import DATASET, FORGET, HYPERNETWORK, POPULATION, PURGED, SPEC, STEP, WITHDRAWN
from hf_mlops.registry.request_log import ROWS_OF
from hf_mlops.registry.runs import BROKEN_OFF, FINISHED, delete_artifacts, runs_of
from hf_mlops.registry.storage import (
    OURS,
    delete_at,
    delete_model,
    delete_run,
    logged_models,
    may_empty,
    models_in_trash,
    runs_in_trash,
    size_of,
)
from hf_mlops.registry.store import shown
from hf_mlops.registry.superseded import Registry, delete_versions
from hf_mlops.registry.versions import name_of, utc_now
from hf_mlops.steps.doctor import Finding, findings

LEFT = "left"  # by killed processes: what `doctor` mends
KINDS = {  # how long each is kept, and since when
    "populations": ("30d", "Populations, after the last training on them; they still know what was forgotten."),
    "hypernetworks": ("90d", "Hypernetworks under no alias, after a newer one became champion; they still know it, too."),
    "classifiers": ("90d", "Classifiers under no alias, after a newer one of the same spec was registered."),
    "withdrawn": ("never", "Records of what was withdrawn, whose files are gone; without them it could be made again."),
    "models": ("7d", "Logged models that no version refers to, after they were made."),
    "failed": ("30d", "Runs that failed or were killed, but for requests, after their end."),
    "evidence": ("never", "Tables and pictures of requests whose classifier is under no alias, after their end."),
    "requests": ("never", "Rows of the request log whose classifier is under no alias, after their end."),
    "trash": ("30d", "Runs, but for requests, and logged models in MLflow's trash, after they were put there."),
}
UNITS = {"d": 86400.0, "h": 3600.0}  # seconds
TRAINS, TRAINED_ON = "hypernet", "hypernet.targets_run"  # the step that trains on a population, and its parameter for that


def seconds_of(kind: str, age: str) -> float:
    """How long a kind is kept, in seconds: `30d`, `12h` or `never`.

    Raises:
        BadRequest: text of another form.
    """
    if age.strip() == "never":
        return inf
    form = re.fullmatch(r"(\d{1,6})([dh])", age.strip())
    if form is None:
        raise BadRequest(f"{kind} = {age!r} is not allowed; allowed: days as 30d, hours as 12h, or never")
    return int(form[1]) * UNITS[form[2]]


@dataclass(frozen=True)
class Expendable(Finding):
    """Something that may be deleted.

    Args:
        kind: of `KINDS`, or `LEFT`.
    """

    kind: str = LEFT


@dataclass(frozen=True)
class Retention:
    """What of a store may be deleted.

    Nothing is that an alias is on, that a version under an alias was audited by, or that another process is at work on. Where a
    version comes from is in its tags, whatever of it has been deleted.

    Args:
        ages: how long things are kept, in seconds, by each kind of `KINDS`.
        now: seconds since 1970.
    """

    ages: Mapping[str, float]
    now: float

    def expendable(self) -> list[Expendable]:
        """All of it, in an order in which each can be deleted whatever became of those before."""
        left = [Expendable(one.what, one.mend, one.size, LEFT) for one in findings()]
        kinds = (self._populations, self._versions, self._models, self._failed, self._requests, self._trash)
        return [*left, *(one for kind in kinds for one in kind())]

    @cached_property
    def _registry(self) -> Registry:
        return Registry.read()

    @cached_property
    def _logged(self) -> dict[str, LoggedModel]:
        return logged_models()

    @cached_property
    def _at_work(self) -> set[str]:
        """Runs that are at work, and the hypernetworks and populations that they work with."""
        runs = runs_at_work()
        used = {run.data.tags.get(HYPERNETWORK, "") for run in runs} | {run.data.params.get(TRAINED_ON, "") for run in runs}
        return (used | {run.info.run_id for run in runs}) - {""}

    def _old(self, kind: str, since: float | None) -> bool:
        return since is not None and self.now - since >= self.ages[kind]

    def _populations(self) -> Iterator[Expendable]:
        trained: dict[str, float] = {}
        for run in runs_of(f"= '{TRAINS}'"):
            of = run.data.params.get(TRAINED_ON, "")
            trained[of] = max(trained.get(of, 0.0), ended(run) or 0.0)
        for run in runs_of("= 'targets'"):
            since = max(ended(run) or 0.0, trained.get(run.info.run_id, 0.0))
            if run.info.status not in FINISHED or run.info.run_id in self._at_work or not self._old("populations", since):
                continue
            if size := size_of(run.info.artifact_uri, POPULATION):
                what = f"the population of the targets run {run.info.run_id} on {run.data.tags.get(DATASET, 'unknown data')}"
                yield Expendable(f"{what}, of use until {day(since)}", partial(purge, run), size, "populations")

    def _versions(self) -> Iterator[Expendable]:
        for place, versions in self._registry.by_place.items():
            kind = kind_of(versions[0].tags)
            since = [self._registry.superseded_since(version) for version in versions]
            working = {one for version in versions for one in (version.run_id or "", name_of(version))} & self._at_work
            if working or not all(self._old(kind, one) for one in since):
                continue
            of = f" (forget {versions[0].tags[FORGET]})" if FORGET in versions[0].tags else ""
            names = " and ".join(name_of(one) for one in versions)
            why = "withdrawn" if kind == "withdrawn" else "superseded"
            what = f"{names}{of}, {why} on {day(max(one or 0.0 for one in since))}"
            model = self._logged.get(place)
            mend = partial(delete_versions, versions, place, model.model_id if model else None)
            yield Expendable(what, mend, size_of(place), kind)

    def _models(self) -> Iterator[Expendable]:
        for place, model in self._logged.items():
            made = model.creation_timestamp / 1000
            used = place in self._registry.by_place or model.source_run_id in self._at_work
            if model.name in OURS and not used and self._old("models", made):
                what = f"the logged model {model.model_id} of {day(made)}, which no version refers to"
                yield Expendable(what, partial(delete_model, place, model.model_id), size_of(place), "models")

    def _failed(self) -> Iterator[Expendable]:
        for run in runs_of(f"!= '{ROWS_OF}'"):
            if run.info.status in BROKEN_OFF and self._old("failed", ended(run)) and not self._explains(run):
                what = f"the {run.data.tags[STEP]} run {run.info.run_id}, {run.info.status} on {day(ended(run))}"
                yield self._run(run, what, "failed")

    def _requests(self) -> Iterator[Expendable]:
        for run in runs_of(f"= '{ROWS_OF}'", stage=ViewType.ALL):
            if ended(run) is None or run.info.run_id in self._at_work or self._explains(run):
                continue
            what = f"request of {day(ended(run))} to forget {run.data.tags.get(SPEC, '')!r}, run {run.info.run_id}"
            if self._old("requests", ended(run)):
                yield self._run(run, f"the {what}", "requests")
            elif self._old("evidence", ended(run)) and (size := size_of(run.info.artifact_uri)):
                yield Expendable(f"tables of the {what}", partial(delete_at, run.info.artifact_uri), size, "evidence")

    def _trash(self) -> Iterator[Expendable]:
        """Behind a server nobody tells since when a run is there: its files go by the age of the run, and its row stays."""
        emptied, age = may_empty(), self.ages["trash"]
        if age == inf:
            return
        old = runs_in_trash(age) if emptied else set()
        for run in runs_of(f"!= '{ROWS_OF}'", stage=ViewType.DELETED_ONLY):
            found = self._run(run, f"the {run.data.tags[STEP]} run {run.info.run_id}, in the trash", "trash")
            if run.info.run_id in old or (not emptied and found.size and self._old("trash", ended(run))):
                yield found
        for model_id, place in (models_in_trash(age) if emptied else {}).items():
            what = f"the logged model {model_id}, in the trash"
            yield Expendable(what, partial(delete_model, place, model_id), size_of(place), "trash")

    def _explains(self, run: Run) -> bool:
        """Whether it has made a version under an alias, which its figures explain."""
        return run.info.run_id in self._registry.runs_serving

    @staticmethod
    def _run(run: Run, what: str, kind: str) -> Expendable:
        mend = partial(delete_run, run.info.run_id, run.info.artifact_uri)
        return Expendable(what, mend, size_of(run.info.artifact_uri), kind)


def ended(run: Run) -> float | None:
    """When it did, in seconds since 1970."""
    return run.info.end_time / 1000 if run.info.end_time else None


def day(seconds: float | None) -> str:
    """A time as a day, in UTC."""
    return datetime.fromtimestamp(seconds or 0, timezone.utc).strftime("%Y-%m-%d")


def kind_of(tags: dict[str, str]) -> str:
    """The kind of a version that has these tags."""
    return "withdrawn" if WITHDRAWN in tags else "classifiers" if FORGET in tags else "hypernetworks"


def purge(run: Run) -> None:
    """Deletes the population of a run of `targets`; its tag says so first, so that nobody is sent to it."""
    if PURGED not in run.data.tags:
        mlflow.MlflowClient().set_tag(run.info.run_id, PURGED, utc_now())
    delete_artifacts(run, POPULATION)


def to_empty_the_trash() -> str:
    """What is to be done about rows that stay in the trash of a server, as text; empty if there are none."""
    rows = [] if may_empty() else [run.info.run_id for run in runs_of(f"!= '{ROWS_OF}'", stage=ViewType.DELETED_ONLY)]
    if not rows:
        return ""
    server, runs = shown(mlflow.get_tracking_uri()), ",".join(rows)
    return (
        f"{len(rows)} deleted runs stay as rows in the database of {server}, which a client cannot delete. Who has the database"
        " can; with them go the experiments and logged models in the trash:\n"
        f"MLFLOW_TRACKING_URI={server} mlflow gc --backend-store-uri <the database's URI> --run-ids {runs}"
    )


def summary(found: list[Expendable], ages: Mapping[str, str]) -> pd.DataFrame:
    """One row for each kind: how long it is kept, how many there are, and how large they are."""
    rows = [(kind, ages.get(kind, ""), [one.size for one in found if one.kind == kind]) for kind in (LEFT, *KINDS)]
    return pd.DataFrame(
        [{"kind": kind, "kept for": age, "found": len(sizes), "MB": sum(sizes) / 1e6} for kind, age, sizes in rows]
    )
