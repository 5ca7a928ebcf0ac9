"""What a run directory says about its run, finished or not, read without running or trusting anything in it."""

import math
import re
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from triptych.results.directory import CONFIG, DONE, ERROR, HYDRA, METRICS, resumes
from triptych.results.untrusted import mapping, read_json, read_text, read_yaml

STATES = ("done", "pruned", "diverged", "failed", "interrupted")
"""How a run can stand. ``interrupted`` is one without an end: stopped, killed, or still under way."""
ENDED = ("done", "pruned")
"""The states of a run that ended well, and has results."""
ANEW = re.compile(r"\+*(packages=|data\.cache_dir=|logger\.)")
"""Overrides that may have another value when a run or a sweep goes on, which stays the same for all that: whose code
may run, where caches and logs go."""
DOWNLOADS = re.compile(r"(\+*data\.source=)(?:kaggle|'kaggle'|\"kaggle\")")
"""An override that has the data downloaded first."""
PRIMARY = "config"
"""The primary config of train.py, where no ``--config-name`` says another."""
PLACES = ("hydra.searchpath=", "--config-dir=", "--config-name=")
"""How what is kept of a command line begins that says where a config is read; of the flags a repeated run keeps it."""
DIVERGED = "Diverged"
"""How the ``error.txt`` of a run begins whose loss was no longer a finite number."""


@dataclass(frozen=True)
class Record:
    """A run as its directory tells it; what is missing or damaged is empty, for it may have been killed at any moment.

    Attributes:
        directory: the run directory.
        state: one of STATES.
        error: the first line of ``error.txt``.
        overrides: what was given on the command line or by the sweeper.
        metrics: what ``metrics.json`` holds.
        changes: the values that were given when the run was resumed, in order.
    """

    directory: Path
    state: str
    error: str = ""
    overrides: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The job's number in a sweep, else the run's id."""
        return self.directory.resolve().name  # not `latest`

    @property
    def ended(self) -> bool:
        """Whether the run ended well, and has results."""
        return self.state in ENDED

    @property
    def arm(self) -> str:
        """The arm of a study that the run is of; empty where it is of none."""
        # Not from the overrides, where it is quoted and escaped.
        arm = mapping(self.config.get("study")).get("arm", "")
        return str(arm) if isinstance(arm, str | int | float) else ""

    @property
    def monitor(self) -> str:
        """The metric that picks the best epoch, such as ``val/rmse``."""
        return str(self.metrics.get("monitor") or self.config.get("monitor") or "")

    @property
    def mode(self) -> str:
        """``min`` or ``max``: which monitor is better."""
        return "max" if self.config.get("mode") == "max" else "min"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The config as composed, or as the last resume changed it, references not filled in."""
        resumed = [folder / CONFIG.name for folder in reversed(resumes(self.directory))]
        found = (read_yaml(path) for path in (*resumed, self.directory / CONFIG))
        return next((config for config in found if isinstance(config, dict)), {})

    @property
    def damage(self) -> str:
        """Why a run that has its DONE counts as interrupted all the same; empty where that is not so."""
        if self.state != "interrupted" or not (self.directory / DONE).exists():
            return ""
        return f"it is done, but its {METRICS} is {'damaged' if (self.directory / METRICS).exists() else 'missing'}"

    @property
    def settings(self) -> dict[str, str]:
        """What was given, as it was at the run's end, as key and value.

        Without what only tells the sweep apart (``study=``, ``search=``), and where a resume put logs and caches.
        """
        changes = (change for change in self.changes if not ANEW.match(change))
        pairs = (as_read(given).lstrip("+").partition("=")[::2] for given in (*self.overrides, *changes))
        return {key: value for key, value in pairs if key.partition(".")[0] not in ("study", "search")}

    @property
    def arguments(self) -> list[str]:
        """The overrides that repeat the run, by itself also if it was one of a sweep, and as it was at its end."""
        kept = [line for line in self.overrides if re.split(r"[.=]", line.lstrip("+"))[0] not in ("study", "search")]
        for change in self.changes:
            key = change.partition("=")[0]
            kept = [*(line for line in kept if line.partition("=")[0] != key), change]
        return kept

    @cached_property
    def places(self) -> list[str]:
        """The arguments that say where else than in conf/ the run's config was read; see ``config_places``."""
        return config_places(mapping(read_yaml(self.directory / HYDRA)).get("hydra"))

    @property
    def command(self) -> str:
        """The command that repeats the run, quoted for a shell. Only to be shown: its directory may be a stranger's."""
        return shlex.join(["python", "train.py", *self.places, *self.arguments])

    def best(self, name: str) -> float | None:
        """A metric of the best epoch, such as ``val/rmse``; None where it is missing or no finite number."""
        return finite(mapping(self.metrics.get("best")).get(name))

    def test(self, name: str) -> float | None:
        """A metric of the test split, such as ``test/rmse``."""
        return finite(mapping(self.metrics.get("test")).get(name))

    def number(self, name: str) -> float | None:
        """A number at the top of ``metrics.json``, such as ``seconds``."""
        return finite(self.metrics.get(name))


