"""Figures of samples and predictions, made without pyplot: no global state, no window, usable in any thread."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from triptych.results.colours import BLUE, RED


def _panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure, axes


def pages(dirty: np.ndarray, cleaned: np.ndarray, target: np.ndarray) -> Figure:
    """Plot one row per page, with the RMSE before and after cleaning; all (count, height, width) in [0, 1]."""
    figure, axes = _panels(len(dirty), 3, 3.6, 3.6 * dirty.shape[1] / dirty.shape[2] + 0.25)
    for row, images in zip(axes, zip(dirty, cleaned, target, strict=True), strict=True):
        for axis, image, title in zip(row, images, ("dirty", "cleaned", "target"), strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1)
            error = np.sqrt(np.mean((image - images[2]) ** 2))
            axis.set_title(title if title == "target" else f"{title}, RMSE {error:.3f}", fontsize=9)
    return figure


def xrays(images: np.ndarray, probabilities: np.ndarray, labels: np.ndarray, columns: int = 6) -> Figure:
    """Plot X-rays (count, side, side) in [0, 1] with P(pneumonia) and true label; red if they disagree at 0.5."""
    figure, axes = _panels(-(-len(images) // columns), columns, 1.7, 1.95)
    for axis, image, probability, label in zip(axes.flat, images, probabilities, labels, strict=False):
        right = (probability > 0.5) == bool(label)
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
        axis.set_title(
            f"P {probability:.2f}, is {'ill' if label else 'well'}", fontsize=8, color=BLUE if right else RED
        )
        axis.spines[:].set(color=BLUE if right else RED, linewidth=2)
    for axis in axes.flat[len(images) :]:
        axis.set_visible(False)
    return figure


def prices(true: np.ndarray, predicted: np.ndarray) -> Figure:
    """Plot predicted against true prices (count,), given in dollars, with the identity line."""
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    axis = figure.subplots()
    thousand = 1000
    # A diverged model predicts NaN or infinity, which must not make the plot fail and end the run.
    limit = float(np.max(true, initial=1.0, where=np.isfinite(true)))
    limit = float(np.max(predicted, initial=limit, where=np.isfinite(predicted))) / thousand * 1.03
    axis.plot([0, limit], [0, limit], color=RED, linewidth=1)
    axis.scatter(true / thousand, predicted / thousand, s=6, alpha=0.35, color=BLUE, linewidths=0)
    error = np.sqrt(np.mean((true - predicted) ** 2)) / thousand
    axis.set(
        xlim=(0, limit),
        ylim=(0, limit),
        aspect="equal",
        xlabel="true price, thousand dollars",
        ylabel="predicted price, thousand dollars",
        title=f"validation, RMSE {error:.1f} thousand dollars",
    )
    return figure
