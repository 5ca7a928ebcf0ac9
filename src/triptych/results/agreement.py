"""Check whether a repeated run reproduced the metrics of the original, and list what else differs."""

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from triptych.results.directory import read_history
from triptych.results.record import Record, finite
from triptych.results.report.text import printable, shortened
from triptych.results.untrusted import mapping

Number = float | None


@dataclass(frozen=True)
class Agreement:
    """The comparison of a run with an earlier one that it repeats.

    Attributes:
        numbers: the value of each metric then and now; None if missing, NaN or infinite.
        tolerance: the largest relative difference that counts as agreement.
        causes: what differs between the two runs besides the metrics, a line each.
    """

    numbers: dict[str, tuple[Number, Number]]
    tolerance: float
    causes: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Whether all numbers are bitwise equal."""
        return all(then == now for then, now in self.numbers.values())

    @property
    def differing_metrics(self) -> list[str]:
        """The metrics that differ by more than the tolerance."""
        return [name for name, (then, now) in self.numbers.items() if not _agree(then, now, self.tolerance)]

    @property
    def verdict(self) -> str:
        """One line: ``Reproduced: exactly``, ``Reproduced: within X`` or ``Not reproduced: METRICS``."""
        if self.differing_metrics:
            return f"Not reproduced: {', '.join(map(printable, self.differing_metrics))}"
        return "Reproduced: exactly" if self.exact else f"Reproduced: within {self.tolerance:g}"


def compare(then: Record, now: Record, tolerance: float) -> Agreement:
    """Compare the ``comparable`` numbers of a run with those of its repetition."""
    before, after = comparable(then), comparable(now)
    names = dict.fromkeys([*before, *after])
    numbers = {name: (before.get(name), after.get(name)) for name in names}
    lines = causes(then.metrics, now.metrics)
    if then.changes:
        lines.insert(0, f"settings: then they became {printable(' '.join(then.changes))} on the way")
    return Agreement(numbers, tolerance, lines)


def comparable(record: Record) -> dict[str, Number]:
    """Return the metrics of the best epoch and the test; for a run on all data, which has neither, the last logged."""
    found = {
        str(name): finite(value) for key in ("best", "test") for name, value in mapping(record.metrics.get(key)).items()
    }
    return found or _last_row(record)


def causes(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the differences in provenance between two runs, a line each, given their ``metrics.json``."""
    lines: list[str] = []
    if any(mapping(with_) for with_ in _list(then.get("resumed_with"))):
        lines.append("then it was resumed on other code, packages or hardware than it was started on")
    for name, path in {
        "commit": ("git", "commit"),
        "lock": ("lock",),
        "threads": ("threads",),
        "precision": ("precision",),
        "device": ("device",),
        "CPU": ("hardware", "cpu"),
        "platform": ("hardware", "platform"),
    }.items():
        lines += _difference(name, _at(then, path), _at(now, path))
    lines += _difference("uncommitted changes", _uncommitted(then), _uncommitted(now))
    if _at(then, ("git", "left_out")) or _at(now, ("git", "left_out")):
        lines.append("uncommitted changes: some are in no patch, and may differ")
    before, after = mapping(then.get("versions")), mapping(now.get("versions"))
    for package in dict.fromkeys([*before, *after]):
        lines += _difference(printable(package), before.get(package), after.get(package))
    return lines


def print_agreement(agreement: Agreement, then: Record, now: Record) -> None:
    """Print the numbers side by side, the verdict, and what else differs."""
    table = Table(title=Text(f"{printable(then.name)}, again as {printable(now.name)}"), box=None)
    for column in ("metric", "then", "now", "difference"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, (before, after) in agreement.numbers.items():
        difference = None if before is None or after is None else after - before
        table.add_row(Text(shortened(name, 60)), *(_shown(value) for value in (before, after, difference)))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print()
    console.print(table)
    console.print()
    console.print(agreement.verdict)
    if agreement.exact:
        return
    for line in agreement.causes:
        console.print(f"  differs: {line}")
    if not agreement.causes:
        console.print(
            "  Code, packages and machine are the same: was metrics.json changed, or is the training itself not "
            "deterministic (a GPU, trainer.deterministic=false, trainer.max_time)?"
        )


def _last_row(record: Record) -> dict[str, Number]:
    """Return the last row of ``metrics.csv`` with ``train/loss``; empty if there is none."""
    try:
        rows = read_history(record.directory / "metrics.csv")
        row = next((row for row in reversed(rows) if "train/loss" in row), {})
        return {f"last {name}": float(value) for name, value in row.items()}
    except (OSError, ValueError, TypeError):
        return {}


def _agree(then: Number, now: Number, tolerance: float) -> bool:
    if then is None or now is None:
        return then == now
    return then == now or abs(then - now) <= tolerance * max(abs(then), abs(now))


def _difference(name: str, then: Any, now: Any) -> list[str]:
    if then is None or now is None or then == now:
        return []  # unknown for one of the two, so possibly the same
    return [f"{name}: {shortened(then, 60)} then, {shortened(now, 60)} now"]


def _uncommitted(metrics: dict[str, Any]) -> str | None:
    """Describe the uncommitted changes by the hash of their patch; None if unknown."""
    if _at(metrics, ("git", "dirty")) is False:
        return "none"
    digest = _at(metrics, ("git", "patch"))
    return f"patch {str(digest)[:12]}" if digest else None


def _at(metrics: dict[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = metrics
    for key in path:
        found = mapping(found).get(key)
    return found


def _shown(value: Number) -> str:
    return "-" if value is None else f"{value:.9g}"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
