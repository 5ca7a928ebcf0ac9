"""The Hydra callback at the end of a sweep: writes its report and sets the exit code."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from triptych.results.directory import REPORT
from triptych.results.record import ENDED, Record, read_records

unrecorded_failures: dict[Path, str] = {}
"""Failed jobs of this process's sweep whose directories do not record it, with the reason; filled by the launchers."""


class SweepSummary(Callback):
    """Callback that reports on the runs; exits with 1 if any failed, was interrupted or, outside a study, diverged."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        try:
            records = read_records([folder])
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        _report(folder, records)
        here = folder.absolute()
        missing = {directory: why for directory, why in unrecorded_failures.items() if directory.parent == here}
        for directory, why in missing.items():
            print(f"job {directory.name} failed, which the report cannot tell: {why}", file=sys.stderr)
        # In a study, a diverged run is a finding, not a failure.
        well = (*ENDED, "diverged") if config.get("study") else ENDED
        if missing or any(record.state not in well for record in records):
            # Hydra turns exceptions of its callbacks into warnings, but not SystemExit.
            sys.exit(1)


def _report(folder: Path, records: list[Record]) -> None:
    """Print and write the report; if that fails, print the error and the state of each run instead."""
    from triptych.results.report import report
    from triptych.results.report.text import printable

    try:
        written = report([folder], apart=True)
    except Exception as error:
        # An error in the report must not change the outcome of the sweep.
        print(f"The report could not be made ({type(error).__name__}: {error}). Again: triptych report {folder}")
        for record in records:
            print(printable(f"run {record.name}: {record.state} {record.error}"))
    else:
        print(f"\nreport {written.folder / REPORT}")
    print(f"sweep  {folder}")
