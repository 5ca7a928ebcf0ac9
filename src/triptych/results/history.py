"""The logger that writes metrics.csv: every logged number of a run, one row per step."""

import csv
import math
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from triptych.files import atomic_write
from triptych.results.directory import read_history

SECONDS = 1.0
"""Interval between two writes of the step losses; all other metrics are written at once."""
STEP_METRICS = {"train/loss_step", "epoch"}
"""Metrics logged so often that they may be written with a delay."""


class History(Logger):
    """A CSV logger that continues an existing file, which Lightning's CSVLogger would delete.

    All metrics of a step share one row. A run resumed at ``first_step`` drops what was logged from there on, so that
    the file has each step once.

    Args:
        path: the CSV file.
        first_step: the global step from which the run is resumed; 0 drops all that was logged.
    """

    def __init__(self, path: Path, first_step: int = 0) -> None:
        super().__init__()
        self.path = path
        self.rows: dict[int, dict[str, Any]] = {}
        self.columns: list[str] = []
        self.unwritten: dict[int, None] = {}
        self.needs_rewrite = True  # whether the file must be rewritten, not only appended to
        self.write_due, self.last_write = False, 0.0
        if path.exists():
            self.rows = {int(row.pop("step")): row for row in read_history(path) if int(row["step"]) < first_step}
            self.columns = list(dict.fromkeys(name for row in self.rows.values() for name in row))

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def best(self, monitor: str, mode: str) -> dict[str, float]:
        """Return the metrics logged with the best value of the monitor, ignoring NaN; empty if there is none."""
        rows = [row for row in self.rows.values() if monitor in row]
        scored = [row for row in rows if not math.isnan(float(row[monitor]))]
        if not scored:
            return {}
        chosen = (min if mode == "min" else max)(scored, key=lambda row: float(row[monitor]))
        return {name: float(value) for name, value in chosen.items() if name != "train/loss_step"}

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """No-op: the run directory has the config."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        step = step or 0
        if step in self.rows and step not in self.unwritten:
            self.needs_rewrite = True
        self.rows.setdefault(step, {}).update(metrics)
        self.unwritten[step] = None
        self.write_due |= not metrics.keys() <= STEP_METRICS
        new = sorted(set(metrics) - set(self.columns))
        if new:
            self.columns += new
            self.needs_rewrite = True

    @rank_zero_only
    def save(self) -> None:
        # Lightning calls this at every log, and opening and closing a file takes a tenth of a small step.
        if self.write_due or time.monotonic() - self.last_write >= SECONDS:
            self._save()

    def _save(self) -> None:
        if self.needs_rewrite:
            with atomic_write(self.path) as aside:
                self._write(aside, "w", sorted(self.rows))
        elif self.unwritten:
            self._write(self.path, "a", list(self.unwritten))
        self.needs_rewrite = self.write_due = False
        self.last_write = time.monotonic()
        self.unwritten.clear()

    def _write(self, path: Path, mode: str, steps: list[int]) -> None:
        with path.open(mode, newline="") as file:
            table = csv.DictWriter(file, ["step", *self.columns])
            if mode == "w":
                table.writeheader()
            table.writerows({**self.rows[step], "step": step} for step in steps)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self._save()
