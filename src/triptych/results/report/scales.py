"""Axis scales: positions of a swept parameter's values, and limits of a metric's axis that cut off outliers."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from triptych.results.report.text import number, setting, shortened

MOST_TICKS = 9


@dataclass(frozen=True)
class Scale:
    """The axis of one swept parameter.

    Attributes:
        kind: ``linear``, ``log`` or ``categories``.
        ticks: the positions of the values, in ascending order: the numbers, or the indices of categories.
        labels: the label of each tick.
        places: the position of each value, by the value's text.
    """

    kind: str
    ticks: list[float]
    labels: list[str]
    places: dict[str, float]

    def fraction(self, value: str) -> float:
        """Return the position of a value on the axis, from 0 (lowest) to 1 (highest)."""
        place, low, high = self.places[value], self.ticks[0], self.ticks[-1]
        if self.kind == "log":
            place, low, high = math.log(place), math.log(low), math.log(high)
        return (place - low) / (high - low) if high > low else 0.5

    def apply(self, axis: Axes) -> None:
        """Set up the x-axis of a plot, with a tick at each value if they are few enough to read."""
        if not self.ticks:
            return  # nothing was measured
        if self.kind == "log":
            axis.set_xscale("log")
        few = len(self.ticks) <= MOST_TICKS and not self._crowded()
        if self.kind == "categories" or few:
            axis.set_xticks(self.ticks, list(map(figure_text, self.labels)))
            axis.xaxis.set_minor_locator(NullLocator())
            axis.xaxis.set_minor_formatter(NullFormatter())
        if self.kind == "categories":
            axis.set_xlim(-0.6, len(self.ticks) - 0.4)
            if sum(map(len, self.labels)) > 42 or len(self.labels) > 10:
                axis.tick_params(axis="x", rotation=35)
                for label in axis.get_xticklabels():
                    label.set(horizontalalignment="right", rotation_mode="anchor")

    def _crowded(self) -> bool:
        """Whether the labels of neighbouring ticks would overlap."""
        places = [math.log(tick) for tick in self.ticks] if self.kind == "log" else self.ticks
        width = places[-1] - places[0]
        gaps = [(high - low) / width for low, high in pairwise(places)] if width else []
        return bool(gaps) and min(gaps) < 0.014 * max(map(len, self.labels))


def scale(values: Sequence[str]) -> Scale:
    """Choose a scale: linear or log for three or more distinct numbers, otherwise categories."""
    written = list(dict.fromkeys(values))
    numbers = {value: found for value in written if (found := number(value)) is not None}
    distinct = sorted(set(numbers.values()))
    if len(numbers) == len(written) and len(distinct) > 2:
        by_number = {found: value for value, found in reversed(numbers.items())}
        labels = [setting(by_number[found]) for found in distinct]
        return Scale("log" if _even_in_log(distinct) else "linear", distinct, labels, numbers)
    # Numbers in ascending order, then words in the order given.
    order = sorted(written, key=lambda value: numbers.get(value, math.inf))
    names = {value: numbers.get(value, value) for value in order}
    ranks = {name: float(rank) for rank, name in enumerate(dict.fromkeys(names.values()))}
    shown = {ranks[name]: shortened(value, 18) or "none" for value, name in reversed(names.items())}
    places = {value: ranks[name] for value, name in names.items()}
    return Scale("categories", sorted(shown), [shown[rank] for rank in sorted(shown)], places)


def _even_in_log(distinct: Sequence[float]) -> bool:
    """Whether the values are spaced more evenly on a log scale."""
    if distinct[0] <= 0 or distinct[-1] < 4 * distinct[0]:
        return False
    return _unevenness([math.log(value) for value in distinct]) < _unevenness(distinct)


def _unevenness(places: Sequence[float]) -> float:
    gaps = [high - low for low, high in pairwise(places)]
    return statistics.pstdev(gaps) / statistics.fmean(gaps)


def view(values: Sequence[float], mode: str, reach: float = 4.0) -> tuple[float, float]:
    """Return the limits of a metric's axis, cut off at the worse end so that an outlier does not flatten the rest.

    Args:
        values: the values to show.
        mode: ``min`` or ``max``: which values are better; the other end may be cut off.
        reach: the limit, in interquartile ranges beyond the quartile.
    """
    low, high = min(values), max(values)
    if len(values) >= 4:
        first, _, third = statistics.quantiles(values, n=4, method="inclusive")
        beyond = reach * (third - first)
        if beyond > 0 and mode == "min":
            high = min(high, third + beyond)
        elif beyond > 0:
            low = max(low, first - beyond)
    return low, high


def padded(low: float, high: float) -> tuple[float, float]:
    """Return axis limits with a margin of 5 %."""
    air = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return low - air, high + air


def thousands() -> FuncFormatter:
    """Return a formatter of ticks such as 48,000 and 0.25."""
    return FuncFormatter(lambda value, _: f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}")


def figure_text(text: str) -> str:
    """Escape dollar signs, which matplotlib would take for the start of a formula."""
    return text.replace("$", r"\$")
