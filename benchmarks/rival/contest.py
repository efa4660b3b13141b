"""The contest: one target, one data set, the same classifiers in production and the same judges for every way to forget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from benchmarks.rival.figures import FIGURES, Classifiers, figures
from benchmarks.rival.methods import METHODS, NOTHING, RETAIN, Method
from benchmarks.rival.request import Request
from benchmarks.rival.tuning import Tuned, objective, tuned
from benchmarks.trained import Trained
from hf_mlops import ForgetSpec, Target, retrain
from hf_mlops.audit.measure import covered_classes
from hf_mlops.compute.device import choose_device

ORIGINAL, RETRAINED, SAMPLED = "original", "retrain", "one sample"
NEEDS = {ORIGINAL: NOTHING, RETRAINED: RETAIN, SAMPLED: NOTHING, **{name: one.needs for name, one in METHODS.items()}}
TUNED_ON, EVERY = 2, 3  # classifiers in production, and spec: the first, the fourth, ...

Settings = Mapping[str, Mapping[str, float]]  # hyperparameters of each rival


class Contest:
    """What all ways to forget are given, and judged by.

    Args:
        made: population and hypernetwork; in production are reference targets that forgot nothing.
        specs: that are forgotten, one by one; each has at least two reference targets.
        production: how many classifiers, at most.
        seed: of samples, of what rivals draw, and of relearning.
        device: where they forget; they are judged on the CPU.

    `methods` are the rivals, without a mask where no class is there to be left out: it would be the original. `validation` is
    what they are tuned on: validation images and, where none stand for a group, training images of its own.
    """

    def __init__(self, made: Trained, specs: list[ForgetSpec], production: int, seed: int, device: str):
        self.made, self.specs, self.seed, self.device = made, specs, seed, choose_device(device)
        self.config, self.data = made.population.config, made.dataset
        covered = any(self.data.groups.covered(spec.groups) for spec in specs)
        self.methods = {name: method for name, method in METHODS.items() if covered or not method.masks}
        self.validation = replace(self.data, test=self.data.validation, triggered=None, victims=None).audited
        self.production = self.retrained(ForgetSpec.of([], self.data.groups.names))[:production]
        self.target = Target.for_dataset(self.config.architecture, self.data, self.config.scope, self.config.seed)
        self.target.to(self.device)
        self.train = self.data.train.to(self.device)

    def retrained(self, spec: ForgetSpec) -> Tensor:
        """Weights (targets, P) of the reference targets of a spec."""
        return self.made.population.retrained(torch.tensor(spec.mask))

    def classifiers(self, weights: Tensor, spec: ForgetSpec, masked: bool = False) -> Classifiers:
        """To be judged on the CPU; masked: without the classes of which the spec leaves nothing."""
        left_out = torch.from_numpy(covered_classes(self.data.groups, spec)) if masked else None
        return Classifiers(self.made.population.target, weights, spec, left_out)

    def request(self, spec: ForgetSpec, production: Tensor) -> Request:
        """To forget a spec, of some classifiers (models, P) in production."""
        return Request.of(self.target, production.to(self.device), spec, self.train, self.config, self.seed)

    def tune(self, name: str, trials: int) -> Tuned:
        """A rival's hyperparameters: best by the mean of the objective over every third spec."""
        method, specs = self.methods[name], self.specs[::EVERY]
        wanted = {spec: self.classifiers(self.retrained(spec), spec).on(self.validation) for spec in specs}
        requests = {spec: self.request(spec, self.production[:TUNED_ON]) for spec in specs}

        def judge(chosen: dict[str, float]) -> float:
            total = 0.0
            for spec in specs:
                after = method(requests[spec], **chosen).cpu()
                total += objective(self.classifiers(after, spec, method.masks).on(self.validation), wanted[spec])
            return total / len(specs)

        return tuned(name, method, judge, trials, self.seed)

    def figures(self, spec: ForgetSpec, settings: Settings) -> dict[str, dict[str, list[float]]]:
        """Every one of `FIGURES` of every way to forget a spec, a figure for each classifier."""
        references = self.retrained(spec)
        mean, production = (self.classifiers(some, spec).on(self.data.audited) for some in (references, self.production))
        judge = partial(figures, production=production, dataset=self.data, seed=self.seed)
        found = {ORIGINAL: judge(self.classifiers(self.production, spec), mean)}
        found[RETRAINED] = {name: [] for name in FIGURES}
        for index in range(len(references)):  # each beside the others
            rest = self.classifiers(torch.cat([references[:index], references[index + 1 :]]), spec).on(self.data.audited)
            for name, values in judge(self.classifiers(references[index : index + 1], spec), rest).items():
                found[RETRAINED][name] += values
        sampled = self.made.hypernetwork.sample(spec, len(self.production), self.seed).weights
        found[SAMPLED] = judge(self.classifiers(sampled, spec), mean)
        request = self.request(spec, self.production)
        for name, method in self.methods.items():
            after = method(request, **settings[name]).cpu()
            found[name] = judge(self.classifiers(after, spec, method.masks), mean)
        return found

    def seconds(self, settings: Settings, turns: int) -> dict[str, float]:
        """Processor seconds of a request each way, of one classifier in production: medians of turns, another spec in each."""
        taken = []
        for turn in range(turns + 1):
            spec = self.specs[turn % len(self.specs)]
            request, mask = self.request(spec, self.production[:1]), torch.tensor(spec.mask)[None]
            ways: dict[str, Callable[[], object]] = {
                RETRAINED: partial(retrain, self.config, self.data, mask, turn, self.device.type),
                SAMPLED: partial(self.made.hypernetwork.sample, spec, 1, turn),
                **{name: partial(_on_cpu, method, request, settings[name]) for name, method in self.methods.items()},
            }
            taken.append({name: _seconds(way) for name, way in ways.items()})
        return pd.DataFrame(taken[1:]).median().to_dict()  # what comes only once is in the first


def _on_cpu(method: Method, request: Request, chosen: Mapping[str, float]) -> Tensor:
    return method(request, **chosen).cpu()


def _seconds(work: Callable[[], object]) -> float:
    """Of the processor: where others work beside, what takes long waits for them, and what is short does not."""
    started = time.process_time()
    work()
    return time.process_time() - started
