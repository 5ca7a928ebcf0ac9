"""Escaping and formatting of untrusted text (names, overrides, errors, metrics) for display.

HTML is escaped by its template.
"""

import re
import statistics
from collections.abc import Mapping

from triptych.results.summary import format_number

# Characters that are markup in Markdown anywhere in a line.
SPECIAL = re.compile(r"([\\`*\[\]<>|&$])")
# Markup only at the start of a line: headings, lists, rules, fences.
LEADING = re.compile(r"^(#+(?=\s|$)|[-+](?=\s|$)|[-=~_]{3,}|\d+(?=[.)](?:\s|$)))")


def printable(text: object) -> str:
    """Return the text as one line, with control characters (of terminals or writing direction) replaced by spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text)).strip()


def shortened(text: object, length: int = 28) -> str:
    """Shorten to at most ``length`` characters, keeping start and end, since names may differ at either."""
    line = printable(text)
    if len(line) <= length:
        return line
    head = (length - 1) // 2
    return f"{line[:head]}…{line[len(line) - (length - 1 - head) :]}"


def markdown(text: object) -> str:
    """Escape text so that Markdown shows it literally, in a paragraph or a table cell."""
    escaped = SPECIAL.sub(r"\\\1", printable(text))
    return LEADING.sub(lambda found: _backslashed(found[1]), escaped)


def _backslashed(start: str) -> str:
    return f"{start}\\" if start.isdigit() else f"\\{start}"


def file_name(text: object) -> str:
    """Return a file name that every file system accepts and that cannot lead out of its folder."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", str(text)).strip("-")[:60] or "figure"


def unique_names(names: list[str]) -> list[str]:
    """Make names unique, ignoring case, by numbering repeated ones."""
    chosen: dict[str, str] = {}
    for name in names:
        endings = ["", *(f"-{number}" for number in range(2, len(names) + 1))]
        free = next(name + ending for ending in endings if (name + ending).lower() not in chosen)
        chosen[free.lower()] = free
    return list(chosen.values())


def number(text: str) -> float | None:
    """Return the value of an override as a float; None unless it is a finite number."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value - value == 0 and "_" not in text else None


def setting(value: str) -> str:
    """Shorten the value of an override for a table; long numbers, as drawn by a search, get four digits."""
    found = number(value)
    return f"{found:.4g}" if found is not None and len(value) > 9 else shortened(value, 40)


def settings_line(settings: Mapping[str, str]) -> str:
    """Return the settings as one line, such as ``optimizer=adam optimizer.lr=0.001``."""
    return " ".join(f"{printable(key)}={setting(value)}" for key, value in settings.items())


def mean_and_deviation(values: list[float]) -> str:
    """Format mean and sample standard deviation, as in ``48,211 ± 310``; of one value just the value."""
    if not values:
        return "-"
    shown = format_number(statistics.fmean(values))
    if len(values) < 2:
        return shown
    deviation = statistics.stdev(values)
    # Two digits: with a few runs, more would be false precision.
    return f"{shown} ± {deviation:,.0f}" if deviation >= 100 else f"{shown} ± {deviation:.2g}"


def join_first(names: list[str], count: int = 3) -> str:
    """Return the first ``count`` names and how many more there are, as in ``0, 1, 2 and 6 more``."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