def as_read(override: str) -> str:
    """The override; of one that has the data downloaded first, the one that reads them once they are there."""
    found = DOWNLOADS.fullmatch(override)
    return f"{found[1]}files" if found else override


def config_places(hydra: Any) -> list[str]:
    """The arguments that say where else than in conf/ a config is read: ``--config-dir=``, ``--config-name=`` and such.

    Args:
        hydra: what Hydra kept of itself, below ``hydra`` in the config. It may be a stranger's, and the files at such a
            place can name any code to run: so what is found is to be shown, not followed.
    """
    kept = mapping(hydra)
    sources = mapping(kept.get("runtime")).get("config_sources")
    found = [mapping(source) for source in sources] if isinstance(sources, list) else []
    places = [f"--config-dir={source.get('path')}" for source in found if source.get("provider") == "command-line"]
    name = mapping(kept.get("job")).get("config_name")
    if isinstance(name, str) and name.removesuffix(".yaml") != PRIMARY:
        places.append(f"--config-name={name}")
    given = mapping(kept.get("overrides")).get("hydra")
    lines = given if isinstance(given, list) else []
    return places + [line for line in lines if isinstance(line, str) and line.startswith(PLACES)]


def read_record(directory: Path) -> Record:
    """Read one run directory."""
    metrics = _json(directory / METRICS)
    changes = [line for folder in resumes(directory) for line in _overrides(folder)]
    error = _first_line(directory / ERROR)
    if (directory / DONE).exists() and metrics:
        state = "pruned" if metrics.get("pruned") else "done"
    elif error:
        state = "diverged" if error.startswith(DIVERGED) else "failed"
    else:
        state = "interrupted"
    return Record(directory, state, error, _overrides(directory / ".hydra"), metrics, changes)


def read_records(folders: Iterable[Path]) -> list[Record]:
    """The runs that the folders are or hold (a sweep holds one a job), each once, in the order of their numbers.

    Raises:
        ValueError: a folder is no run and holds none.
    """
    found: dict[Path, Record] = {}
    for folder in folders:
        # A job that was killed while it began has the folder and not yet the file, one that failed before it an error.
        jobs = [path.parent for path in folder.glob(f"*/{CONFIG.parent}")]
        jobs += [path.parent for path in folder.glob(f"*/{ERROR}") if path.parent.name.isdecimal()]
        inside = [folder] if (folder / CONFIG).exists() else jobs
        if not inside:
            raise ValueError(f"{folder} is no run and no sweep: there is no {CONFIG} in it or in a folder below it")
        for directory in sorted(inside, key=_order):
            found.setdefault(directory.resolve(), read_record(directory))
    return list(found.values())


def _overrides(folder: Path) -> list[str]:
    lines = read_yaml(folder / "overrides.yaml")
    return [line for line in lines if isinstance(line, str)] if isinstance(lines, list) else []


def _order(directory: Path) -> tuple[float, str]:
    name = directory.name
    return (int(name) if name.isdecimal() else math.inf, name)


def finite(value: Any) -> float | None:
    """The value as a number; None where it is none, or no finite one."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    # An int can be larger than any float.
    return float(value) if abs(value) <= sys.float_info.max else None


def _json(path: Path) -> dict[str, Any]:
    try:
        return mapping(read_json(path))
    except (OSError, ValueError):
        return {}


def _first_line(path: Path) -> str:
    try:
        return read_text(path, errors="replace").strip().partition("\n")[0]
    except (OSError, ValueError):
        return ""
