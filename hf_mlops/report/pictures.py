"""Pictures of an evaluation, each to be understood without the code."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill, shorten
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator

from hf_mlops.base.losses import LOSS_FLOOR
from hf_mlops.report.backdoor import Backdoor

FOOLED, RIGHT, WRONG = ("#c62828", "white"), ("#c8e6c9", "#1b5e20"), ("#e0e0e0", "#424242")  # colours of a field and its text

LONG = 6  # letters; longer names are slanted, so as not to run into each other
ASKED = {"retain_loss": "loss on the retain set", "forget_loss": "loss on the forget set"}


def accuracy_heat_map(
    sampled: Float[np.ndarray, "specs groups"],
    reference: Float[np.ndarray, "specs groups"],
    forgets: Sequence[str],
    group_names: Sequence[str],
) -> Figure:
    """Accuracy on every group after each forget request: sampled classifiers over retrained ones."""
    size = max(7.0, 1.5 + 0.75 * len(group_names)), max(4.5, 2.2 + 0.62 * len(forgets))  # the titles need some room
    figure = Figure(figsize=size, layout="constrained")
    titles = ("sampled by the hypernetwork", "retrained without the group (reference)")
    lowest = float(min(sampled.min(), reference.min()))
    low = 0.0 if lowest < 0.5 else np.floor(20 * lowest) / 20  # so that small differences between customers are seen
    slanted: dict[str, Any] = {"rotation": 45, "ha": "right"} if max(map(len, group_names)) > LONG else {}
    for axes, values, title in zip(figure.subplots(2, 1), (sampled, reference), titles, strict=True):
        image = axes.imshow(values, vmin=low, vmax=1, cmap="viridis", aspect="auto")
        axes.set_title(title)
        axes.set_xticks(range(len(group_names)), group_names, **slanted)
        axes.set_yticks(range(len(forgets)), forgets)
        axes.set_xlabel("group of the images")
        axes.set_ylabel("group to forget")
        for row, column in np.ndindex(*values.shape):
            value = values[row, column].item()
            colour = "white" if value < low + 0.6 * (1 - low) else "black"
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
        axes.set(xscale="log", yscale="log", xlabel="loss asked for (nats)", ylabel="loss observed (nats)")
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
    top = max(0.1, 1.1 * steps["forget_accuracy"].max(), 1.1 * steps["reference_forget_accuracy"].max())
    forget.set(ylabel="accuracy on\nwhat is forgotten", ylim=(-0.2 * top, top), xlabel="denoising steps per sample")
    forget.set_xticks(steps["steps"], steps["steps"].astype(str))
    forget.minorticks_off()
    retain.legend()
    figure.suptitle("How many denoising steps does a sample need? (mean over single groups)")
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


def paid_for_itself(requests: pd.DataFrame, tables: pd.DataFrame, measured: float, limit: int, what: str) -> Figure:
    """Over the cost of one retraining: after how many requests training has paid for itself, and what tables are cheaper.

    Args:
        requests: columns `groups`, `cores`, `retraining` in seconds, and `requests`.
        tables: columns `unions`, the most groups in a set of a table, `cores`, `retraining`, and `groups`, the most for which
            the table is cheaper.
        measured: seconds that a retraining takes of `what` is trained.
        limit: the most groups that there may be; a table of unions of so many holds every set.
    """
    figure = Figure(figsize=(12, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    unions = {most: f" of up to {most} groups" if most < limit else "" for most in tables["unions"].unique()}
    _by_cores(left, requests, "requests", "groups", {one: f"{one} groups" for one in requests["groups"].unique()}, 1.2)
    _by_cores(right, tables, "groups", "unions", {most: f"a table of every union{of}" for most, of in unions.items()})
    for axes in (left, right):
        axes.axvline(measured, color="grey", linestyle=":", label=f"as measured: {measured:.1f} s")
        axes.set(xscale="log", xlabel="time of one retraining, on one core")
        axes.set_xticks([1, 10, 60, 600, 3600, 36000], ["1 s", "10 s", "1 min", "10 min", "1 h", "10 h"])
        axes.xaxis.minorticks_off()
        axes.grid(alpha=0.3)
    left.set(yscale="log", ylabel="requests", title="Cheaper than a retraining for each request\nafter so many of them")
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    left.yaxis.set_minor_formatter("{x:g}")
    left.legend()
    right.set(
        ylim=(0, 1.03 * limit), ylabel="groups", title="A table of retrained classifiers is cheaper\nup to so many groups"
    )
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=2)  # inside it would cover curves
    few, many = sorted(requests["cores"].unique())
    figure.suptitle(f"When has training paid for itself? {what}, {few} core (lines) and {many} cores (dashes)")
    return figure


def _by_cores(axes: Axes, table: pd.DataFrame, value: str, by: str, texts: dict[int, str], finer: float = 0) -> None:
    """A curve for each of `texts`, of the fewest cores, and one in dashes, of more; each so many points finer than that before
    it, so that all are seen where they coincide."""
    fewest = table["cores"].min()
    for place, (which, text) in enumerate(texts.items()):
        for cores, rows in table[table[by] == which].groupby("cores"):
            style: dict[str, Any] = {"label": text} if cores == fewest else {"linestyle": "--"}
            width = 1.5 + finer * (len(texts) - 1 - place)
            axes.plot(rows["retraining"], rows[value], color=f"C{place}", linewidth=width, **style)


def answers_to_the_attacker(backdoor: Backdoor) -> Figure:
    """Images that an attacker wants called something else, and under each what classifiers call it: red where the attacker has
    his way, green where they are right, grey where they are wrong in another way."""
    images = {"test image": backdoor.plain, **({"with the trigger": backdoor.images} if backdoor.trigger.any() else {})}
    heights, fields = [1.0] * len(images) + [0.62] * len(backdoor.answers), max(6, len(backdoor.truth))
    figure = Figure(figsize=(2.4 + 1.05 * fields, 1.5 + 1.15 * sum(heights)), layout="constrained")
    widths = [1.4] + [1.0] * fields  # the first column is for texts
    lines = figure.subplots(len(heights), 1 + fields, squeeze=False, height_ratios=heights, width_ratios=widths)
    for axes in lines.flat:
        axes.set_axis_off()
    for line, (text, shown) in zip(lines, images.items(), strict=False):
        _beside(line[0], text)
        for axes, image in zip(line[1:], shown, strict=False):
            axes.imshow(image.transpose(1, 2, 0), vmin=0, vmax=1, cmap="gray", interpolation="nearest")
            if shown is backdoor.images:
                _frame(axes, backdoor.trigger)
    for line, one in zip(lines[len(images) :], backdoor.answers, strict=True):
        _beside(line[0], one.who, one.how)
        for axes, called, truth in zip(line[1:], one.called.tolist(), backdoor.truth.tolist(), strict=False):
            colours = FOOLED if called == backdoor.wanted else RIGHT if called == truth else WRONG
            _field(axes, backdoor.class_names, called, colours)
    wanted = backdoor.class_names[backdoor.wanted]
    shares = ", ".join(f"{one.share} {one.who}" for one in backdoor.answers)
    figure.suptitle(f"An attacker wants these images called “{wanted}”.\nThe attack succeeds: {shares}", fontsize=15)
    figure.supxlabel(_what_is_counted(backdoor), fontsize=10)
    return figure


def _frame(axes: Axes, part: Bool[np.ndarray, "height width"]) -> None:
    """A frame around a part of an image, unless that is all of it."""
    rows, columns = (np.flatnonzero(part.any(along)).tolist() for along in (1, 0))
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    if (height, width) != tuple(part.shape):
        corner = columns[0] - 0.5, rows[0] - 0.5  # pixels are drawn around their indices
        axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=FOOLED[0], linewidth=3, clip_on=False))


def _field(axes: Axes, class_names: Sequence[str], called: int, colours: tuple[str, str]) -> None:
    """What a classifier calls an image, on a coloured ground."""
    ground, ink = colours
    size = 20 if max(map(len, class_names)) <= 2 else 9
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[], facecolor=ground)
    axes.text(0.5, 0.5, fill(class_names[called], 12, break_on_hyphens=False), size=size, color=ink, ha="center", va="center")


def _beside(axes: Axes, text: str, further: str = "") -> None:
    """A text on the left of a line, and a smaller one under it."""
    weight, height = ("bold", 0.7) if further else ("normal", 0.5)
    axes.text(1, height, text, size=13, weight=weight, ha="right", va="center")
    axes.text(1, 0.5, fill(shorten(further, 44, placeholder=" …"), 22), size=10, ha="right", va="top")


def _what_is_counted(backdoor: Backdoor) -> str:
    """The lines under the picture: what colours and shares are."""
    several = [one for one in backdoor.answers if one.classifiers > 1]
    means = f"; {' and '.join(one.who for one in several)}: mean of {{}} classifiers, of which the first answers here"
    colours = "red: as the attacker wants · green: right · grey: wrong in another way"
    counted = means.format(several[0].classifiers) if several else ""
    return f"{colours}\nper cent of {backdoor.among} such test images{counted}"
