"""Pictures of how predicted prices err, as matplotlib figures of their own (no pyplot)."""

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from triptych.callbacks.analysis.intervals import binomial_interval
from triptych.results.plots import RIGHT, WRONG

THOUSAND = 1000
GREY = "#495057"
CITIES = {
    "San Francisco": (-122.42, 37.77, -1),
    "Sacramento": (-121.49, 38.58, 1),
    "Fresno": (-119.79, 36.74, 1),
    "Los Angeles": (-118.24, 34.05, -1),
    "San Diego": (-117.16, 32.72, -1),
}
"""Degrees east and north, so that one finds one's way on a map without a coast; the name goes west (-1) or east (1)."""


def predicted_against_true(true: np.ndarray, predicted: np.ndarray) -> Figure:
    """How many rows have each pair of true and predicted price (N,), in dollars.

    The highest price is marked as a cap where several rows share it.
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
    figure.colorbar(density, label="rows in a cell", format="%d")
    axis.plot([0, limit], [0, limit], color="black", linewidth=1, label="predicted = true")
    capped = true == true.max()
    if capped.sum() > 1:
        axis.axvline(
            true.max() / THOUSAND,
            color=WRONG,
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
    """Residuals (N,) in dollars at places (N, 2), degrees east and north; those beyond the 98th percentile saturate."""
    figure = Figure(figsize=(7, 6.4), layout="constrained")
    axis = figure.subplots()
    limit = max(float(np.quantile(np.abs(residuals), 0.98)), 1) / THOUSAND
    order = np.argsort(np.abs(residuals))  # the largest on top
    points = axis.scatter(
        place[order, 0],
        place[order, 1],
        c=residuals[order] / THOUSAND,
        s=14,
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        linewidths=0.2,
        edgecolors=GREY,
    )
    figure.colorbar(points, extend="both", label="predicted minus true price, thousand dollars")
    west, east, south, north = *axis.get_xlim(), *axis.get_ylim()
    for name, (longitude, latitude, side) in CITIES.items():
        if west < longitude < east and south < latitude < north:
            axis.annotate(
                name,
                (longitude, latitude),
                (32 * side, -12),
                textcoords="offset points",
                ha="right" if side < 0 else "left",
                fontsize=8,
                arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.8},
            )
    axis.set(
        # A degree east is shorter than one north.
        aspect=1 / np.cos(np.radians(place[:, 1].mean())),
        xlabel="longitude, degrees east",
        ylabel="latitude, degrees north",
        title=f"Where {len(residuals):,} test rows are priced too high (red) or too low (blue)",
    )
    axis.title.set_fontsize(10)
    return figure


def importances(found: Mapping[str, np.ndarray]) -> Figure:
    """By how many dollars the RMSE grows, (repeats,) by the name of what was shuffled: mean and standard deviation."""
    names = sorted(found, key=lambda name: found[name].mean())
    values = np.stack([found[name] for name in names]) / THOUSAND
    figure = Figure(figsize=(8, 1.4 + 0.32 * len(names)), layout="constrained")
    axis = figure.subplots()
    axis.barh(names, values.mean(axis=1), xerr=values.std(axis=1), color=RIGHT, error_kw={"ecolor": GREY, "capsize": 3})
    axis.axvline(0, color=GREY, linewidth=0.8)
    axis.set(
        xlabel="increase of the test RMSE, thousand dollars: mean and standard deviation",
        title=f"Permutation importances: each shuffled {values.shape[1]} times among the test rows",
    )
    axis.title.set_fontsize(10)
    return figure


def intervals(true: np.ndarray, predicted: np.ndarray, width: float, coverage: float) -> Figure:
    """Intervals prediction +- ``width`` over sorted predictions, and the share of prices they hold by decile.

    Args:
        true: prices (N,) in dollars.
        predicted: (N,).
        width: half the width of an interval, in dollars.
        coverage: the share that was asked for.
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
        color=RIGHT,
        alpha=0.2,
        linewidth=0,
        label="interval",
    )
    left.plot(ranks, middle, color="black", linewidth=1, label="prediction")
    for inside, colour, label in ((True, RIGHT, "price in its interval"), (False, WRONG, "price outside")):
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
        places, share, yerr=np.clip([share - low, high - share], 0, None), fmt="o", color=RIGHT, ecolor=GREY, capsize=3
    )
    right.axhline(coverage, color=WRONG, linewidth=1, label=f"asked for: {100 * coverage:.4g} %")
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
