"""Render results.csv, with one row per run.

A spreadsheet executes a cell that looks like a formula (``=cmd|...``), so such text is prefixed with an apostrophe.
"""

import csv
import io
import os
from pathlib import Path

from triptych.results.record import Record
from triptych.results.report.comparison import Comparison, metric, metric_names
from triptych.results.report.settings import settings_of
from triptych.results.report.text import number
from triptych.terminal import harmless

NUMBERS = ("seconds", "epochs", "steps", "parameters")
EPOCH = "epoch"
"""The entry of the best metrics that holds their epoch."""


def results(comparison: Comparison, output: Path) -> str:
    """Return the CSV table of all runs, the best first and runs without a rank last.

    Args:
        comparison: the compared runs.
        output: the folder of the table, to which run directories are relative.
    """
    ranked = [record for ranking in comparison.rankings for record in ranking.ranked]
    known = {record.directory for record in ranked}
    records = [*ranked, *(record for record in comparison.records if record.directory not in known)]
    settings = {record.directory: settings_of(record) for record in records}
    keys = list(dict.fromkeys(key for given in settings.values() for key in given))
    names = list(dict.fromkeys(name for record in records for name in metric_names(record)))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    header = ["best_epoch" if name == EPOCH else name for name in names]
    table.writerow(map(_text, ["run", "directory", "state", *keys, *header, *NUMBERS, "error"]))
    for record in records:
        table.writerow(
            _text(cell)
            for cell in [
                comparison.labels[record.directory],
                os.path.relpath(record.directory.resolve(), output.resolve()),
                record.state,
                *(settings[record.directory].get(key, "") for key in keys),
                *(_measured(record, name) for name in names),
                *(record.number(name) for name in NUMBERS),
                record.error or record.damage,
            ]
        )
    return text.getvalue()


def _text(cell: object) -> object:
    """Neutralise formulas and control characters in a text cell; numbers stay numbers."""
    if not isinstance(cell, str):
        return cell
    line = harmless(cell)
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) and number(line) is None else line


def _measured(record: Record, name: str) -> float | None:
    """Return a metric of a run, whether or not it ended normally."""
    value = metric(record, name)
    # Epochs count from 0; here, beside the number of epochs, it is the number trained by then.
    return value + 1 if name == EPOCH and value is not None else value
