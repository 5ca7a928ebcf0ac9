"""The figures of a report, made without pyplot: no global state, no window, usable in any thread."""

import statistics
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from triptych.results.colours import BLUE, GREY, HUES, RED
from triptych.results.directory import read_history
from triptych.results.record import Record
from triptych.results.report.comparison import Ranking
from triptych.results.report.scales import Scale, figure_text, padded, scale, thousands, view
from triptych.results.report.settings import Settings
from triptych.results.report.text import number, printable, setting, shortened

DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (4, 1.5)))
MOST_CURVES = 100
"""Most learning curves that are read and drawn, of the best runs; more would blur into a grey area."""
MOST_AXES = 10
POINTS_OF_A_MEAN = 12
"""Most points on the line of means; if there are more distinct values, neighbours are averaged together."""

Curve = tuple[list[float], list[float]]


def parameter(ranking: Ranking, key: str) -> Figure:
    """Plot the monitor of every run over one swept parameter, with the means in red."""
    runs = [(ranking.settings[run.directory][key], value) for run, value in _valued(ranking)]
    axis_of_key = scale([value for value, _ in runs])
    figure, axis = _plot(
        max(5.2, min(12.0, 0.42 * len(axis_of_key.ticks))) if axis_of_key.kind == "categories" else 5.2
    )
    low, high = view([value for _, value in runs], ranking.mode)
    by_place: dict[float, list[float]] = {}
    for written, value in runs:
        by_place.setdefault(axis_of_key.places[written], []).append(value)
    for place, values in by_place.items():
        places = np.full(len(values), place)
        if axis_of_key.kind == "categories":
            places += _spread(len(values))
        inside = np.clip(values, low, high)
        outside = inside != np.asarray(values)
        axis.scatter(places[~outside], inside[~outside], s=24, color=BLUE, alpha=0.6, linewidths=0)
        marker = "^" if ranking.mode == "min" else "v"
        axis.scatter(places[outside], inside[outside], s=34, color=RED, marker=marker, linewidths=0, clip_on=False)
    if axis_of_key.kind == "categories":
        for place, values in by_place.items():
            if len(values) > 1:
                mean = min(max(statistics.fmean(values), low), high)
                axis.hlines(mean, place - 0.3, place + 0.3, color=RED, linewidth=1.8)
    else:
        axis.plot(*zip(*_means(by_place), strict=True), color=RED, linewidth=1.5, zorder=1)
    axis_of_key.apply(axis)
    axis.set_ylim(*padded(low, high))
    axis.set_xlabel(figure_text(shortened(key, 60)))
    axis.set_ylabel(figure_text(shortened(ranking.monitor, 40)))
    return figure


def curves(ranking: Ranking, labels: dict[Path, str]) -> Figure | None:
    """Plot the monitor over the epochs, with one colour for each of the best settings; None if no run has a curve."""
    ended = {record.directory for record in ranking.ranked}
    runs = [*ranking.ranked, *(record for record in ranking.records if record.directory not in ended)][:MOST_CURVES]
    found = {run.directory: curve for run in runs if (curve := _curve(run, ranking.monitor))[0]}
    if not found:
        return None
    groups = [[run for run in group.records if run.directory in found] for group in ranking.groups]
    if len(groups) == 1:
        # Only seeds or folds differ, or nothing: one colour per run.
        groups = [[run] for run in runs if run.directory in found]
    groups = [group for group in groups if group]
    alone = len(ranking.groups) == 1
    figure, axis = _plot(8.6, 4.4)
    styles = [(hue, dash) for dash in DASHES for hue in HUES]
    for (hue, dash), group in reversed(list(zip(styles, groups, strict=False))):
        for run in group:
            marker = "o" if len(found[run.directory][0]) == 1 else None
            axis.plot(*found[run.directory], color=hue, linestyle=dash, linewidth=1.3, alpha=0.9, marker=marker)
    for group in groups[len(styles) :]:
        for run in group:
            axis.plot(*found[run.directory], color=GREY, linewidth=0.7, alpha=0.5, zorder=1)
    for (hue, dash), group in zip(styles, groups, strict=False):
        settings = ranking.settings[group[0].directory]
        if not alone:
            settings = {key: settings[key] for key in ranking.groups[0].settings}
        axis.plot(
            [],
            [],
            color=hue,
            linestyle=dash,
            label=figure_text(_legend(settings) or f"run {labels[group[0].directory]}"),
        )
    if len(groups) > len(styles):
        axis.plot([], [], color=GREY, label=f"{len(groups) - len(styles)} others")
    if len(groups) > 1:
        small = 8 if len(groups) <= 18 else 6.5
        figure.legend(loc="outside right upper", fontsize=small, frameon=False, labelspacing=0.35, handlelength=2.2)
    values = [value for curve in found.values() for value in curve[1]]
    axis.set_ylim(*padded(*view(values, ranking.mode, reach=1.5)))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if all(epochs == [1] for epochs, _ in found.values()):
        axis.set_xlim(0.5, 1.5)
    axis.set_xlabel("epoch")
    axis.set_ylabel(figure_text(shortened(ranking.monitor, 40)))
    return figure


