"""The summary table printed at the end of a run, and the number format of all tables."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from triptych.terminal import harmless


def print_summary(metrics: dict[str, Any], directory: Path) -> None:
    """Print the best validation metrics, the test metrics, the data and the directory of a run.

    Args:
        metrics: the content of ``metrics.json``.
        directory: the run directory.
    """
    data = metrics["data"]
    table = Table(title=f"{metrics['experiment']}: {metrics['epochs']} epochs, {metrics['seconds']:.0f} s", box=None)
    table.add_column("metric", justify="left")
    table.add_column("best epoch", justify="right")
    table.add_column("test", justify="right")
    best, test = metrics["best"] or {}, metrics["test"] or {}
    names = [name.partition("/")[2] for name in (*best, *test) if name.startswith(("val/", "test/"))]
    for name in dict.fromkeys(names):
        shown = [format_number(values.get(f"{split}/{name}")) for split, values in (("val", best), ("test", test))]
        marked = f"{name} (monitor)" if metrics["monitor"] == f"val/{name}" else name
        table.add_row(marked, *shown)
    sizes = ", ".join(f"{name} {size}" for name, size in data["sizes"].items())
    console = Console(soft_wrap=True, highlight=False)
    console.print()
    console.print(table)
    console.print()
    console.print(harmless(f"data   {data['source']}: {sizes}; split {data['split']} ({data['root']})"), markup=False)
    if data["stand_in"]:
        console.print(f"       the test is a stand-in: {data['stand_in']}", markup=False)
    console.print(f"run    {directory}", markup=False)


def format_number(value: float | None) -> str:
    """Format with four significant digits, or as a whole number from 1,000 on; None becomes ``-``."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
