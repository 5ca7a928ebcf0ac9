"""Figures of the errors of predicted prices, as matplotlib figures without pyplot."""

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogFormatter, MultipleLocator

from triptych.callbacks.analysis.intervals import binomial_interval
from triptych.results.colours import BLUE, DARK_GREY, RED

THOUSAND = 1000
REGIONS = {"Bay Area": (-122.7, -121.6, 37.1, 38.15), "Los Angeles": (-118.75, -117.55, 33.55, 34.4)}
"""West, east, south and north edge in degrees, by name."""


def predicted_against_true(true: np.ndarray, predicted: np.ndarray) -> Figure:
    """Density of the rows by true and predicted price (N,), in dollars.

    The highest true price is marked as a cap if several rows share it.
    """
    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    axis = figure.subplots()
    limit = float(max(true.max(), predicted.max())) / THOUSAND * 1.03
    low = min(0, float(predicted.min()) / THOUSAND)
    density = axis.hexbin(
        true / THOUSAND,
        predicted / THOUSAND,
        gridsize=45,
        extent=(0, limit, low, limit),
        mincnt=1,
        norm=LogNorm(),
        cmap="viridis_r",
    )
    bar = figure.colorbar(density, label="rows in a cell", format="%d")
    bar.ax.yaxis.set_minor_formatter(LogFormatter())  # 6 instead of matplotlib's default 6 x 10^0
    axis.plot([0, limit], [0, limit], color="black", linewidth=1, label="predicted = true")
    capped = true == true.max()
    if capped.sum() > 1:
        axis.axvline(
            true.max() / THOUSAND,
            color=RED,
            linewidth=1,
            linestyle="--",
            label=f"cap of the data, {true.max():,.0f} dollars: {capped.sum()} rows",
        )
    axis.legend(loc="upper left", fontsize=8)
    error = np.sqrt(np.mean((true - predicted) ** 2)) / THOUSAND
    axis.set(
        xlim=(0, limit),
        ylim=(low, limit),
        xlabel="true price, thousand dollars",
        ylabel="predicted price, thousand dollars",
        title=f"Predicted against true price: {len(true):,} test rows, RMSE {error:.1f} thousand dollars",
    )
    axis.title.set_fontsize(10)
    return figure


def residual_map(place: np.ndarray, residuals: np.ndarray) -> Figure:
    """Map of residuals (N,) in dollars at places (N, 2), in degrees east and north, with the REGIONS enlarged.

    The colour scale saturates at the 98th percentile of absolute residuals.
    """
    figure = Figure(figsize=(10.5, 6.4), layout="constrained")
    parts = figure.subplot_mosaic([["California", name] for name in REGIONS], width_ratios=(5, 4))
    limit = max(float(np.quantile(np.abs(residuals), 0.98)), 1) / THOUSAND
    order = np.argsort(np.abs(residuals))  # the largest on top
    for axis in parts.values():
        points = axis.scatter(
            place[order, 0],
            place[order, 1],
            c=residuals[order] / THOUSAND,
            s=12,
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            linewidths=0.2,
            edgecolors=DARK_GREY,
        )
    figure.colorbar(
        points, ax=list(parts.values()), extend="both", label="predicted minus true price, thousand dollars"
    )
    whole = parts["California"]
    for name, (west, east, south, north) in REGIONS.items():
        parts[name].set(xlim=(west, east), ylim=(south, north))
        parts[name].set_title(name, fontsize=9)
        parts[name].xaxis.set_major_locator(MultipleLocator(0.5))
        parts[name].yaxis.set_major_locator(MultipleLocator(0.25))
        whole.add_patch(Rectangle((west, south), east - west, north - south, fill=False, edgecolor="black"))
        whole.annotate(name, (west, south), (-6, 0), textcoords="offset points", ha="right", va="bottom", fontsize=8)
    for axis in parts.values():
        # A degree east is shorter than one north; clipped, so that invalid latitudes do not end the run.
        axis.set_aspect(1 / np.cos(np.radians(np.clip(np.mean(axis.get_ylim()), -80, 80))))
    whole.set(xlabel="longitude, degrees east", ylabel="latitude, degrees north")
    figure.suptitle(f"Where {len(residuals):,} test rows are priced too high (red) or too low (blue)", fontsize=10)
    return figure


def importances(found: Mapping[str, np.ndarray]) -> Figure:
    """Bar chart of the RMSE increases (repeats,), in dollars, by the group shuffled: mean and standard deviation."""
    names = sorted(found, key=lambda name: found[name].mean())
    values = np.stack([found[name] for name in names]) / THOUSAND
    figure = Figure(figsize=(8, 1.4 + 0.32 * len(names)), layout="constrained")
    axis = figure.subplots()
    axis.barh(
        names, values.mean(axis=1), xerr=values.std(axis=1), color=BLUE, error_kw={"ecolor": DARK_GREY, "capsize": 3}
    )
    axis.axvline(0, color=DARK_GREY, linewidth=0.8)
    axis.set(
        xlabel="increase of the test RMSE, thousand dollars: mean and standard deviation",
        title=f"Permutation importances: each shuffled {values.shape[1]} times among the test rows",
    )
    axis.title.set_fontsize(10)
    return figure


def intervals(true: np.ndarray, predicted: np.ndarray, width: float, coverage: float) -> Figure:
    """Intervals prediction +- ``width`` over sorted predictions, and the share of prices that they contain by decile.

    Args:
        true: prices (N,) in dollars.
        predicted: prices (N,) in dollars.
        width: half the width of an interval, in dollars.
        coverage: the nominal share of prices in their interval.
    """
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    order = np.argsort(predicted, kind="stable")
    held = np.abs(true - predicted) <= width
    middle, ranks = predicted[order] / THOUSAND, np.arange(len(order))
    left.fill_between(
        ranks,
        middle - width / THOUSAND,
        middle + width / THOUSAND,
        color=BLUE,
        alpha=0.2,
        linewidth=0,
        label="interval",
    )
    left.plot(ranks, middle, color="black", linewidth=1, label="prediction")
    for inside, colour, label in ((True, BLUE, "price in its interval"), (False, RED, "price outside")):
        chosen = held[order] == inside
        left.scatter(ranks[chosen], true[order][chosen] / THOUSAND, s=5, color=colour, linewidths=0, label=label)
    left.legend(loc="upper left", fontsize=8)
    left.set(
        xlim=(0, len(order)),
        xlabel="test rows, by predicted price",
        ylabel="price, thousand dollars",
        title=(
            f"{100 * coverage:.4g} % intervals, {2 * width / THOUSAND:,.0f} thousand dollars wide, "
            f"hold {100 * held.mean():.1f} % of {len(true):,} test prices"
        ),
    )
    deciles = np.array_split(held[order], min(10, len(order)))
    hits, counts = np.array([part.sum() for part in deciles]), np.array([len(part) for part in deciles])
    low, high = binomial_interval(hits, counts)
    share = hits / counts
    places = np.arange(1, len(deciles) + 1)
    right.errorbar(
        places,
        share,
        yerr=np.clip([share - low, high - share], 0, None),
        fmt="o",
        color=BLUE,
        ecolor=DARK_GREY,
        capsize=3,
    )
    right.axhline(coverage, color=RED, linewidth=1, label=f"asked for: {100 * coverage:.4g} %")
    right.legend(loc="lower left", fontsize=8)
    right.set(
        xticks=places,
        xlabel="decile of the predicted price, 1 is the cheapest",
        ylabel="share of prices in their interval",
        title="Coverage by predicted price, with 95 % intervals",
    )
    for axis in (left, right):
        axis.title.set_fontsize(10)
    return figure
