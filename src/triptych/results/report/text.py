"""Text of any origin (names, overrides, errors, metrics), made safe for where it is shown.

HTML is escaped by its template.
"""

import re
import statistics
from collections.abc import Mapping

from triptych.results.summary import format_number

# What Markdown would read as more than text, wherever it stands.
SPECIAL = re.compile(r"([\\`*\[\]<>|&$])")
# What it would read so at the start of a line: headings, lists, rules, fences.
LEADING = re.compile(r"^(#+(?=\s|$)|[-+](?=\s|$)|[-=~_]{3,}|\d+(?=[.)](?:\s|$)))")


def printable(text: object) -> str:
    """One line without control characters, of the terminal or of the direction of writing."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text)).strip()


def shortened(text: object, length: int = 28) -> str:
    """At most ``length`` characters: the start and the end, for names differ at either."""
    line = printable(text)
    if len(line) <= length:
        return line
    head = (length - 1) // 2
    return f"{line[:head]}…{line[len(line) - (length - 1 - head) :]}"


def markdown(text: object) -> str:
    """Text that Markdown shows as it is, in a paragraph or in a table's cell."""
    escaped = SPECIAL.sub(r"\\\1", printable(text))
    return LEADING.sub(lambda found: _backslashed(found[1]), escaped)


def _backslashed(start: str) -> str:
    return f"{start}\\" if start.isdigit() else f"\\{start}"


def file_name(text: object) -> str:
    """A name that every file system takes and that stays in its folder."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", str(text)).strip("-")[:60] or "figure"


def different(names: list[str]) -> list[str]:
    """The names, numbered where one comes again, also where letters differ only in their case."""
    chosen: dict[str, str] = {}
    for name in names:
        endings = ["", *(f"-{number}" for number in range(2, len(names) + 1))]
        free = next(name + ending for ending in endings if (name + ending).lower() not in chosen)
        chosen[free.lower()] = free
    return list(chosen.values())


def number(text: str) -> float | None:
    """The finite number that an override's value is, else None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value - value == 0 and "_" not in text else None


def setting(value: str) -> str:
    """The value of an override, short enough for a table: a number drawn by a search has many digits."""
    found = number(value)
    return f"{found:.4g}" if found is not None and len(value) > 9 else shortened(value, 40)


def settings_line(settings: Mapping[str, str]) -> str:
    """``optimizer=adam optimizer.lr=0.001``."""
    return " ".join(f"{printable(key)}={setting(value)}" for key, value in settings.items())


def mean_and_deviation(values: list[float]) -> str:
    """``48,211 ± 310``: the mean and the sample's standard deviation; of one value the value alone."""
    if not values:
        return "-"
    shown = format_number(statistics.fmean(values))
    if len(values) < 2:
        return shown
    deviation = statistics.stdev(values)
    # Two digits: a few runs tell no more.
    return f"{shown} ± {deviation:,.0f}" if deviation >= 100 else f"{shown} ± {deviation:.2g}"


def some(names: list[str], count: int = 3) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
