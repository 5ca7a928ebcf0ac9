"""Read what a run directory records about its run, finished or not, without trusting or executing any of it."""

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
"""The states of a run; ``interrupted`` covers one that was stopped or killed, or that is still running."""
ENDED = ("done", "pruned")
"""The states of a run that ended normally and has results."""
ANEW = re.compile(r"\+*(packages=|data\.cache_dir=|logger\.)")
"""Overrides that may change when a run or sweep is resumed without making it a different one: whose code may run,
where caches and logs go."""
DOWNLOADS = re.compile(r"(\+*data\.source=)(?:kaggle|'kaggle'|\"kaggle\")")
"""An override that makes the run download its data first."""
PRIMARY = "config"
"""The primary config of train.py, unless ``--config-name`` names another."""
PLACES = ("hydra.searchpath=", "--config-dir=", "--config-name=")
"""Prefixes of the saved Hydra overrides that say where configs are read; a repeated run keeps such flags there too."""
DIVERGED = "Diverged"
"""Prefix of the ``error.txt`` of a run whose loss became NaN or infinite."""


@dataclass(frozen=True)
class Record:
    """A run as recorded in its directory; missing or damaged parts are empty, since it may be killed at any moment.

    Attributes:
        directory: the run directory.
        state: one of STATES.
        error: the first line of ``error.txt``.
        overrides: the overrides from the command line or the sweeper.
        metrics: the content of ``metrics.json``.
        changes: the overrides that were given when the run was resumed, in order.
    """

    directory: Path
    state: str
    error: str = ""
    overrides: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The job number in a sweep, otherwise the run id."""
        return self.directory.resolve().name  # not `latest`

    @property
    def ended(self) -> bool:
        """Whether the run ended normally and has results."""
        return self.state in ENDED

    @property
    def arm(self) -> str:
        """The arm of a study that the run belongs to; empty if none."""
        # Not from the overrides, where the name is quoted and escaped.
        arm = mapping(self.config.get("study")).get("arm", "")
        return str(arm) if isinstance(arm, str | int | float) else ""

    @property
    def monitor(self) -> str:
        """The metric that selects the best epoch, such as ``val/rmse``."""
        return str(self.metrics.get("monitor") or self.config.get("monitor") or "")

    @property
    def mode(self) -> str:
        """``min`` or ``max``: which values of the monitor are better."""
        return "max" if self.config.get("mode") == "max" else "min"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The composed config, as changed by the last resume; references such as ``${monitor}`` are not resolved."""
        resumed = [folder / CONFIG.name for folder in reversed(resumes(self.directory))]
        found = (read_yaml(path) for path in (*resumed, self.directory / CONFIG))
        return next((config for config in found if isinstance(config, dict)), {})

    @property
    def damage(self) -> str:
        """Why a run counts as interrupted although it has a DONE file; empty for all other runs."""
        if self.state != "interrupted" or not (self.directory / DONE).exists():
            return ""
        return f"it is done, but its {METRICS} is {'damaged' if (self.directory / METRICS).exists() else 'missing'}"

    @property
    def settings(self) -> dict[str, str]:
        """The overrides as they were at the end of the run, by key.

        Without those that only describe the sweep (``study=``, ``search=``), and those of a resume that match ANEW.
        """
        changes = (change for change in self.changes if not ANEW.match(change))
        pairs = (as_read(given).lstrip("+").partition("=")[::2] for given in (*self.overrides, *changes))
        return {key: value for key, value in pairs if key.partition(".")[0] not in ("study", "search")}

    @property
    def arguments(self) -> list[str]:
        """The overrides that repeat the run as it was at its end, on its own even if it was a job of a sweep."""
        kept = [line for line in self.overrides if re.split(r"[.=]", line.lstrip("+"))[0] not in ("study", "search")]
        for change in self.changes:
            key = change.partition("=")[0]
            kept = [*(line for line in kept if line.partition("=")[0] != key), change]
        return kept

    @cached_property
    def places(self) -> list[str]:
        """The arguments that add places other than conf/ to read the run's config from; see ``config_places``."""
        return config_places(mapping(read_yaml(self.directory / HYDRA)).get("hydra"))

    @property
    def command(self) -> str:
        """The command that repeats the run, quoted for a shell. Only for display: the directory may be untrusted."""
        return shlex.join(["python", "train.py", *self.places, *self.arguments])

    def best(self, name: str) -> float | None:
        """Return a metric of the best epoch, such as ``val/rmse``; None if it is missing, NaN or infinite."""
        return finite(mapping(self.metrics.get("best")).get(name))

    def test(self, name: str) -> float | None:
        """Return a metric of the test split, such as ``test/rmse``; None if it is missing, NaN or infinite."""
        return finite(mapping(self.metrics.get("test")).get(name))

    def number(self, name: str) -> float | None:
        """Return a top-level number of ``metrics.json``, such as ``seconds``; None if missing, NaN or infinite."""
        return finite(self.metrics.get(name))


def as_read(override: str) -> str:
    """Return the override, but ``data.source=files`` for ``data.source=kaggle``: the data are there by then."""
    found = DOWNLOADS.fullmatch(override)
    return f"{found[1]}files" if found else override


def config_places(hydra: Any) -> list[str]:
    """Return the arguments that add config places other than conf/, such as ``--config-dir=`` and ``--config-name=``.

    Args:
        hydra: Hydra's own config, the content of its key ``hydra``. It may be untrusted, and config files at such a
            place can name any code to run, so the result is for display and must not be followed.
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
    """Read one run directory; never raises for missing or damaged files."""
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
    """Read the runs that the folders are or contain (a sweep has one per job), each once, ordered by job number.

    Raises:
        ValueError: a folder is no run and contains none.
    """
    found: dict[Path, Record] = {}
    for folder in folders:
        # A job killed at its start has .hydra/ but no config.yaml yet; one that failed even earlier has only an error.
        jobs = [path.parent for path in folder.glob(f"*/{CONFIG.parent}")]
        jobs += [path.parent for path in folder.glob(f"*/{ERROR}") if path.parent.name.isdecimal()]
        inside = [folder] if (folder / CONFIG).exists() else jobs
        if not inside:
            raise ValueError(f"{folder} is neither a run nor a sweep: no {CONFIG} in it or in a folder below it")
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
    """Return the value as a float; None unless it is a finite number (booleans are not)."""
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
