"""The settings that distinguish runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from triptych.dotted import show
from triptych.results.directory import HYDRA
from triptych.results.record import Record
from triptych.results.report.text import number, printable
from triptych.results.untrusted import mapping, read_yaml

REPEATS = ("seed", "data.fold", "data.split_seed")
"""Runs that differ only in these are repetitions: compared by their mean, with their deviation as uncertainty."""
ARM = "arm"
"""The key under which the arm of a study appears among a run's settings."""

Settings = dict[str, str]


def settings_of(record: Record) -> Settings:
    """Return the overrides of a run by key, preceded by its arm if it belongs to a study."""
    arm = {ARM: record.arm} if record.arm else {}
    return arm | record.settings


def swept(records: Sequence[Record]) -> dict[Path, Settings]:
    """Return, by run directory, the settings in which the runs differ, all with the same keys in the same order.

    For a key that only other runs override, the value is taken from the run's saved config. A run that failed before
    it had a config does not count as different.
    """
    given = {record.directory: settings_of(record) for record in records}
    keys = dict.fromkeys(key for settings in given.values() for key in settings)
    whole = {
        record.directory: {
            key: given[record.directory][key] if key in given[record.directory] else _saved(record, key) for key in keys
        }
        for record in records
    }
    begun = [whole[record.directory] for record in records if record.config]
    different = [key for key in keys if len({same(settings[key]) for settings in begun}) > 1]
    return {directory: {key: printable(settings[key]) for key in different} for directory, settings in whole.items()}


def same(value: str) -> float | str:
    """Return a form in which equal settings compare equal: a number if the text is one, so that 1e-3 equals 0.001."""
    found = number(value)
    return value if found is None else found


def _saved(record: Record, key: str) -> str:
    """Return the value of a key, or the chosen option of a config group, from a run's saved config."""
    value: Any = record.config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, dict):
        value = _choices(record.directory).get(key)
    # An unresolved reference to another key is not a value.
    is_nothing = (value is None and key == ARM) or str(value).startswith("${")
    return "" if is_nothing else show(value)


def _choices(directory: Path) -> dict[str, Any]:
    """Return the option that the run chose in each config group."""
    found = read_yaml(directory / HYDRA)
    for name in ("hydra", "runtime", "choices"):
        found = mapping(found).get(name)
    return mapping(found)
