"""Step `forget`: samples a classifier that has forgotten, audits it, exports it to ONNX and registers it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from math import isnan, nan
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from jaxtyping import Float
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from hf_mlops.audit.gates import Audit, Gates, audit_samples
from hf_mlops.audit.measure import measure
from hf_mlops.audit.reference import Reference
from hf_mlops.audit.select import best_fit
from hf_mlops.base.artifact import sha256
from hf_mlops.base.errors import BadRequest, DamagedArtifact, GateFailure
from hf_mlops.base.spec import ForgetSpec
from hf_mlops.data.dataset import Dataset
from hf_mlops.population.outputs import Answering
from hf_mlops.registry.models import Champion, classifier_of, register_classifier
from hf_mlops.registry.names import FINGERPRINT, HYPERNETWORK, OUTCOME, POISON_PICTURE, REASON, SPEC, VERSION, alias_of
from hf_mlops.registry.request_log import ANSWERED, REGISTERED, Request, note, requested
from hf_mlops.registry.runs import active_run_id, describe_run, log_dataset
from hf_mlops.registry.same_request import is_done, is_in_the_making, made_by_request
from hf_mlops.registry.versions import classifier_name, name_of, refuse_again, serving
from hf_mlops.report.backdoor import Backdoor
from hf_mlops.serving.sampler import DEFAULT_START_TIME, DEFAULT_STEPS, Samples, Start, Wanted
from hf_mlops.steps.step import Step, made_by, once


@dataclass(frozen=True)
class Sampling:
    """How candidates are sampled."""

    n: int = 8  # candidates
    seed: int = 0  # of the first
    steps: int = DEFAULT_STEPS  # denoising steps
    retain_loss: float | None = None  # loss asked for on D_r, nats; None: as retrained
    forget_loss: float | None = None  # loss asked for on D_f, nats; None: as retrained
    start: str = ""  # the classifier to stay near, for `load_start`; empty: none
    start_time: float = DEFAULT_START_TIME  # how far to go from it: 1 is not to stay near at all

    @property
    def params(self) -> dict[str, Any]:
        """All that counts, by name: without a start there is no start time."""
        return {name: value for name, value in asdict(self).items() if self.start or not name.startswith("start")}


ON_DEMAND = 4  # targets retrained for a spec that could not be judged otherwise


@dataclass(frozen=True)
class Forget(Step):
    """Samples candidates, keeps the one that fits its prompt best, and registers it if it passes its gates.

    Args:
        champion: what to sample from.
        dataset: that it was trained on, of arrays of NumPy.
        spec: what is to be forgotten.
        gates: what the classifier must show, or it is not registered.
        sampling: how candidates are sampled.
        retrained: how many targets to retrain for the very spec, to judge them beside; 0: the champion's reference will do.
    """

    name = "forget"
    room = "audit"
    writes = ("registry/models.py", "steps/retrain.py")

    champion: Champion
    dataset: Dataset
    spec: ForgetSpec
    gates: Gates
    sampling: Sampling
    retrained: int = 0

    @cached_property
    def _retrained(self) -> int:
        """How many to retrain: where D_f is judged by training images, accuracy alone would pass the original, too."""
        by_training_images = not all(self.dataset.groups.held_out[group] for group in self.spec.groups)
        return self.retrained or ON_DEMAND * (by_training_images and self.spec not in self.champion.reference.specs())

    @property
    def inputs(self) -> dict[str, Any]:
        return {
            **self.champion.identity,
            "data": self.dataset.digest,
            "spec": str(self.spec),
            "gates": asdict(self.gates),
            "sampling": self._sampling,
            "retrained": self._retrained,
        }

    @property
    def _sampling(self) -> dict[str, Any]:
        """All that decides the candidates, start weights by what they are and not only by where."""
        start = {} if self.start is None else {"start_sha256": sha256(self.start.tobytes())}
        return {**self.sampling.params, **start}

    @cached_property
    def start(self) -> Float[np.ndarray, " params"] | None:
        """The weights to stay near."""
        if not self.sampling.start:
            return None
        from hf_mlops.registry.hypernetworks import load_start  # brings torch, which other requests do without

        return load_start(self.sampling.start, self._hypernetwork.target).numpy()

    @cached_property
    def _hypernetwork(self) -> Any:
        """The champion in torch, for what cannot do without."""
        from hf_mlops.registry.hypernetworks import in_torch

        return in_torch(self.champion)[0]

    def check(self) -> None:
        """Loads the start weights, and refuses a spec that could not be judged.

        Raises:
            BadRequest: the start cannot be had, the spec has nothing to be judged by, or the very same was withdrawn.
        """
        refuse_again(FINGERPRINT, self.fingerprint)
        _ = self.start
        if not self._retrained:
            self.champion.reference.beside(self.spec)
        if not self.champion.reference.leaves_images(self.spec):
            raise BadRequest(
                f"forgetting {self.spec} leaves no test image to judge what is kept by; allowed: a spec that leaves some"
            )

    def run(self) -> Run:
        self.check()
        with requested(
            Request(str(self.spec), {**self.sampling.params, **asdict(self.gates), "retrained": self.retrained})
        ) as run:
            self.answer()
        return run

    def answer(self, force: bool = False) -> ModelVersion:
        """The version that answers the request of the active run: one that the same request has made before, or a new one.

        Args:
            force: whether to make a new one in any case.

        Raises:
            GateFailure: the classifier fails its gates; nothing was registered.
        """
        before, passed_over = (None, None) if force else self._made_before()
        version = before or self._make(passed_over)
        named = name_of(version)
        if version.run_id == active_run_id():
            note({VERSION: named, OUTCOME: REGISTERED})
            print(f"\nregistered  {version.name} version {version.version}: models:/{version.name}@{alias_of(self.spec.slug)}")
            return version
        where = serving(version, alias_of(self.spec.slug))
        about = {SPEC: str(self.spec), HYPERNETWORK: str(self.champion), VERSION: named}
        note({**about, OUTCOME: ANSWERED, REASON: f"made by the same request before; {where}"})
        print(f"\nanswered    {named}, made by the same request before (a new one all the same: -P force=yes): {where}")
        return version

    def _made_before(self) -> tuple[ModelVersion | None, set[str]]:
        """The version that the same request has made before, if it can stand for a new one: it is there, whole and undamaged.

        And the numbers of those that cannot, to be told from what others make from now on.
        """
        made = made_by_request(classifier_name(self.champion.version.name), self.fingerprint)
        settled = [version for version in made if not is_in_the_making(version)]
        latest = next(filter(is_done, settled), None)
        try:
            if latest is not None:
                classifier_of(latest)
        except DamagedArtifact as error:
            print(f"a new version is made, since that of the same request before is damaged: {error}")
            latest = None
        return latest, {str(version.version) for version in settled}

    def _make(self, passed_over: set[str] | None) -> ModelVersion:
        """Samples, audits and registers a classifier; gives that of another process if the same request came first there."""
        target, dataset, spec, start = self.champion.onnx, self.dataset, self.spec, self.start
        asked = {"hypernetwork": str(self.champion), "spec": str(spec), "retrained": self._retrained}
        describe_run(self.name, self.fingerprint, {**asked, **self.sampling.params, **asdict(self.gates)})
        note({SPEC: str(spec), HYPERNETWORK: str(self.champion)})
        log_dataset(dataset, "audit")
        samples = self._samples()
        evidence = audit_samples(target, samples, dataset, self._reference())
        kept = best_fit(target, samples, dataset)
        mlflow.log_metrics(evidence.figures(kept))
        mlflow.log_text(candidates(samples, evidence).to_csv(index=False), "candidates.csv")
        mlflow.log_text(groups_table(evidence, kept).to_csv(index=False), "groups.csv")
        candidate = f"candidate {kept + 1} of {len(samples.seeds)} from {self.champion}, seed {samples.seeds[kept]}"
        print(f"\nforget {spec}: {candidate}")
        table = sets_table(evidence, kept)
        if start is not None:
            sampled, retrained = churn(target, start, dataset, evidence, kept)
            table.loc["retain set: predictions that change"] = sampled, retrained
            mlflow.log_metrics({"churn": sampled, "reference_churn": retrained})
        print(table.to_string(float_format="%.4f"))
        print(on_the_forget_set(evidence, kept))
        show_backdoor(dataset, evidence, kept)
        refused = evidence.refused(self.gates, kept).values()
        if refused:
            raise GateFailure("nothing was registered, the classifier fails its gates:\n  " + "\n  ".join(refused))
        return self._register(samples, kept, evidence, passed_over)

    def _samples(self) -> Samples:
        """The candidates, each of which its seed alone gives again, bit for bit."""
        asked = self.sampling
        wanted = Wanted(self.spec, asked.n, asked.seed, asked.steps, asked.retain_loss, asked.forget_loss)
        return self.champion.onnx.sampler.sample([wanted], self._near())[0]

    def _near(self) -> Start | None:
        """What candidates are to stay near."""
        if self.start is None:
            return None
        import torch

        return self._hypernetwork.near(torch.from_numpy(self.start), self.sampling.start_time)

    def _reference(self) -> Reference:
        """What candidates are judged beside: the champion's reference, with targets that were retrained for the spec, once."""
        if not self._retrained:
            return self.champion.reference
        from hf_mlops.data.tensors import as_tensors
        from hf_mlops.steps.retrain import Retrain, retrained_by  # trains, and so brings torch

        target, data = self._hypernetwork.target, as_tensors(self.dataset)
        retrain = Retrain(self.champion.reference, target, data, self.spec, self._retrained)
        return self.champion.reference.joined(retrained_by(once(retrain)))

    def _register(self, samples: Samples, kept: int, evidence: Audit, passed_over: set[str] | None) -> ModelVersion:
        """Exports the sample that is kept and registers it, with its audit as tags."""
        classifier = self.champion.onnx.classifier(samples.weights[kept], self.spec, str(self.champion))
        tags = {
            "sampling": {**self._sampling, "n": 1, "seed": samples.seeds[kept]},  # gives these very weights again
            "gates": asdict(self.gates),
            **made_by(self),
            "reference": f"retrained without {str(evidence.reference.spec) or 'nothing'}",
            **{name: f"{value:.4f}" for name, value in evidence.figures(kept).items()},
        }
        description = f"Classifier of {self.dataset.name}, as if retrained without: {self.spec}."
        return register_classifier(classifier, self.champion, self.spec, tags, description, passed_over)


