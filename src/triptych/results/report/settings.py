"""What tells runs apart: the settings in which they differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from triptych.dotted import show
from triptych.results.directory import HYDRA
from triptych.results.record import Record
from triptych.results.report.text import number, printable
from triptych.results.untrusted import mapping, read_yaml

REPEATS = ("seed", "data.fold", "data.split_seed")
"""Runs that differ in these alone repeat one another: their mean is what counts, their deviation its uncertainty."""
ARM = "arm"
"""Of a study: the name that a run's settings have there."""

Settings = dict[str, str]


def settings_of(record: Record) -> Settings:
    """The overrides of a run as key and value, the arm of a study first."""
    arm = {ARM: record.arm} if record.arm else {}
    return arm | record.settings


def swept(records: Sequence[Record]) -> dict[Path, Settings]:
    """By run directory, the settings in which the runs differ, each with the same keys in the same order.

    A run that was not given a key that another was given has it from its saved config; one that failed before it had
    any config differs in nothing.
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
    """What equal settings have in common: 1e-3 is 0.001."""
    found = number(value)
    return value if found is None else found


def _saved(record: Record, key: str) -> str:
    """The value of a key, or the choice of a group, that no override gave."""
    value: Any = record.config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, dict):
        value = _choices(record.directory).get(key)
    # A reference to another key says nothing by itself.
    is_nothing = (value is None and key == ARM) or str(value).startswith("${")
    return "" if is_nothing else show(value)


def _choices(directory: Path) -> dict[str, Any]:
    """Which option of each group the run had."""
    found = read_yaml(directory / HYDRA)
    for name in ("hydra", "runtime", "choices"):
        found = mapping(found).get(name)
    return mapping(found)
