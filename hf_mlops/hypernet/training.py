"""Training of a hypernetwork on a population: weight-space and behavioural loss, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import cos, pi
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import kl_div
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hf_mlops.base import artifact
from hf_mlops.base.errors import DamagedArtifact
from hf_mlops.base.progress import Progress
from hf_mlops.compute.device import choose_device, fast_products
from hf_mlops.compute.replay import Replayed
from hf_mlops.compute.tensors import read_tensors, write_tensors
from hf_mlops.data.dataset import Dataset
from hf_mlops.hypernet.batch import Batch, BatchDrawer
from hf_mlops.hypernet.model import HypernetConfig, Hypernetwork
from hf_mlops.population.population import Population

CHECKPOINT_SECONDS = 20.0
LOG_EVERY = 50
NEVER = -1e4  # a logit of no probability, finite so that 0 times its logarithm is 0


def weight_loss(
    predicted: Float[Tensor, "rows tokens token_width"],
    tokens: Float[Tensor, "rows tokens token_width"],
    left_out: Bool[Tensor, "rows classes"],
) -> Float[Tensor, ""]:
    """Mean squared error of the tokens; a row with a class left out has no true ones and counts as right."""
    return (~left_out.any(1)[:, None, None] * (predicted - tokens).square()).mean()


def behaviour_loss(
    given: Float[Tensor, "rows images classes"],
    true: Float[Tensor, "rows images classes"],
    left_out: Bool[Tensor, "rows classes"],
    labels: Int[Tensor, " images"],
    log_error: float,
) -> Float[Tensor, ""]:
    """KL(true ‖ given) + log_error * (log given - log true)²: how far predictions are from the targets' with classes left out.

    The divergence, in nats an image, hardly sees classes that both give next to no probability, such as the forgotten ones,
    whose loss is what a prompt asks for: the squared error, a mean over images and classes, adds those. What a target answers
    to images of a class left out it has learned from that class: there a row counts as right.

    Args:
        given, true: logits.
        left_out: classes that the true predictions are to be without; their squared error counts as 0.
        labels: of the images.
        log_error: `HypernetConfig.log_error`.
    """
    never = left_out[:, None]  # (rows, 1, classes)
    true = true.masked_fill(never, NEVER).log_softmax(-1)
    given = given.log_softmax(-1)
    judged = ~left_out[:, labels]  # (rows, images)
    divergence = kl_div(given, true, log_target=True, reduction="none").sum(-1)
    squared = (given - true).masked_fill(never, 0).square().mean(-1)
    return ((divergence + log_error * squared) * judged).mean()


def depth_loss(
    given: Float[Tensor, "rows images classes"],
    teachers: Float[Tensor, "composed images classes"],
    taught: Bool[Tensor, "composed classes"],
    kept: Bool[Tensor, "composed classes"],
) -> Float[Tensor, ""]:
    """Squared error of the log probability of a class left out, mean over rows, images and classes.

    A target does not say how little probability a class is to have that is left out of its answers. One that forgot that class
    does: what it gives it beside all that is to be kept. Rows and classes that are not taught count as right.

    Args:
        given: logits of all rows, the composed ones first.
        teachers: logits of targets that forgot the class that is taught.
        taught: that class, of each composed row; none where there is no such target.
        kept: classes that some training images are left of, and that are not left out.
    """
    odds = teachers - teachers.masked_fill(~kept[:, None], NEVER).logsumexp(-1, keepdim=True)
    error = given[: len(teachers)].log_softmax(-1) - odds
    return error.masked_fill(~taught[:, None], 0).square().sum() / given.numel()


class Trainer:
    """The state of training, one optimiser step at a time.

    Args:
        config: shape and training of the hypernetwork.
        population: only its training rows are used.
        dataset: its training images carry the behavioural loss.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        BadRequest: a population of other data, or an unknown device.
    """

    drawer_class: type[BatchDrawer] = BatchDrawer  # a variation of the training may draw otherwise: benchmarks/ablation.py

    def __init__(self, config: HypernetConfig, population: Population, dataset: Dataset, device: str = "auto"):
        dataset.require(population.made_from)
        self.config, self.device = config, choose_device(device)
        measured = dataset.conditioning.groups
        share = torch.bincount(measured, minlength=len(dataset.groups)) / len(measured)
        self.hypernetwork = Hypernetwork.from_population(config, population, share).place(self.device)
        self.drawer = self.drawer_class(self.hypernetwork, population, dataset)
        self.target = population.target.to(self.device)
        self.model = self.hypernetwork.denoiser.train()
        self.model.guess.fit(self.drawer.signal, self.drawer.tokens, self.drawer.likeness())
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
        self.parameters = list(self.model.parameters())
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, self._learning_rate)
        self.replayed = Replayed(self._losses_and_gradients)
        self.step = 0

    def _learning_rate(self, step: int) -> float:
        """Share of the full learning rate: a warm-up, then a cosine."""
        warm_up = self.config.train_steps / 20
        return min((step + 1) / warm_up, 0.5 + 0.5 * cos(pi * min(1.0, step / self.config.train_steps)))

    @fast_products()
    def train_step(self) -> dict[str, Tensor]:
        """One optimiser step; returns its losses and gradient norm as tensors on the device, until the next step."""
        batch = self.drawer.draw(self.step)
        weight, behaviour, *gradients = self.replayed(*vars(batch).values())
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        self.optimiser.step()
        self.schedule.step()
        self.average.update_parameters(self.model)
        self.step += 1
        return {"weight_loss": weight, "behaviour_loss": behaviour, "gradient_norm": norm}

    def _losses_and_gradients(self, *batch: Tensor) -> tuple[Tensor, ...]:
        weight, behaviour = self.losses(Batch(*batch))
        gradients = torch.autograd.grad(weight + self.config.behaviour * behaviour, self.parameters)
        return weight.detach(), behaviour.detach(), *gradients

    def losses(self, batch: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Weight-space and behavioural loss on a batch."""
        predicted = self.model(batch.noisy, batch.time, batch.signal)
        weight = weight_loss(predicted, batch.tokens, batch.left_out)
        if self.config.behaviour == 0:
            return weight, torch.zeros((), device=self.device)
        with torch.no_grad():
            true = self.target.logits(batch.weights, batch.images)
            taught = self.target.logits(batch.teachers, batch.images)
        given = self.target.logits(self.hypernetwork.space.decode(predicted), batch.images)
        log_error, composed = self.config.log_error, len(batch.teachers)
        depth = depth_loss(given, taught, batch.taught[:composed], batch.kept[:composed])
        return weight, behaviour_loss(given, true, batch.left_out, batch.labels, log_error) + log_error * depth

    def result(self) -> Hypernetwork:
        """The hypernetwork with the averaged weights."""
        self.model.load_state_dict(self.average.module.state_dict())
        self.model.eval()
        self.target.to(torch.device("cpu"))
        return self.hypernetwork

    def save(self, directory: Path) -> None:
        """Writes all that `restore` needs: training.safetensors and training.json.

        Raises:
            OutOfReach: it could not be written; what was there before stays.
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
        }
        with artifact.whole_directory(Path(directory)) as folder:
            write_tensors(folder, "training", tensors, {**self.hypernetwork.about, "step": self.step})

    def restore(self, directory: Path) -> None:
        """Goes on from what `save` wrote.

        Raises:
            DamagedArtifact: a damaged checkpoint, or one of another configuration, architecture or data.
        """
        tensors, about = read_tensors(Path(directory), "training")
        step = about.pop("step")
        mine = artifact.as_json(self.hypernetwork.about)
        for name, value in mine.items():
            if about.get(name) != value:
                raise DamagedArtifact(f"the checkpoint in {directory} has {name} = {about.get(name)}; allowed here: {value}")

        def part(prefix: str) -> dict[str, Tensor]:
            return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}

        self.model.load_state_dict(part("model."))
        self.average.load_state_dict(part("average."))
        state = self.optimiser.state_dict()
        for key, tensor in part("optimiser.").items():
            number, name = key.split(".")
            state["state"].setdefault(int(number), {})[name] = tensor
        self.optimiser.load_state_dict(state)
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
        BadRequest: as `Trainer` and `Trainer.restore`.
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
