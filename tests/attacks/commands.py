"""The commands that read a run directory, run in this process on one that may be untrusted."""

from collections.abc import Callable
from pathlib import Path

from triptych import cli, job
from triptych.config import ConfigError
from triptych.resume import parse_resumption
from triptych.terminal import harmless


def _triptych(*arguments: str | Path) -> int:
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    raise AssertionError("a command ends with an exit code")


def evaluate(run: Path, table: Path) -> int:
    return _triptych("evaluate", run)


def predict(run: Path, table: Path) -> int:
    return _triptych("predict", run, table, "--output", run.parent / "predicted")


def report(run: Path, table: Path) -> int:
    return _triptych("report", run, "--output", run.parent / "report")


def export(run: Path, table: Path) -> int:
    # The format that needs no further package and is faster to write.
    return _triptych("export", run, "--format", "torch")


def reproduce(run: Path, table: Path) -> int:
    return _triptych("reproduce", run, "--output", run.parent / "again")


def resume(run: Path, table: Path) -> int:
    # As train.py does.
    try:
        resumed = parse_resumption([f"resume={run}"])
    except ConfigError as error:
        print(f"error: {harmless(error)}")
        return 2
    assert resumed is not None
    return job.resume_run(resumed)


COMMANDS: dict[str, Callable[[Path, Path], int]] = {
    command.__name__: command for command in (evaluate, predict, export, report, resume, reproduce)
}
"""Commands by name; each takes the run directory and a housing table, and returns the exit code."""
