"""The run directory: what lies where in it, how it is found again, how its files are written and read."""

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

from triptych.files import replaced
from triptych.results.untrusted import read_json, read_text

LOGS = Path("logs")
"""Where runs land, below the folder from which one starts them."""
DONE = "DONE"
ERROR = "error.txt"
"""In the directory of a run that was refused, or of a job that failed: what went wrong, the message first."""
METRICS = "metrics.json"
CONFIG = Path(".hydra") / "config.yaml"
HYDRA = Path(".hydra") / "hydra.yaml"
"""What Hydra keeps of itself beside a run's config."""
RESUMED = Path(".hydra") / "resumed.json"
LOCK = Path(".hydra") / "lock"
"""Held by the process that trains in the directory; the kernel frees it, however that process ends."""
SWEEP_LOCK = ".lock"
"""The same in the directory of a sweep, held by the process that runs it."""
REPORT = "report.html"
"""The last file that a sweep writes, at its end."""
SWEEP = "multirun.yaml"
"""In the directory of a sweep, written by its sweeper: the config and the command line."""


def new_run_id() -> str:
    """The time to the second, and ten random digits: of a thousand runs in one second no two collide."""
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{secrets.token_hex(5)}"


def link_latest(directory: Path, experiment: str, logs: Path = LOGS) -> None:
    """Point ``logs/<experiment>/latest`` at ``directory``; in one step, for other runs may do so at the same time."""
    folder = logs / experiment
    folder.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(directory.resolve(), folder.resolve())
    aside = folder / f".latest-{secrets.token_hex(4)}"
    try:
        aside.symlink_to(target, target_is_directory=True)
        aside.replace(folder / "latest")
    except OSError:
        # No symbolic links here (Windows without the right), or a folder of that name: the run does not need it.
        aside.unlink(missing_ok=True)


@contextmanager
def held(lock_file: Path) -> Iterator[bool]:
    """Hold a lock; yields False where another process holds it, and True too where files cannot be locked."""
    from filelock import FileLock, Timeout

    # In place of a lock that the file system lacks there would be a mark, which a killed process leaves behind.
    lock = FileLock(lock_file, fallback_to_soft=False)
    free = True
    try:
        lock.acquire(blocking=False)
    except Timeout:
        free = False
    except OSError:
        pass  # where it cannot write, the run itself will say so
    try:
        yield free
    finally:
        lock.release()


def in_use(lock_file: Path) -> bool:
    """Whether a process holds a lock."""
    if not lock_file.exists():
        return False
    with held(lock_file) as free:
        return not free


def find_run(name: str, logs: Path = LOGS, unfinished: bool = False, free: bool = False) -> Path:
    """The run directory with this path, or with ``latest`` the newest of any experiment.

    Args:
        name: a path or ``latest``.
        logs: folder with one folder an experiment.
        unfinished: whether ``latest`` is to be the newest without DONE.
        free: whether that is to be one that no process is training.

    Raises:
        ValueError: there is no such directory, or it holds no run.
    """
    if name == "latest":
        links = [link for link in logs.glob("*/latest") if (link / CONFIG).exists()]
        runs = {link.resolve() for link in links}
        runs |= {config.parent.parent.resolve() for config in logs.glob(f"*/*/{CONFIG}")}
        runs |= {config.parent.parent.resolve() for config in logs.glob(f"sweeps/*/*/{CONFIG}")}
        # A run that was refused never began.
        runs = {run for run in runs if (run / "checkpoints").exists() or not (run / ERROR).exists()}
        if not runs:
            raise ValueError(f"no run below {logs.absolute()}: train one first")
        newest = sorted(runs, key=lambda run: (run / CONFIG).stat().st_mtime_ns, reverse=True)
        if not unfinished:
            return newest[0]
        left = [run for run in newest if not (run / DONE).exists()]
        if waiting := next((run for run in left if not (free and in_use(run / LOCK))), None):
            return waiting
        longer = [f"{shlex.quote(f'resume={run}')} trainer.max_epochs=N" for run in newest if (run / DONE).exists()]
        hint = f"; name one to train it for longer, {longer[0]}" if longer else ""
        raise ValueError(f"no unfinished run below {logs.absolute()}: all are done or under way{hint}")
    directory = Path(name)
    if not (directory / CONFIG).is_file():
        newest = [place / "latest" for place in (directory, logs / name) if (place / "latest" / CONFIG).is_file()]
        hint = f"; did you mean {newest[0]}?" if newest else ""
        raise ValueError(f"{directory} is no run directory: there is no {directory / CONFIG}{hint}")
    return directory.resolve()


def resumes(directory: Path) -> list[Path]:
    """The folders that the run's resumes left beside its first config, in order."""
    folders = [path for path in directory.glob(".hydra/resume-*") if path.name[7:].isdecimal()]
    return sorted(folders, key=lambda path: int(path.name[7:]))


def resumed_steps(directory: Path) -> list[int]:
    """The global steps that a run was resumed from, in order; none where the file is missing or damaged."""
    try:
        steps = read_json(directory / RESUMED)["steps"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return steps if isinstance(steps, list) and all(type(step) is int for step in steps) else []


def record_resume(directory: Path, step: int) -> None:
    """Add a step to ``resumed_steps``, which an interruption later on leaves as they are."""
    write_json(directory / RESUMED, {"steps": [*resumed_steps(directory), step]})


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write the file whole or not at all. NaN and infinities, which JSON lacks, become null."""
    with replaced(path) as aside:
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
    """What ``metrics.json`` of a run holds."""
    path = directory / METRICS
    try:
        found = read_json(path)
        if not isinstance(found, dict):
            raise ValueError("no mapping")
        return found
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): has the run ended?") from error


def read_history(path: Path) -> list[dict[str, str]]:
    """The rows of a ``metrics.csv``, as text; what was not logged at a step is left out.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such table.
    """
    text = read_text(path)
    # A run that was killed can leave half a row at the end.
    whole = io.StringIO(text[: text.rfind("\n") + 1])
    try:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(whole)]
    except csv.Error as error:
        raise ValueError(f"{path} is damaged: {error}") from error
