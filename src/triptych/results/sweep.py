"""The end of a sweep: which jobs ended well, with which result."""

import sys
from pathlib import Path
from typing import Any

import yaml
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from triptych.results.directory import DONE, ERROR, METRICS, read_metrics


class SweepSummary(Callback):
    """Print a table of the sweep's jobs, the failed ones named, and end with exit code 1 if there are any."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        jobs = sorted((job for job in folder.iterdir() if (job / ".hydra").is_dir()), key=_job_order)
        rows = [_row(job) for job in jobs]
        _print_table(rows, folder)
        if any(row["state"] != "done" for row in rows):
            # Hydra turns exceptions of its callbacks into warnings, but not this one.
            sys.exit(1)


def _job_order(job: Path) -> tuple[int, str]:
    return (int(job.name) if job.name.isdigit() else sys.maxsize, job.name)


def _row(job: Path) -> dict[str, Any]:
    # Hydra turns an exception here into a warning and exit code 0, so a job killed at any moment must not raise one.
    saved = job / ".hydra" / "overrides.yaml"
    overrides = yaml.safe_load(saved.read_text()) if saved.exists() else None
    row: dict[str, Any] = {"job": job.name, "overrides": " ".join(overrides or []), "best": None, "test": None}
    if (job / DONE).exists() and (job / METRICS).exists():
        metrics = read_metrics(job)
        monitor = metrics["monitor"] or ""
        name = monitor.partition("/")[2]
        return row | {
            "state": "done",
            "monitor": name,
            "best": (metrics["best"] or {}).get(monitor),
            "test": (metrics["test"] or {}).get(f"test/{name}"),
            "seconds": metrics["seconds"],
        }
    if (job / ERROR).exists():
        message = (job / ERROR).read_text().partition("\n")[0]
        return row | {"state": f"failed: {message}"}
    return row | {"state": "interrupted"}


def _print_table(rows: list[dict[str, Any]], folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from triptych.results.summary import format_number

    table = Table(title=f"sweep of {len(rows)} jobs", box=None)
    monitors = dict.fromkeys(row["monitor"] for row in rows if "monitor" in row)
    monitor = monitors.popitem()[0] if len(monitors) == 1 else "monitor"
    for column in ("job", "overrides", f"val/{monitor}", f"test/{monitor}", "seconds", "state"):
        table.add_column(column, overflow="fold", justify="left" if column in ("overrides", "state") else "right")
    for row in rows:
        numbers = [format_number(row[key]) for key in ("best", "test")]
        seconds = f"{row['seconds']:.0f}" if "seconds" in row else "-"
        table.add_row(row["job"], row["overrides"], *numbers, seconds, row["state"])
    console = Console(highlight=False, markup=False)
    console.print()
    console.print(table)
    console.print(f"\nsweep  {folder}")
