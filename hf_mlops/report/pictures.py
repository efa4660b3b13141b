"""Pictures of an evaluation, each to be understood without the code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from torch import Tensor

from hf_mlops.compute.losses import LOSS_FLOOR

ASKED = {"retain_loss": "loss on the retain set", "forget_loss": "loss on the forget set"}


def accuracy_heat_map(
    sampled: Float[Tensor, "specs groups"],
    reference: Float[Tensor, "specs groups"],
    forgets: Sequence[str],
    group_names: Sequence[str],
) -> Figure:
    """Accuracy on every group after each forget request: sampled classifiers over retrained ones."""
    size = max(7.0, 1.5 + 0.75 * len(group_names)), max(4.5, 2.2 + 0.62 * len(forgets))  # the titles need some room
    figure = Figure(figsize=size, layout="constrained")
    titles = ("sampled by the hypernetwork", "retrained without the group (reference)")
    for axes, values, title in zip(figure.subplots(2, 1), (sampled, reference), titles, strict=True):
        image = axes.imshow(values.numpy(), vmin=0, vmax=1, cmap="viridis", aspect="auto")
        axes.set_title(title)
        axes.set_xticks(range(len(group_names)), group_names)
        axes.set_yticks(range(len(forgets)), forgets)
        axes.set_xlabel("group of the images")
        axes.set_ylabel("group to forget")
        for row, column in np.ndindex(*values.shape):
            value = values[row, column].item()
            colour = "white" if value < 0.6 else "black"
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=figure.axes, label="accuracy (numbers: per cent)", shrink=0.6)
    figure.suptitle("All numbers should read as in the retrained classifiers: 0 for a forgotten class")
    return figure


def prompted_against_observed(sweep: pd.DataFrame, alignment: pd.DataFrame) -> Figure:
    """Losses asked for against losses of the classifiers sampled, a dot per sample, with the line of a perfect answer.

    Losses under `LOSS_FLOOR`, which count alike, are drawn there: a logarithmic axis has no 0.
    """
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    titles = {"retain": "what is kept (retain set)", "forget": "what is forgotten (forget set)"}
    for axes, (name, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        prompted, observed = (sweep[f"{which}_{name}_loss"].clip(lower=LOSS_FLOOR) for which in ("prompted", "observed"))
        low, high = min(prompted.min(), observed.min()) * 0.9, max(prompted.max(), observed.max()) * 1.1
        axes.plot([low, high], [low, high], color="grey", linewidth=1, label="observed = asked for")
        for asked, where in ASKED.items():
            rows = sweep["asked"] == asked
            axes.scatter(prompted[rows], observed[rows], s=8, alpha=0.4, label=f"a sample, asked for its {where}")
        axes.set(xscale="log", yscale="log", xlabel="loss asked for (nats)", ylabel="loss observed on validation images (nats)")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_locator(LogLocator(subs=(2, 5)))
            axis.set_minor_formatter("{x:g}" if high / low < 10 else "")
        share, slope = alignment["alignment"][name], alignment["slope"][name]
        axes.set_title(f"{title}\nR² {share:.3f}, slope within a spec {slope:.2f}")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)  # inside it would cover dots
    both, ignored = alignment["alignment"]["both"], alignment["alignment, ignored"]["both"]
    question = "Does a sample have the losses it was asked for?"
    figure.suptitle(f"{question} R² over both sets {both:.3f}; if prompts were ignored {ignored:.3f}")
    return figure


def accuracy_over_steps(steps: pd.DataFrame) -> Figure:
    """Accuracy on D_r and D_f against the number of denoising steps, beside the retrained classifiers."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    retain, forget = figure.subplots(2, 1, sharex=True)
    retain.plot(steps["steps"], steps["retain_accuracy"], marker="o", label="sampled")
    retain.axhline(steps["reference_retain_accuracy"].iloc[0], color="grey", linestyle="--", label="retrained")
    forget.plot(steps["steps"], steps["forget_accuracy"], marker="o", label="sampled")
    forget.axhline(steps["reference_forget_accuracy"].iloc[0], color="grey", linestyle="--", label="retrained")
    retain.set(ylabel="test accuracy on\nwhat is kept", xscale="log")
    forget.set(ylabel="test accuracy on\nwhat is forgotten", ylim=(-0.02, 0.1), xlabel="denoising steps per sample")
    forget.set_xticks(steps["steps"], steps["steps"].astype(str))
    forget.minorticks_off()
    retain.legend()
    figure.suptitle("How many denoising steps does a sample need? (mean over single classes)")
    return figure


def gaps_by_size(table: pd.DataFrame) -> Figure:
    """Distribution over all proper subsets of the classes: accuracy lost on D_r, and accuracy left on D_f, by size of D_f."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    sizes = sorted(table["classes"].unique())
    texts = {
        "gap": "accuracy on what is kept,\nretrained less sampled (points)",
        "forget_accuracy": "accuracy on what is forgotten",
    }
    for axes, (name, text) in zip(figure.subplots(1, 2), texts.items(), strict=True):
        axes.boxplot([table[name][table["classes"] == size] for size in sizes], whis=(0, 100))
        axes.set_xticks(range(1, len(sizes) + 1), [str(size) for size in sizes])
        axes.axhline(0, color="grey", linewidth=1)
        axes.set(xlabel="number of classes forgotten", ylabel=text)
    figure.suptitle(
        f"All {len(table)} sets of classes to forget: median, quartiles, best and worst (mean of the samples of a set)"
    )
    return figure
