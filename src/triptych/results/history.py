"""metrics.csv: every logged number of a run, one row a step."""

import csv
import math
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from triptych.files import replaced
from triptych.results.directory import read_history

SECONDS = 1.0
"""Between two writes of the steps' losses; all else is written at once."""
OFTEN = {"train/loss_step", "epoch"}
"""What is logged so often that the file need not have it at once."""


class History(Logger):
    """Lightning's CSVLogger deletes the file that it finds; this one goes on with it.

    Rows at one step are one row. A run resumed at ``first_step`` overwrites what was logged from there on, so that the
    file holds each step once.

    Args:
        path: the CSV file.
        first_step: the global step at which this part of the run starts.
    """

    def __init__(self, path: Path, first_step: int = 0) -> None:
        super().__init__()
        self.path = path
        self.rows: dict[int, dict[str, Any]] = {}
        self.columns: list[str] = []
        self.unwritten: dict[int, None] = {}
        self.stale = True  # whether the file must be written anew, not only added to
        self.due, self.written = False, 0.0
        if path.exists():
            self.rows = {int(row.pop("step")): row for row in read_history(path) if int(row["step"]) < first_step}
            self.columns = sorted({name for row in self.rows.values() for name in row})

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def best(self, monitor: str, mode: str) -> dict[str, float]:
        """What was logged at the end of the epoch with the best monitor; nothing where none was validated."""
        rows = [row for row in self.rows.values() if monitor in row]
        scored = [row for row in rows if not math.isnan(float(row[monitor]))]
        if not scored:
            return {}
        chosen = (min if mode == "min" else max)(scored, key=lambda row: float(row[monitor]))
        return {name: float(value) for name, value in chosen.items() if name != "train/loss_step"}

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run directory holds the config."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        step = step or 0
        if step in self.rows and step not in self.unwritten:
            self.stale = True
        self.rows.setdefault(step, {}).update(metrics)
        self.unwritten[step] = None
        self.due |= not metrics.keys() <= OFTEN
        new = sorted(set(metrics) - set(self.columns))
        if new:
            self.columns += new
            self.stale = True

    @rank_zero_only
    def save(self) -> None:
        # Lightning asks for it at each log, and a file opened and closed takes as long as a tenth of a small step.
        if self.due or time.monotonic() - self.written >= SECONDS:
            self._save()

    def _save(self) -> None:
        if self.stale:
            with replaced(self.path) as aside:
                self._write(aside, "w", sorted(self.rows))
        elif self.unwritten:
            self._write(self.path, "a", list(self.unwritten))
        self.stale = self.due = False
        self.written = time.monotonic()
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
