"""The plots of a study, as panels of one matplotlib figure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from triptych.results.colours import HUES
from triptych.results.report.scales import figure_text, scale
from triptych.results.study.measures import Unit, Value
from triptych.results.study.spec import Plot, Study

PANEL = (5.2, 3.6)
"""Width and height of a panel in inches."""

Measured = Mapping[str, Sequence[Value]]


def draw(study: Study, units: Sequence[Unit], measured: Measured) -> Figure | None:
    """Draw all plots of a study, two per row; None if it has no plots or nothing was measured."""
    if not study.plots or not any(value.value is not None for values in measured.values() for value in values):
        return None
    columns = min(2, len(study.plots))
    rows = -(-len(study.plots) // columns)
    figure = Figure(figsize=(columns * PANEL[0], rows * PANEL[1]), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, plot in zip(axes, study.plots, strict=False):
        {"dots": _dots, "curves": _curves, "layers": _layers, "lines": _lines, "heat": _heat}[plot.kind](
            axis, plot, units, measured
        )
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(study.plots) :]:
        axis.set_visible(False)
    return figure


def _dots(axis: Axes, plot: Plot, units: Sequence[Unit], measured: Measured) -> None:
    """A measure: one column per arm, one dot per seed, a bar at the mean."""
    name = str(plot.of)
    groups = _by_label(measured[name])
    for place, (colour, values) in enumerate(zip(cycle(HUES), groups.values(), strict=False)):
        if values:
            offsets = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else [0.0]
            axis.scatter(place + np.asarray(offsets), values, color=colour, s=22, alpha=0.75, linewidths=0)
            axis.hlines(np.mean(values), place - 0.28, place + 0.28, color=colour, linewidth=2)
    axis.set_xticks(range(len(groups)), list(groups))
    if len(groups) > 5 or max(map(len, groups), default=0) > 10:
        axis.tick_params(axis="x", rotation=35)
        for label in axis.get_xticklabels():
            label.set_horizontalalignment("right")
    axis.set_xlim(-0.6, len(groups) - 0.4)
    axis.set_title(figure_text(name), fontsize=10)
    if plot.log:
        axis.set_yscale("log")
    axis.grid(axis="y", alpha=0.25)


def _curves(axis: Axes, plot: Plot, units: Sequence[Unit], measured: Measured) -> None:
    """A metric over the steps: per arm a line, the mean over its seeds, and a band from their minimum to maximum."""
    for colour, (label, members) in zip(cycle(HUES), _units_by_label(units).items(), strict=False):
        curves = [unit.history[str(plot.of)] for unit in members if str(plot.of) in unit.history]
        if not curves:
            continue
        steps = np.unique(np.concatenate([steps for steps, _ in curves]))
        # NaN beyond the end of a curve, so that it is not extrapolated.
        lines = np.array([np.interp(steps, *curve, right=np.nan) for curve in curves])
        known = ~np.isnan(lines).all(axis=0)
        steps, lines = steps[known], lines[:, known]
        marker = "o" if len(steps) == 1 else None
        axis.plot(steps, np.nanmean(lines, axis=0), color=colour, linewidth=1.4, marker=marker, label=label)
        axis.fill_between(steps, np.nanmin(lines, axis=0), np.nanmax(lines, axis=0), color=colour, alpha=0.13, lw=0)
    axis.set(xlabel="optimizer step")
    axis.set_title(figure_text(str(plot.of)), fontsize=10)
    if plot.log:
        axis.set_yscale("log")
    _legend(axis)


def _layers(axis: Axes, plot: Plot, units: Sequence[Unit], measured: Measured) -> None:
    """The first logged metric of each layer, from the first layer to the last; one line (geometric mean) per arm."""
    for colour, (label, members) in zip(cycle(HUES), _units_by_label(units).items(), strict=False):
        starts: dict[int, list[float]] = defaultdict(list)
        for unit in members:
            for metric, (_, values) in unit.history.items():
                number = metric.removeprefix(f"{plot.of}/").partition("-")[0]
                if metric.startswith(f"{plot.of}/") and number.isdecimal():
                    starts[int(number)].append(float(values[0]))
        layers = sorted(starts)
        means = [np.exp(np.mean(np.log(np.maximum(starts[layer], 1e-30)))) for layer in layers]
        axis.plot(range(1, len(layers) + 1), means, "o-", color=colour, markersize=3.5, linewidth=1.4, label=label)
    axis.set(xlabel="layer, from the input to the output", yscale="log")
    axis.set_title(figure_text(f"{plot.of} of each layer at the start"), fontsize=10)
    _legend(axis)


def _lines(axis: Axes, plot: Plot, units: Sequence[Unit], measured: Measured) -> None:
    """Measures over a swept key, averaged over the seeds: one line per measure, arm and setting of the other keys."""
    names = [plot.of] if isinstance(plot.of, str) else list(plot.of)
    styles = cycle(("-", "--", ":"))
    over = scale([value.swept[plot.x] for name in names for value, _ in _known(measured[name], plot.x)])
    for name, style in zip(names, styles, strict=False):
        groups: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
        for value, number in _known(measured[name], plot.x):
            rest = {key: text for key, text in value.swept.items() if key != plot.x}
            groups[_label(value.arm, rest)][over.places[value.swept[plot.x]]].append(number)
        for colour, (label, points) in zip(cycle(HUES), groups.items(), strict=False):
            places = sorted(points)
            means = [float(np.mean(points[place])) for place in places]
            text = ", ".join(filter(None, (figure_text(name) if len(names) > 1 else "", label)))
            axis.plot(places, means, f"o{style}", color=colour, markersize=3.5, linewidth=1.4, label=text)
    axis.set(xlabel=plot.x)
    over.apply(axis)
    axis.set_title(figure_text(names[0]) if len(names) == 1 else "mean over the seeds", fontsize=10)
    if plot.log:
        axis.set_yscale("log")
    _legend(axis)


def _heat(axis: Axes, plot: Plot, units: Sequence[Unit], measured: Measured) -> None:
    """A heat map of a measure over two swept keys, averaged over everything else."""
    cells: dict[tuple[float, float], list[float]] = defaultdict(list)
    known = _known(measured[str(plot.of)], plot.x, plot.y)
    across, up = (scale([value.swept[key] for value, _ in known]) for key in (plot.x, plot.y))
    for value, measured_there in known:
        cells[across.places[value.swept[plot.x]], up.places[value.swept[plot.y]]].append(measured_there)
    grid = np.array([[np.mean(cells[x, y]) if (x, y) in cells else np.nan for x in across.ticks] for y in up.ticks])
    if grid.size:
        image = axis.imshow(grid, aspect="auto", origin="lower", cmap="viridis_r")
        middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
        for row, column in np.ndindex(*grid.shape):
            number = grid[row, column]
            text = "-" if np.isnan(number) else f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"
            axis.text(
                column, row, text, ha="center", va="center", fontsize=7, color="white" if number > middle else "black"
            )
        axis.figure.colorbar(image, ax=axis, shrink=0.9)
    axis.set_xticks(range(len(across.labels)), list(map(figure_text, across.labels)))
    axis.set_yticks(range(len(up.labels)), list(map(figure_text, up.labels)))
    axis.set(xlabel=plot.x, ylabel=plot.y)
    axis.set_title(figure_text(str(plot.of)), fontsize=10)


def _known(values: Sequence[Value], *keys: str) -> list[tuple[Value, float]]:
    """Return the measured values, each with its number, that have all these swept keys."""
    return [
        (value, value.value) for value in values if value.value is not None and all(key in value.swept for key in keys)
    ]


def _units_by_label(units: Sequence[Unit]) -> dict[str, list[Unit]]:
    groups: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        groups[_label(unit.arm, unit.swept)].append(unit)
    return groups


def _by_label(values: Sequence[Value]) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = defaultdict(list)
    for value in values:
        own = groups[_label(value.arm, value.swept)]
        if value.value is not None:
            own.append(value.value)
    return groups


def _label(arm: str, swept: Mapping[str, str]) -> str:
    """Return an arm's name, escaped for matplotlib; the swept values if there are no arms."""
    values = [f"{key.rpartition('.')[2]} {value}" for key, value in swept.items()]
    return figure_text(arm or ", ".join(values) or "all runs")


def _legend(axis: Axes) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, frameon=False, ncols=2 if len(axis.lines) > 6 else 1)