def churn(
    target: Answering, start: Float[np.ndarray, " params"], dataset: Dataset, evidence: Audit, kept: int
) -> tuple[float, float]:
    """Share of test images in D_r not predicted as by the start weights: by the kept sample, and by a mean retrained target."""
    spec = evidence.sampled.spec
    before = measure(target, start[None], spec, dataset.audited).predictions[0]
    return float(evidence.sampled.churn(before)[kept]), float(evidence.reference.churn(before, spec).mean())


def candidates(samples: Samples, evidence: Audit) -> pd.DataFrame:
    """One row per candidate: its seed and figures."""
    return pd.DataFrame([{"seed": seed, **evidence.figures(index)} for index, seed in enumerate(samples.seeds)])


def groups_table(evidence: Audit, kept: int) -> pd.DataFrame:
    """One row per group: test accuracy and loss of the kept sample, beside the retrain reference."""
    sampled, reference = evidence.sampled, evidence.reference
    return pd.DataFrame(
        {
            "group": sampled.spec.group_names,
            "forgotten": sampled.spec.mask,
            "accuracy": sampled.accuracies[kept].tolist(),
            "retrained accuracy": reference.accuracies.mean(0).tolist(),
            "loss": sampled.losses[kept].tolist(),
            "retrained loss": reference.losses.mean(0).tolist(),
        }
    )


