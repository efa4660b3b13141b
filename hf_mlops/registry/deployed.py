"""What is deployed for which forget spec, and from which hypernetwork; and what was withdrawn."""

from __future__ import annotations

from datetime import datetime, timezone

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion

from hf_mlops.registry.lineage import lineage
from hf_mlops.registry.names import CHAMPION, FORGET, SERVED, WHOLE, WHY, WITHDRAWN
from hf_mlops.registry.versions import name_of

SERVING = ["model", "alias", "forget", "version", "sampled from", "of the champion", "registered"]
ORIGIN = ["population run", "data", "data digest"]
GONE = ["model", "version", "forget", "was", "withdrawn", "reason"]


def deployed() -> tuple[pd.DataFrame, pd.DataFrame]:
    """All that hf_mlops has registered in this store, under whatever name.

    Returns:
        one row for each alias, with the columns `SERVING` and `ORIGIN`. `of the champion` is `yes`, `no`, or says of a
        hypernetwork that is not the champion that it was withdrawn or deleted; empty for hypernetworks. Times are UTC.
        And one row for each version that was withdrawn, with the columns `GONE`, the latest first; `was` holds its aliases.
    """
    versions = {name_of(version): version for version in mlflow.search_model_versions(filter_string=f"tags.`{WHOLE}` = 'true'")}
    aliases = _aliases({version.name for version in versions.values()})
    champions = {version for (_, alias), version in aliases.items() if alias == CHAMPION}
    serving = [
        {**_row(versions[version]), "alias": alias, "of the champion": _standing(versions[version], versions, champions)}
        for (_, alias), version in sorted(aliases.items())
        if version in versions
    ]
    gone = [
        {**_row(one), "was": one.tags[SERVED], "withdrawn": one.tags[WITHDRAWN], "reason": one.tags[WHY]}
        for one in sorted(versions.values(), key=lambda one: one.tags.get(WITHDRAWN, ""), reverse=True)
        if WITHDRAWN in one.tags
    ]
    return pd.DataFrame(serving, columns=SERVING + ORIGIN), pd.DataFrame(gone, columns=GONE)


def _aliases(names: set[str]) -> dict[tuple[str, str], str]:
    """The version, by name and number, that each alias of these models is on."""
    client = mlflow.MlflowClient()
    return {
        (name, alias): f"{name}/{number}"
        for name in names
        for alias, number in client.get_registered_model(name).aliases.items()
    }


def _row(version: ModelVersion) -> dict[str, str]:
    from_, registered = lineage(version), datetime.fromtimestamp(version.creation_timestamp / 1000, timezone.utc)
    return {
        "model": version.name,
        "forget": version.tags.get(FORGET, ""),
        "version": str(version.version),
        "sampled from": from_.hypernetwork if from_.classifier else "",
        "registered": registered.isoformat(timespec="seconds"),
        "population run": from_.targets_run,
        "data": from_.dataset,
        "data digest": from_.data_digest,
    }


def _standing(version: ModelVersion, versions: dict[str, ModelVersion], champions: set[str]) -> str:
    """Whether a classifier was sampled from what is champion now."""
    hypernetwork = lineage(version).hypernetwork
    if FORGET not in version.tags:
        return ""
    if hypernetwork in champions:
        return "yes"
    if hypernetwork not in versions:
        return "no, deleted"
    return "no, withdrawn" if WITHDRAWN in versions[hypernetwork].tags else "no"