def parallel(ranking: Ranking) -> Figure | None:
    """Plot parallel coordinates, one line per run, the best darkest; None for fewer than two runs or parameters."""
    keys = ranking.parameters[:MOST_AXES]
    runs = _valued(ranking)
    if len(keys) < 2 or len(runs) < 2:
        return None
    scales = [scale([ranking.settings[run.directory][key] for run, _ in runs]) for key in keys]
    low, high = view([value for _, value in runs], ranking.mode)
    figure = Figure(figsize=(min(10.5, max(7.0, 1.4 * (len(keys) + 1))), 4.4), layout="constrained")
    axis = figure.subplots()
    lines, heights = [], []
    for run, value in reversed(runs):  # the best last, on top
        settings = ranking.settings[run.directory]
        places = [each.fraction(settings[key]) for each, key in zip(scales, keys, strict=True)]
        heights.append(min(max(value, low), high))
        places.append((heights[-1] - low) / (high - low) if high > low else 0.5)
        lines.append(_curved(places))
    colours = colormaps["viridis" if ranking.mode == "min" else "viridis_r"]
    collection = LineCollection(lines, cmap=colours, norm=Normalize(low, high), alpha=0.75 if len(runs) <= 60 else 0.35)
    collection.set_array(np.asarray(heights))
    collection.set_linewidth(1.1)
    axis.add_collection(collection)
    axis.plot(*lines[-1].T, color=colours(Normalize(low, high)(heights[-1])), linewidth=2.8)
    for place, (key, each) in enumerate(zip(keys, scales, strict=True)):
        _upright(axis, place, key, each)
    _ticks(axis, len(keys), [(0.0, _number(low)), (0.5, _number((low + high) / 2)), (1.0, _number(high))])
    room = 26 if len(keys) < 5 else 18
    names = [shortened(name, room) for name in (*keys, ranking.monitor)]
    axis.set_xticks(range(len(names)), list(map(figure_text, names)), fontsize=9)
    axis.set(xlim=(-0.25, len(keys) + 0.45), ylim=(-0.06, 1.06), yticks=[])
    axis.tick_params(axis="x", length=0, pad=6)
    axis.spines[:].set_visible(False)
    return figure


def _valued(ranking: Ranking) -> list[tuple[Record, float]]:
    return [(run, value) for run in ranking.ranked if (value := ranking.value(run)) is not None]


def _plot(width: float, height: float = 3.5) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", alpha=0.25)
    axis.yaxis.set_major_formatter(thousands())
    axis.tick_params(labelsize=9)
    return figure, axis


def _spread(count: int) -> np.ndarray:
    """Return offsets (count,) that spread the points of one category sideways without a visible pattern."""
    golden = (1 + 5**0.5) / 2
    return ((np.arange(count) * golden) % 1 - 0.5) * min(0.44, 0.1 * count) if count > 1 else np.zeros(1)


