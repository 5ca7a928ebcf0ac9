"""Where the values of a swept parameter stand on an axis, and how much of a metric's axis is worth showing."""

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
    """An axis of one parameter.

    Attributes:
        kind: ``linear``, ``log`` or ``categories``.
        ticks: the positions of the values, in order; on a log axis the values themselves.
        labels: what stands at each.
        places: by value, as written, its position.
    """

    kind: str
    ticks: list[float]
    labels: list[str]
    places: dict[str, float]

    def fraction(self, value: str) -> float:
        """The position between 0 at the lowest value and 1 at the highest."""
        place, low, high = self.places[value], self.ticks[0], self.ticks[-1]
        if self.kind == "log":
            place, low, high = math.log(place), math.log(low), math.log(high)
        return (place - low) / (high - low) if high > low else 0.5

    def apply(self, axis: Axes) -> None:
        """Give it to the x-axis of a plot: values few enough to read stand where they are."""
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
        """Whether the labels of neighbours would touch."""
        places = [math.log(tick) for tick in self.ticks] if self.kind == "log" else self.ticks
        width = places[-1] - places[0]
        gaps = [(high - low) / width for low, high in pairwise(places)] if width else []
        return bool(gaps) and min(gaps) < 0.014 * max(map(len, self.labels))


def scale(values: Sequence[str]) -> Scale:
    """The axis that suits these values: numbers on a line where there are three or more, all else side by side."""
    written = list(dict.fromkeys(values))
    numbers = {value: found for value in written if (found := number(value)) is not None}
    distinct = sorted(set(numbers.values()))
    if len(numbers) == len(written) and len(distinct) > 2:
        by_number = {found: value for value, found in reversed(numbers.items())}
        labels = [setting(by_number[found]) for found in distinct]
        return Scale("log" if _even_in_log(distinct) else "linear", distinct, labels, numbers)
    # Numbers in their order, words in the order in which they were given.
    order = sorted(written, key=lambda value: numbers.get(value, math.inf))
    names = {value: numbers.get(value, value) for value in order}
    ranks = {name: float(rank) for rank, name in enumerate(dict.fromkeys(names.values()))}
    shown = {ranks[name]: shortened(value, 18) or "none" for value, name in reversed(names.items())}
    places = {value: ranks[name] for value, name in names.items()}
    return Scale("categories", sorted(shown), [shown[rank] for rank in sorted(shown)], places)


def _even_in_log(distinct: Sequence[float]) -> bool:
    """Whether the values spread more evenly over their logarithms."""
    if distinct[0] <= 0 or distinct[-1] < 4 * distinct[0]:
        return False
    return _unevenness([math.log(value) for value in distinct]) < _unevenness(distinct)


def _unevenness(places: Sequence[float]) -> float:
    gaps = [high - low for low, high in pairwise(places)]
    return statistics.pstdev(gaps) / statistics.fmean(gaps)


def view(values: Sequence[float], mode: str, reach: float = 4.0) -> tuple[float, float]:
    """The lowest and the highest value worth showing: one run gone wrong would press all others flat.

    Args:
        values: what there is to show.
        mode: ``min`` or ``max``: at the worse end the picture may stop.
        reach: how many interquartile ranges beyond the quartile.
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
    """Limits with a little air around what is shown."""
    air = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return low - air, high + air


def thousands() -> FuncFormatter:
    """Ticks such as 48,000 and 0.25."""
    return FuncFormatter(lambda value, _: f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}")


def figure_text(text: str) -> str:
    """Text that matplotlib shows as it is: dollars would begin a formula."""
    return text.replace("$", r"\$")
