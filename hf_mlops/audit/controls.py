"""Controls: classifiers of known standing, which an audit must judge right before it is to be believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pandas as pd

from hf_mlops.audit.gates import Audit, Gates
from hf_mlops.audit.measure import Measured
from hf_mlops.audit.reference import Reference
from hf_mlops.base.progress import Progress
from hf_mlops.base.spec import ForgetSpec

RETRAINED, ORIGINAL, MASKED, HALF, OVER, FINE_TUNED = CONTROLS = (
    "retrained",  # without the very spec, each judged beside the others: must pass, and all others must not
    "original",  # has forgotten nothing
    "masked",  # the same, with the classes left out of its answers
    "half forgotten",  # has forgotten all groups of the spec but one
    "over-forgotten",  # has forgotten one group more, which the request keeps
    "fine-tuned",  # the original, trained on with D_r alone; made of weights, which a reference has none of
)
ENOUGH = 3  # targets retrained for one spec: one is judged, and two are needed to say how far they are from each other

Made = Callable[[ForgetSpec], Mapping[str, Measured]]  # further classifiers that must not pass for a spec, by name of control


def controls(reference: Reference, spec: ForgetSpec, made: Made = lambda spec: {}) -> Iterator[tuple[str, Audit]]:
    """The controls of a spec that the reference has: a name in `CONTROLS`, and the audit of one or several such classifiers.

    There are none where fewer than `ENOUGH` targets were retrained for the very spec, or where no image is in D_r or D_f.

    Args:
        made: controls that are made of weights, of which a reference has none; on `Dataset.audited`.
    """
    own, unforgotten = reference.beside(spec), reference.unforgotten(spec)
    count = len(own.losses)
    if own.spec != spec or count < ENOUGH or not all(images.any() for images in own.sets()):
        return
    for index in range(count):
        others = Measured(spec, own.outputs.only([other for other in range(count) if other != index]))
        yield RETRAINED, Audit(own.only(index), others, unforgotten)
    if unforgotten is not None and reference.groups.covered(spec.groups):
        yield MASKED, Audit(unforgotten, own, unforgotten)
    for other in reference.specs():
        if kind := _kind(set(other.groups), set(spec.groups)):
            yield kind, Audit(Measured(spec, reference.beside(other).outputs), own, unforgotten)
    for kind, measured in made(spec).items():
        yield kind, Audit(measured, own, unforgotten)


def _kind(groups: set[int], asked: set[int]) -> str:
    """What targets that forgot some groups are to a spec that asks for others; empty: no control."""
    if not groups:
        return ORIGINAL
    if groups < asked and len(groups) == len(asked) - 1:
        return HALF
    return OVER if groups > asked and len(groups) == len(asked) + 1 else ""


def control_table(reference: Reference, gates: Gates, made: Made = lambda spec: {}) -> pd.DataFrame:
    """How gates judge the controls of every spec of a reference, `made` ones among them.

    Returns:
        one row for each name in `CONTROLS`, and for each other that was made, that there are any of: `classifiers`, how many;
        `judged right`, the share of them; then the share that each gate by itself refuses. No rows where nothing could be
        judged.
    """
    rows = []
    specs = [spec for spec in reference.specs() if spec.groups]
    with Progress("controls", len(specs), "spec") as progress:
        for spec in specs:
            for kind, audit in controls(reference, spec, made):
                for index in range(len(audit.sampled.losses)):
                    refused = audit.refused(gates, index)
                    right = bool(refused) != (kind == RETRAINED)
                    rows.append({"control": kind, "judged right": right, **{gate: gate in refused for gate in gates.names}})
            progress.advance()
    if not rows:
        return pd.DataFrame(columns=["control", "classifiers", "judged right", *gates.names])
    by_kind = pd.DataFrame(rows).groupby("control", sort=False)
    order = dict.fromkeys([*CONTROLS, *by_kind.groups])
    table = by_kind.mean().assign(classifiers=by_kind.size()).reindex([kind for kind in order if kind in by_kind.groups])
    return table[["classifiers", "judged right", *gates.names]].reset_index()