def sets_table(evidence: Audit, kept: int) -> pd.DataFrame:
    """Accuracy and loss on D_f and D_r of the kept sample, beside the retrain reference."""
    figures, reference = evidence.figures(kept), evidence.reference
    columns = {
        "sampled": "",
        f"retrained without {str(reference.spec) or 'nothing'} (mean of {len(reference.losses)})": "reference_",
    }
    test = {"retain": "test ", "forget": "test " * ("forget_accuracy_at_most" in figures)}  # or else by training images
    rows = {
        f"{test[name]}{what} on the {name} set": [figures.get(f"{prefix}{name}_{what}", nan) for prefix in columns.values()]
        for name in ("forget", "retain")
        for what in ("accuracy", "loss")
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(columns))


def show_backdoor(dataset: Dataset, evidence: Audit, kept: int) -> None:
    """Prints how often an attack that was laid into the data succeeds, and logs a picture of it; nothing if none was."""
    backdoor = Backdoor.of(dataset, evidence, kept)
    if backdoor is not None:
        from hf_mlops.report import pictures  # brings matplotlib, which other requests need not wait for

        print(backdoor)
        mlflow.log_figure(pictures.answers_to_the_attacker(backdoor), POISON_PICTURE)


def on_the_forget_set(evidence: Audit, kept: int) -> str:
    """How much the figures of the kept sample on D_f say, as text."""
    figures = evidence.figures(kept)
    images = evidence.sampled.to_forget.sum()
    accuracy = f"figures on the forget set are by {images} training images of its own"
    if "forget_accuracy_at_most" in figures:
        bound = figures["forget_accuracy_at_most"]
        accuracy = f"accuracy on the forget set: at most {bound:.4f} with 95 % confidence, by {images} test images"
    if "forget_distance" not in figures:
        return (
            f"{accuracy}\nanswers on the forget set: not judged, for want of classifiers retrained without it (-P retrained=8)"
        )
    found, retrained, known = (figures[f"{of}forget_divergence"] for of in ("", "reference_", "unforgotten_"))
    far_end, closed = "those with the classes masked", ""
    if "closed" in figures:
        far_end = "the original"
        closed = f"\nloss on the forget set: {figures['closed']:.2f} of the way from the original to retrained ones"
    if "least_closed" in figures:
        closed += f", on a single group of it at least {figures['least_closed']:.2f}"
    way = f"off by {100 * figures['forget_distance']:.0f} % of the way from retrained ones to {far_end}"
    if isnan(figures["forget_distance"]):
        way = f"nothing can be told, since retrained ones are as far from each other as from {far_end}"
    return f"{accuracy}\nanswers on the forget set: {way} (divergence {found:.3f}, of {retrained:.3f} and {known:.3f}){closed}"
