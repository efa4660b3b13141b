"""Step `promote`: measures the challenger beside the champion on a panel of specs, and makes it champion or says why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import nan
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import Run

from hf_mlops.audit.gates import Audit, Gates
from hf_mlops.audit.reference import Reference
from hf_mlops.audit.sweeps import audit_specs
from hf_mlops.audit.tables import kind_of
from hf_mlops.base.errors import GateFailure
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Dataset
from hf_mlops.registry.hypernetworks import in_torch
from hf_mlops.registry.models import Champion, champion_of, load_hypernetwork, make_champion
from hf_mlops.registry.names import CHAMPION
from hf_mlops.registry.runs import log_dataset, step_run
from hf_mlops.steps.step import Step

BETTER = {"max_forget_gap": -1, "max_forget_distance": -1, "max_retain_gap": 1}  # by gate: which way its figure is better
FIGURE = {"max_forget_gap": "forget_accuracy", "max_forget_distance": "forget_distance", "max_retain_gap": "retain_accuracy"}
NAMED = {"retain_accuracy": "accuracy on D_r", "forget_accuracy": "accuracy on D_f"}


@dataclass(frozen=True)
class Promote(Step):
    """Makes a challenger champion if it passes the gates on a panel and is not worse than the champion by more than they allow.

    The panel is every single group and pair of the champion's retrain reference that leaves something to judge by. Gates judge
    each beside its own reference: classifiers of another initialisation answer otherwise to what they never saw, and beside
    theirs an equally good hypernetwork fails. What is compared are accuracies, on the same test images.

    Args:
        challenger: what is to be champion.
        champion: what is; None: there is none, or it is of other data, so that both cannot be measured on the same images.
        dataset: that both were trained on.
        gates: what the challenger must show.
    """

    name = "promote"
    room = "audit"

    challenger: Champion
    champion: Champion | None
    dataset: Dataset
    gates: Gates

    @property
    def inputs(self) -> dict[str, Any]:
        return {
            "challenger": self.challenger.identity,
            "champion": self.champion.identity if self.champion else None,
            "data": self.dataset.digest,
            "gates": asdict(self.gates),
        }

    def run(self) -> Run:
        contenders = {"challenger": self.challenger, **({CHAMPION: self.champion} if self.champion else {})}
        params = {who: str(one) for who, one in contenders.items()} | asdict(self.gates)
        with step_run(self.name, self.fingerprint, params) as active:
            log_dataset(self.dataset, "promotion")
            specs = [spec for spec in (self.champion or self.challenger).reference.judged() if len(spec.groups) in (1, 2)]
            audits = {who: audit_specs(*in_torch(one), self.dataset, specs) for who, one in contenders.items()}
            reasons = refusals(audits["challenger"], audits.get(CHAMPION, {}), self.gates)
            table = panel_table(audits, self.challenger.reference, reasons)
            mlflow.log_text(table.to_csv(index=False), "panel.csv")
            print(table.to_string(index=False, float_format="%.4f"))
            said = [f"forget {spec}: {text}" for spec, texts in reasons.items() for text in texts]
            if said:
                raise GateFailure(f"{self.challenger} was not made champion, {self._stays()}:\n  " + "\n  ".join(said))
            make_champion(self.challenger.version)
            print(
                f"models:/{self.challenger.version.name}@{CHAMPION} is {self.challenger} now; before: {self.champion or 'none'}"
            )
        return active

    def _stays(self) -> str:
        return f"{self.champion} stays it" if self.champion else "there is still none"


def in_office(challenger: Champion) -> Champion | None:
    """The champion whose place a challenger may take; None: there is none, or one of other data."""
    version = champion_of(challenger.version.name)
    champion = load_hypernetwork(version) if version is not None else None
    if champion is None or champion.onnx.made_from["digest"] == challenger.onnx.made_from["digest"]:
        return champion
    print(f"{champion} was trained on other data, {champion.onnx.made_from}: {challenger} is judged by itself")
    return None


def refusals(
    challenger: Mapping[ForgetSpec, Audit], champion: Mapping[ForgetSpec, Audit], gates: Gates
) -> dict[ForgetSpec, list[str]]:
    """Why a challenger is not to be champion, by spec, in sentences.

    A gate that the champion fails on the same spec as well, and by no less, does not count: what is no better would stay in
    office for it.

    Args:
        champion: audits on the same specs; empty: there is none to compare with.
    """
    found = {}
    for spec, one in challenger.items():
        before = champion.get(spec)
        failed = one.refused(gates)
        if before is None:
            found[spec] = list(failed.values())
        else:
            found[spec] = [text for gate, text in failed.items() if not _excused(gate, one, before, gates)]
            found[spec] += _worse(one.figures(), before.figures(), gates)
    return {spec: texts for spec, texts in found.items() if texts}


def _excused(gate: str, challenger: Audit, champion: Audit, gates: Gates) -> bool:
    """Whether the champion fails a gate as well, and the challenger is no worse there."""
    now, before = (audit.figures().get(FIGURE[gate], nan) for audit in (challenger, champion))
    return gate in champion.refused(gates) and BETTER[gate] * now >= BETTER[gate] * before  # of NaN nothing is known


def _worse(challenger: dict[str, float], champion: dict[str, float], gates: Gates) -> list[str]:
    """Where a challenger is worse than the champion by more than the gates allow beside retrained classifiers."""
    margins = {"max_retain_gap": gates.max_retain_gap, "max_forget_gap": gates.max_forget_gap}
    said = []
    for gate, most in margins.items():
        figure = FIGURE[gate]
        now, before = challenger[figure], champion[figure]
        if not BETTER[gate] * (before - now) <= most:
            said.append(f"{NAMED[figure]} is {now:.4f}, the champion's {before:.4f}; allowed: at most {most} worse")
    return said


def panel_table(
    audits: Mapping[str, Mapping[ForgetSpec, Audit]], reference: Reference, reasons: Mapping[ForgetSpec, list[str]]
) -> pd.DataFrame:
    """One row per spec: the figures of challenger and champion that gates look at, and whether the challenger is refused.

    Args:
        reference: the challenger's, which tells the kinds of specs.
    """
    rows = []
    for spec in audits["challenger"]:
        row: dict[str, object] = {"forget": str(spec), "kind": kind_of(spec, reference)}
        for figure in ("retain_accuracy", "reference_retain_accuracy", "forget_accuracy", "forget_distance"):
            for who, by_spec in audits.items():
                row[f"{figure}, {who}".replace("_", " ")] = by_spec[spec].figures().get(figure, nan)
        rows.append({**row, "challenger": "refused" if spec in reasons else "passes"})
    return pd.DataFrame(rows)
