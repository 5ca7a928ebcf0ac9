"""Figures of the errors of an X-ray classifier, as matplotlib figures without pyplot."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix
from torchmetrics.functional.classification import binary_calibration_error

from triptych.callbacks.analysis.curves import GRID, Band
from triptych.callbacks.analysis.intervals import binomial_interval
from triptych.results.colours import BLUE, DARK_GREY, RED

BINS = 15
"""Number of bins of the reliability diagram, the same as of the metric ``ece``."""


def confusion(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str], threshold: float) -> Figure:
    """Confusion matrix of true and predicted labels (N,), 0 or 1, with counts and shares of the true class."""
    counts = confusion_matrix(labels, predicted, labels=[0, 1])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(4.8, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.tick_params(axis="y", rotation=90)
    for label in axis.get_yticklabels():
        label.set_verticalalignment("center")
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        axis.text(
            column,
            row,
            f"{count}\n{100 * share:.1f} %",
            ha="center",
            va="center",
            fontsize=12,
            color="white" if share > 0.5 else "black",
        )
    axis.set(xticks=[0, 1], yticks=[0, 1], xticklabels=names, yticklabels=names, xlabel="predicted", ylabel="true")
    axis.set_title(f"{len(labels)} test X-rays, threshold {threshold:.3f};\nshares are of the true class", fontsize=10)
    return figure


def curves(
    roc: Band, recall: Band, point: tuple[float, float, float], prevalence: float, positive: str, unit: str
) -> Figure:
    """ROC and precision-recall curve with their bands and the operating point.

    Args:
        roc: the ROC curve, see ``bands``.
        recall: the precision-recall curve, likewise.
        point: false positive rate, recall and precision at the threshold.
        prevalence: the share of positive X-rays.
        positive: name of the positive class.
        unit: what the bootstrap resampled, such as patients.
    """
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    drawn = [(left, roc, point[:2]), (right, recall, point[1:])]
    # The curve of a good network stays in the corner, which is shown enlarged. A weak network's curve lies below it.
    if np.interp(0.2, roc.x, roc.y) > 0.8:
        corner = left.inset_axes((0.38, 0.3, 0.58, 0.5), xlim=(0, 0.2), ylim=(0.8, 1))
        corner.set(xticks=(0, 0.1, 0.2), yticks=(0.8, 0.9, 1))
        corner.tick_params(labelsize=7)
        left.indicate_inset_zoom(corner, edgecolor=DARK_GREY)
        drawn.append((corner, roc, point[:2]))
    for axis, band, place in drawn:
        axis.fill_between(
            GRID, band.low, band.high, color=BLUE, alpha=0.25, linewidth=0, label=f"95 % band, {unit} resampled"
        )
        axis.plot(band.x, band.y, color=BLUE, drawstyle="default" if band is roc else "steps-pre")
        axis.plot(*place, marker="o", linestyle="none", color=RED, label="threshold of the run")
    left.plot([0, 1], [0, 1], color=DARK_GREY, linewidth=1, linestyle="--", label="guessing")
    right.axhline(prevalence, color=DARK_GREY, linewidth=1, linestyle="--", label="guessing")
    left.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    left.set(xlabel="false positive rate: 1 - specificity", ylabel="true positive rate: sensitivity")
    # Low enough to show the whole band and the baseline of guessing.
    floor = max(0.0, min(prevalence, float(recall.low.min())) - 0.05)
    right.set(xlim=(-0.01, 1.01), ylim=(floor, 1 + 0.01 * (1 - floor)))
    right.set(xlabel="recall: sensitivity", ylabel=f"precision: share of {positive} among those called so")
    for axis, name, band in (
        (left, "ROC curve: area", roc),
        (right, "Precision and recall: average precision", recall),
    ):
        axis.set_title(f"{name} {band.area:.3f} ({band.area_low:.3f} to {band.area_high:.3f})", fontsize=10)
        axis.legend(fontsize=8, loc="lower left" if band is recall else "lower right")
    return figure


def calibration(labels: np.ndarray, probabilities: np.ndarray, positive: str) -> Figure:
    """Reliability diagram: share of positives (with its 95 % interval) by probability, above a histogram of counts."""
    error = float(
        binary_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(labels), n_bins=BINS, norm="l1")
    )
    edges = np.linspace(0, 1, BINS + 1)
    bins = np.clip(np.digitize(probabilities, edges) - 1, 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    there = counts > 0
    hits = np.bincount(bins, weights=labels, minlength=BINS)[there]
    mean = np.bincount(bins, weights=probabilities, minlength=BINS)[there] / counts[there]
    share = hits / counts[there]
    low, high = binomial_interval(hits, counts[there])

    figure = Figure(figsize=(5.4, 6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.plot([0, 1], [0, 1], color=DARK_GREY, linewidth=1, linestyle="--", label="as often right as they say")
    spread = np.clip([share - low, high - share], 0, None)
    top.errorbar(
        mean, share, yerr=spread, fmt="o", color=BLUE, ecolor=DARK_GREY, capsize=3, label="X-rays, 95 % interval"
    )
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)  # inside, it would cover points
    top.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel=f"share that is {positive}")
    top.set_title(f"Calibration on {len(labels)} test X-rays: ECE {error:.3f}, {BINS} bins", fontsize=10)
    bottom.bar(edges[:-1], counts, width=1 / BINS, align="edge", color=BLUE, edgecolor="white")
    for left, count in zip(edges[:-1][there], counts[there], strict=True):
        bottom.text(left + 0.5 / BINS, count, str(count), ha="center", va="bottom", fontsize=7)
    bottom.set(yscale="log", ylim=(0.8, counts.max() * 3), xlabel=f"P({positive})", ylabel="X-rays")
    return figure


def errors(
    images: np.ndarray,
    files: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    wrong: int,
    threshold: float,
    columns: int = 5,
) -> Figure:
    """Misclassified X-rays, the most confident errors first, each with the name of its file.

    Args:
        images: (count, height, width) in [0, 1].
        files: their file names (count,).
        labels: the true labels (count,), 0 or 1.
        probabilities: of the positive class (count,).
        names: names of the two classes.
        wrong: total number of misclassified X-rays.
        threshold: the probability above which an X-ray is called positive.
        columns: number of X-rays in a row of the figure.
    """
    if not len(images):
        figure = Figure(figsize=(5, 1.2), layout="constrained")
        figure.suptitle("No test X-ray was called wrong", fontsize=10)
        return figure
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.65 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, image, file, label, probability in zip(axes, images, files, labels, probabilities, strict=False):
        _show(axis, image)
        title = f"{shortened(file)}\nis {names[label]}, P({names[1]}) {probability:.3f}"
        axis.set_title(title, fontsize=7, parse_math=False)  # dollar signs in a file name do not mark a formula
    for axis in axes[len(images) :]:
        axis.set_visible(False)
    which = "All" if wrong == len(images) else f"The {len(images)} most confident of"
    figure.suptitle(
        f"{which} {wrong} test X-rays that were called wrong, at a threshold of {threshold:.3f}", fontsize=10
    )
    return figure


def grad_cam(
    images: np.ndarray,
    maps: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    predicted: np.ndarray,
    names: Sequence[str],
) -> Figure:
    """X-rays (count, height, width) above their Grad-CAM maps, of the same shape: what speaks for either class."""
    figure = Figure(figsize=(1.75 * max(len(images), 4) + 1.2, 4.4), layout="constrained")
    axes = figure.subplots(2, len(images), squeeze=False)
    overlay: Any = None
    for (top, bottom), image, heat, label, probability, answer in zip(
        axes.T, images, maps, labels, probabilities, predicted, strict=True
    ):
        _show(top, image)
        _show(bottom, image)
        # Each map is scaled by its own maximum; the probability tells the total. The opacity follows the strength, so
        # that the X-ray stays visible elsewhere.
        strength = heat / max(float(np.abs(heat).max()), 1e-9)
        overlay = bottom.imshow(strength, cmap="RdBu_r", vmin=-1, vmax=1, alpha=0.6 * np.abs(strength))
        title = f"is {names[label]}\ncalled {names[answer]}\nP({names[1]}) {probability:.3f}"
        top.set_title(title, fontsize=8, color=BLUE if label == answer else RED)
    bar = figure.colorbar(overlay, ax=axes, ticks=[-1, 0, 1], aspect=30)
    bar.ax.set_yticklabels([f"for {names[0]}", "neither", f"for {names[1]}"], fontsize=8)
    figure.suptitle("Grad-CAM: what speaks for either class, in the most confident X-rays of each outcome", fontsize=10)
    return figure


def shortened(file: str, length: int = 30) -> str:
    """A file's name without its folders; the middle of a long name is replaced by an ellipsis."""
    name = file.rpartition("/")[2]
    half = (length - 3) // 2
    return name if len(name) <= length else f"{name[:half]}...{name[-half:]}"


def _show(axis: Axes, image: np.ndarray) -> None:
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