def _means(by_place: dict[float, list[float]]) -> Iterator[tuple[float, float]]:
    """Yield position and mean from left to right, for each position or, if there are many, for groups of neighbours."""
    places = sorted(by_place)
    for near in np.array_split(np.asarray(places), min(len(places), POINTS_OF_A_MEAN)):
        values = [value for place in near.tolist() for value in by_place[place]]
        yield float(np.median(near)), statistics.fmean(values)


def _curve(record: Record, monitor: str) -> Curve:
    """Return the epochs and values of the monitor; of the run's own monitor if the ranking is by a test metric."""
    name = record.monitor if monitor.startswith("test/") else monitor
    try:
        rows = read_history(record.directory / "metrics.csv")
    except (OSError, ValueError):
        return [], []
    # Steps and epochs count from 0 in the file.
    logged = [
        (step + 1, epoch, number(row.get(name, "")))
        for row in rows
        if (step := number(row.get("step", ""))) is not None
        and (epoch := number(row.get("epoch", row["step"]))) is not None
        and min(step, epoch) >= 0
    ]
    points = [(step, value) for step, _, value in logged if value is not None]
    epochs = _epochs([step for step, _ in points], [(step, epoch) for step, epoch, _ in logged], record.ended)
    return epochs, [value for _, value in points]


def _epochs(steps: list[float], logged: list[tuple[float, float]], ended: bool) -> list[float]:
    """Convert steps into (fractional) epochs, taking the last logged step of each epoch as its end."""
    ends: dict[float, float] = {}
    for step, epoch in sorted(logged):
        ends[epoch + 1] = step
    epochs, last = [0.0, *sorted(ends)], [0.0]
    last += [ends[epoch] for epoch in epochs[1:]]
    if len(last) > 2 and not ended:
        # The run may have stopped within an epoch: assume that it would have been as long as the one before.
        last[-1] = max(last[-1], last[-2] + (last[-2] - last[-3]) / (epochs[-2] - epochs[-3]))
    return np.interp(steps, np.maximum.accumulate(last), epochs).tolist()


def _legend(settings: Settings) -> str:
    """Return a label such as ``optimizer=adam lr=0.001``; empty if it would be too long or there are no settings."""
    text = " ".join(f"{key.rpartition('.')[2]}={setting(value)}" for key, value in settings.items())
    return text if len(text) <= 44 else ""


def _curved(places: list[float]) -> np.ndarray:
    """Return a smooth line (points, 2) through one position on each vertical axis, horizontal where it crosses it."""
    at = np.linspace(0, 1, 17)
    ease = at * at * (3 - 2 * at)
    pieces = [
        np.column_stack([left + at, start + (end - start) * ease]) for left, (start, end) in enumerate(pairwise(places))
    ]
    return np.concatenate(pieces)


def _upright(axis: Axes, place: int, key: str, each: Scale) -> None:
    """Draw the vertical axis of a parameter, labelled with all values if few, else the lowest, middle and highest."""
    fractions = {each.places[value]: each.fraction(value) for value in each.places}
    marks = [(fractions[tick], label) for tick, label in zip(each.ticks, each.labels, strict=True)]
    if len(marks) > 14 or (each.kind != "categories" and len(marks) > 8):
        marks = [marks[0], marks[len(marks) // 2], marks[-1]]
    kept = marks[:1]
    for mark in marks[1:]:
        if mark[0] - kept[-1][0] > 0.05:
            kept.append(mark)
    _ticks(axis, place, [(fraction, shortened(printable(label), 12)) for fraction, label in kept])


def _ticks(axis: Axes, place: int, marks: list[tuple[float, str]]) -> None:
    axis.axvline(place, 0.05, 0.95, color="#343a40", linewidth=0.8, zorder=3)
    for fraction, label in marks:
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
        axis.annotate(
            figure_text(label),
            (place, fraction),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=8,
            verticalalignment="center",
            zorder=4,
            bbox=box,
        )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
