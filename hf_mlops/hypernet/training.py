"""Training of a hypernetwork on a population: weight-space and behavioural loss, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import cos, pi
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import kl_div
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hf_mlops.base import artifact
from hf_mlops.compute.device import choose_device, fast_products
from hf_mlops.compute.progress import Progress
from hf_mlops.compute.tensors import read_tensors, write_tensors
from hf_mlops.data.dataset import Dataset
from hf_mlops.hypernet.diffusion import add_noise
from hf_mlops.hypernet.model import UNTOLD, HypernetConfig, Hypernetwork
from hf_mlops.population.population import Population

CHECKPOINT_SECONDS = 20.0
LOG_EVERY = 50
NEVER = -1e4  # a logit of no probability, finite so that 0 times its logarithm is 0


class Trainer:
    """The state of training, one optimiser step at a time.

    Args:
        config: shape and training of the hypernetwork.
        population: only its training rows are used.
        dataset: its training images carry the behavioural loss.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ValueError: a population of other data, or an unknown device.
    """

    def __init__(self, config: HypernetConfig, population: Population, dataset: Dataset, device: str = "auto"):
        dataset.require(population.made_from)
        self.config, self.device = config, choose_device(device)
        groups = len(dataset.groups)
        share = torch.bincount(dataset.validation.groups, minlength=groups) / len(dataset.validation)
        self.hypernetwork = Hypernetwork.from_population(config, population, share).place(self.device)
        rows = ~population.reference
        self.weights = population.weights[rows].to(self.device)
        self.tokens = self.hypernetwork.space.encode(self.weights).float()
        self.forgotten, self.order = population.forgotten[rows], population.order[rows]
        self.signal = self._signal(population.losses[rows], self.forgotten, self.order)
        self.ends = population.final[rows].nonzero()[:, 0]
        self.groups = dataset.groups
        self.target = population.target.to(self.device)
        self.images = dataset.train.images.to(self.device)
        self.model = self.hypernetwork.denoiser.train()
        self.model.guess.fit(self.signal, self.tokens)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, self._learning_rate)
        self.generator = torch.Generator().manual_seed(config.seed)  # on the CPU, so that it is the same for every device
        self.step = 0

    def _learning_rate(self, step: int) -> float:
        """Share of the full learning rate: a warm-up, then a cosine."""
        warm_up = self.config.train_steps / 20
        return min((step + 1) / warm_up, 0.5 + 0.5 * cos(pi * min(1.0, step / self.config.train_steps)))

    @fast_products()
    def train_step(self) -> dict[str, Tensor]:
        """One optimiser step; returns its losses and gradient norm as tensors on the device."""
        weight_loss, behaviour_loss = self.losses()
        self.optimiser.zero_grad()
        (weight_loss + self.config.behaviour * behaviour_loss).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimiser.step()
        self.schedule.step()
        self.average.update_parameters(self.model)
        self.step += 1
        return {"weight_loss": weight_loss.detach(), "behaviour_loss": behaviour_loss.detach(), "gradient_norm": norm}

    def times(self) -> Tensor:
        """Noise levels of a batch: (B,) in 0 to 1."""
        return torch.rand(self.config.batch_size, generator=self.generator)

    def left_out(self, forgotten: Tensor) -> Tensor:
        """Which classes to leave out of targets that forgot these, (N, G) bool: none where groups are not classes."""
        return further_groups(forgotten, self.generator) if self.groups.are_classes else torch.zeros_like(forgotten)

    def losses(self) -> tuple[Tensor, Tensor]:
        """Weight-space and behavioural loss on a random batch: rows of the population, and composed ones.

        Half of the rows of the population are at the end of their run, since that is what samples are asked to be by default.
        A composed row stands for a set of classes that perhaps no run forgot: a target at the end of its run that forgot a
        part of it is to be what it is with the other classes left out. There are no true tokens of such a row. Under the noise
        are, for half of them, those of the target, moved as the linear guess moves; for the other half the target's as they
        are and no data order, as where a sample is to stay near start weights.
        """
        size, generator = self.config.batch_size, self.generator
        composed = round(self.config.composed * size)
        some, start, others = slice(composed), slice(composed // 2), slice(composed // 2, composed)
        ended = slice((size + composed) // 2)
        rows = torch.randint(len(self.tokens), (size,), generator=generator)
        rows[ended] = self.ends[torch.randint(len(self.ends), (ended.stop,), generator=generator)]
        images = self.images[torch.randint(len(self.images), (self.config.images,), generator=generator).to(self.device)]
        time = self.times().to(self.device)
        noise = torch.randn(size, *self.tokens.shape[1:], generator=generator).to(self.device)

        forgotten, order = self.forgotten[rows], self.order[rows]
        order[start] = UNTOLD
        left_out = torch.zeros_like(forgotten)
        left_out[some] = self.left_out(forgotten[some])
        there = rows.to(self.device)
        clean, signal = self.tokens[there], self.signal[there]  # (B, T, W), (B, signal width)
        signal[some] = self._usual_signal(forgotten[some] | left_out[some], order[some])
        moved = clean.clone()
        before = self._usual_signal(forgotten[others], order[others])
        moved[others] += self.model.guess(signal[others]) - self.model.guess(before)
        predicted = self.model(add_noise(moved, noise, time), time, signal)
        left_out = left_out.to(self.device)
        weight_loss = (~left_out.any(1)[:, None, None] * (predicted - clean).square()).mean()
        return weight_loss, self._behaviour_loss(predicted, self.weights[there], left_out, images)

    def _signal(self, losses: Tensor, forgotten: Tensor, order: Tensor) -> Tensor:
        return self.hypernetwork.condition(*(tensor.to(self.device) for tensor in (losses, forgotten, order)))

    def _usual_signal(self, forgotten: Tensor, order: Tensor) -> Tensor:
        return self._signal(self.hypernetwork.prompts.usual_losses(forgotten), forgotten, order)

    def _behaviour_loss(self, predicted: Tensor, weights: Tensor, left_out: Tensor, images: Tensor) -> Tensor:
        """How far the decoded classifiers' predictions are from those of the true targets, with classes (B, classes) left out.

        The KL divergence, nats an image. It hardly sees classes that both give next to no probability, such as the
        forgotten ones, whose loss is what a prompt asks for: the squared error of all log probabilities adds those.
        """
        if self.config.behaviour == 0:
            return torch.zeros((), device=self.device)
        never = left_out[:, None]  # (B, 1, classes)
        with torch.no_grad():
            true = self.target.logits(weights, images).masked_fill(never, NEVER).log_softmax(-1)  # (B, images, classes)
        given = self.target.logits(self.hypernetwork.space.decode(predicted), images).log_softmax(-1)
        divergence = kl_div(given.flatten(0, 1), true.flatten(0, 1), log_target=True, reduction="batchmean")
        return divergence + self.config.log_error * (given - true).masked_fill(never, 0).square().mean()

    def result(self) -> Hypernetwork:
        """The hypernetwork with the averaged weights."""
        self.model.load_state_dict(self.average.module.state_dict())
        self.model.eval()
        self.target.to(torch.device("cpu"))
        return self.hypernetwork

    def save(self, directory: Path) -> None:
        """Writes all that `restore` needs: training.safetensors and training.json.

        Raises:
            OSError: it could not be written; what was there before stays.
        """
        moments = {
            f"optimiser.{number}.{name}": tensor
            for number, state in self.optimiser.state_dict()["state"].items()
            for name, tensor in state.items()
        }
        tensors = {
            **{f"model.{name}": tensor for name, tensor in self.model.state_dict().items()},
            **{f"average.{name}": tensor for name, tensor in self.average.state_dict().items()},
            **moments,
            "generator": self.generator.get_state(),
        }
        with artifact.whole_directory(Path(directory)) as folder:
            write_tensors(folder, "training", tensors, {**self.hypernetwork.about, "step": self.step})

    def restore(self, directory: Path) -> None:
        """Goes on from what `save` wrote.

        Raises:
            ValueError: a damaged checkpoint, or one of another configuration, architecture or data.
        """
        tensors, about = read_tensors(Path(directory), "training")
        step = about.pop("step")
        mine = artifact.as_json(self.hypernetwork.about)
        for name, value in mine.items():
            if about.get(name) != value:
                raise ValueError(f"the checkpoint in {directory} has {name} = {about.get(name)}; allowed here: {value}")

        def part(prefix: str) -> dict[str, Tensor]:
            return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}

        self.model.load_state_dict(part("model."))
        self.average.load_state_dict(part("average."))
        state = self.optimiser.state_dict()
        for key, tensor in part("optimiser.").items():
            number, name = key.split(".")
            state["state"].setdefault(int(number), {})[name] = tensor
        self.optimiser.load_state_dict(state)
        self.generator.set_state(tensors["generator"])
        self.schedule.last_epoch = self.step = step
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * self._learning_rate(step)


def train_hypernetwork(
    config: HypernetConfig,
    population: Population,
    dataset: Dataset,
    device: str = "auto",
    log: Callable[[int, dict[str, float]], object] = lambda step, figures: None,
    checkpoint: Path | None = None,
    on_checkpoint: Callable[[int], object] = lambda step: None,
) -> Hypernetwork:
    """Trains a hypernetwork; the same config, population and data give the same result on one device.

    Args:
        log: called every `LOG_EVERY` steps with the step, its losses, learning rate, gradient norm and samples a second.
        checkpoint: directory that training is resumed from, if it holds a checkpoint, and saved to every
            `CHECKPOINT_SECONDS` and on Ctrl-C; `on_checkpoint` is called with the step after each save.
        population, dataset, device: as for `Trainer`.

    Raises:
        ValueError: as `Trainer` and `Trainer.restore`.
    """
    trainer = Trainer(config, population, dataset, device)
    if checkpoint is not None and (checkpoint / "training.json").exists():
        trainer.restore(checkpoint)

    def keep() -> None:
        if checkpoint is not None:
            trainer.save(checkpoint)
            on_checkpoint(trainer.step)

    saved = logged = time.monotonic()
    logged_step = trainer.step
    with Progress("hypernetwork", config.train_steps, done=trainer.step) as progress:
        try:
            while trainer.step < config.train_steps:
                figures = trainer.train_step()
                now, note = time.monotonic(), ""
                if trainer.step % LOG_EVERY == 0 or trainer.step == config.train_steps:
                    values = {name: tensor.item() for name, tensor in figures.items()}
                    values["learning_rate"] = float(trainer.schedule.get_last_lr()[0])
                    values["samples_per_second"] = config.batch_size * (trainer.step - logged_step) / (now - logged)
                    log(trainer.step, values)
                    logged, logged_step = now, trainer.step
                    note = f"weight loss {values['weight_loss']:.3f}, behaviour loss {values['behaviour_loss']:.4f}"
                progress.advance(note=note)
                if now - saved > CHECKPOINT_SECONDS:
                    keep()
                    saved = now
        except KeyboardInterrupt:
            keep()
            raise
    return trainer.result()


def further_groups(forgotten: Tensor, generator: torch.Generator) -> Tensor:
    """Draws groups to leave out as well: one with chance 3/4, two with 3/16, and so on; but one at least is retained.

    Args:
        forgotten: (N, G) bool; the groups in D_f.

    Returns:
        (N, G) bool, false for all of those.
    """
    wanted = torch.empty(len(forgotten), 1).geometric_(0.75, generator=generator)
    shuffled = (torch.rand(forgotten.shape, generator=generator) + forgotten).argsort(1).argsort(1)  # those retained first
    return shuffled < wanted.minimum((~forgotten).sum(1, keepdim=True) - 1)
