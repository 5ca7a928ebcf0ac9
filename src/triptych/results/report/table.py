"""results.csv: one row a run.

A spreadsheet runs a cell that starts as a formula does (``=cmd|...``). Such text of a run gets an apostrophe before it.
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
"""Among the best metrics: the epoch they are of."""


def results(comparison: Comparison, output: Path) -> str:
    """The table of all runs, the best first, what has no rank after them.

    Args:
        comparison: the runs.
        output: the folder of the table: directories are told from there.
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
    """The cell, which no spreadsheet takes for a formula and no terminal for a command; numbers stay numbers."""
    if not isinstance(cell, str):
        return cell
    line = harmless(cell)
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) and number(line) is None else line


def _measured(record: Record, name: str) -> float | None:
    """Of a run that ended or not: what was measured was measured."""
    value = metric(record, name)
    # It counts from 0; here it stands beside the number of epochs, and says how many had been trained.
    return value + 1 if name == EPOCH and value is not None else value
