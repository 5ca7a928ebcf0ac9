"""The run directory: its layout, how to find one, and how its files are written and read."""

import csv
import io
import json
import os
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from triptych.files import atomic_write
from triptych.results.untrusted import read_json, read_text

LOGS = Path("logs")
"""Folder of all runs, relative to the working directory."""
DONE = "DONE"
ERROR = "error.txt"
"""What went wrong, message first, in the directory of a run that was refused or of a job that failed."""
METRICS = "metrics.json"
CONFIG = Path(".hydra") / "config.yaml"
HYDRA = Path(".hydra") / "hydra.yaml"
"""Hydra's own config, which it saves beside the run's."""
RESUMED = Path(".hydra") / "resumed.json"
LOCK = Path(".hydra") / "lock"
"""Lock held by the process that trains in the directory; the kernel releases it however that process ends."""
SWEEP_LOCK = ".lock"
"""The same for the directory of a sweep, held by the process that runs the sweep."""
REPORT = "report.html"
"""The last file that a sweep writes."""
SWEEP = "multirun.yaml"
"""The config and command line of a sweep, written by its sweeper into the sweep's directory."""


def new_run_id() -> str:
    """Return the time to the second plus ten random hex digits, so that a thousand runs a second do not collide."""
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{secrets.token_hex(5)}"


def link_latest(directory: Path, experiment: str, logs: Path = LOGS) -> None:
    """Point ``logs/<experiment>/latest`` at ``directory``, atomically: other runs may do so at the same time."""
    folder = logs / experiment
    folder.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(directory.resolve(), folder.resolve())
    aside = folder / f".latest-{secrets.token_hex(4)}"
    try:
        aside.symlink_to(target, target_is_directory=True)
        aside.replace(folder / "latest")
    except OSError:
        # No symbolic links (Windows without the privilege), or a folder of that name. The run does not need the link.
        aside.unlink(missing_ok=True)


@contextmanager
def try_lock(lock_file: Path) -> Iterator[bool]:
    """Try to hold a lock; yield False if another process holds it, True otherwise, even if files cannot be locked."""
    from filelock import FileLock, Timeout

    # On a file system without locks, the fallback would be a marker file, which a killed process leaves behind.
    lock = FileLock(lock_file, fallback_to_soft=False)
    free = True
    try:
        lock.acquire(blocking=False)
    except Timeout:
        free = False
    except OSError:
        pass  # if the directory is not writable, the run itself will say so
    try:
        yield free
    finally:
        lock.release()


def is_locked(lock_file: Path) -> bool:
    """Whether some process holds the lock."""
    if not lock_file.exists():
        return False
    with try_lock(lock_file) as free:
        return not free


def find_run(name: str, logs: Path = LOGS, unfinished: bool = False, free: bool = False) -> Path:
    """Return the run directory at a path or, for ``latest``, the newest one of any experiment.

    Args:
        name: a path or ``latest``.
        logs: folder with one subfolder per experiment.
        unfinished: whether ``latest`` means the newest run without DONE.
        free: with ``unfinished``, skip runs that a process is training right now.

    Raises:
        ValueError: there is no such directory, it is no run, or no run qualifies as ``latest``.
    """
    if name == "latest":
        links = [link for link in logs.glob("*/latest") if (link / CONFIG).exists()]
        runs = {link.resolve() for link in links}
        runs |= {config.parent.parent.resolve() for config in logs.glob(f"*/*/{CONFIG}")}
        runs |= {config.parent.parent.resolve() for config in logs.glob(f"sweeps/*/*/{CONFIG}")}
        # Leave out runs that were refused: they never began.
        runs = {run for run in runs if (run / "checkpoints").exists() or not (run / ERROR).exists()}
        if not runs:
            raise ValueError(f"no run below {logs.absolute()}: train one first")
        newest = sorted(runs, key=lambda run: (run / CONFIG).stat().st_mtime_ns, reverse=True)
        if not unfinished:
            return newest[0]
        left = [run for run in newest if not (run / DONE).exists()]
        if waiting := next((run for run in left if not (free and is_locked(run / LOCK))), None):
            return waiting
        longer = [f"{shlex.quote(f'resume={run}')} trainer.max_epochs=N" for run in newest if (run / DONE).exists()]
        hint = f"; name one to train it for longer, {longer[0]}" if longer else ""
        raise ValueError(f"no unfinished run in {logs.absolute()}: all have ended or are still training{hint}")
    directory = Path(name)
    if not (directory / CONFIG).is_file():
        near = [place / "latest" for place in (directory, logs / name)] + list(directory.parents)
        near = [place for place in near if (place / CONFIG).is_file()]
        hint = f"; did you mean {near[0]}?" if near else ""
        if (directory / SWEEP).is_file():
            hint = f"; it is a sweep: name one of its runs, such as {directory / '0'}"
        raise ValueError(f"{directory} is not a run directory: there is no {directory / CONFIG}{hint}")
    return directory.resolve()


def resumes(directory: Path) -> list[Path]:
    """Return the ``.hydra/resume-N`` folders, one for each time the run was resumed, in order."""
    folders = [path for path in directory.glob(".hydra/resume-*") if path.name[7:].isdecimal()]
    return sorted(folders, key=lambda path: int(path.name[7:]))


def resumed_steps(directory: Path) -> list[int]:
    """Return the global steps from which a run was resumed, in order; empty if the file is missing or damaged."""
    try:
        steps = read_json(directory / RESUMED)["steps"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return steps if isinstance(steps, list) and all(type(step) is int for step in steps) else []


def record_resume(directory: Path, step: int) -> None:
    """Append a step to ``resumed_steps``; it is on disk at once, so a later interruption does not lose it."""
    write_json(directory / RESUMED, {"steps": [*resumed_steps(directory), step]})


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically. NaN and infinities, which JSON lacks, become null."""
    with atomic_write(path) as aside:
        aside.write_text(json.dumps(_finite(content), indent=2) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value


def read_metrics(directory: Path) -> dict[str, Any]:
    """Return the content of a run's ``metrics.json``.

    Raises:
        ValueError: it is missing or damaged.
    """
    path = directory / METRICS
    try:
        found = read_json(path)
        if not isinstance(found, dict):
            raise ValueError("no mapping")
        return found
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): has the run ended?") from error


def read_history(path: Path) -> list[dict[str, str]]:
    """Return the rows of a ``metrics.csv`` as text; a row lacks the metrics that were not logged at its step.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged or not a text file.
    """
    text = read_text(path)
    # A killed run can leave an incomplete last row.
    whole = io.StringIO(text[: text.rfind("\n") + 1])
    try:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(whole)]
    except csv.Error as error:
        raise ValueError(f"{path} is damaged: {error}") from error
