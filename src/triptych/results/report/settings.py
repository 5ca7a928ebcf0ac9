"""The settings that distinguish runs."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from triptych.dotted import show
from triptych.results.directory import HYDRA
from triptych.results.record import Record
from triptych.results.report.text import number, printable
from triptych.results.untrusted import mapping, read_yaml

REPEATS = ("seed", "data.fold", "data.split_seed")
"""Runs that differ only in these are repetitions: compared by their mean, with their deviation as uncertainty."""
ARM = "arm"
"""The key under which the arm of a study appears among a run's settings."""
NUMBER_OR_SHARE = re.compile(r"data\.train_size|trainer\.(limit_\w+_batches|overfit_batches|val_check_interval)")
"""Keys for which the whole number 1 is one sample or batch, and the decimal 1.0 all of them."""
ALL = "100%"
"""The value of such a key that is a share of 1.0, where a run with the whole number 1 is compared with it."""
LONGEST = 1000
"""Characters of a value that is parsed; a run directory may come from somebody else."""

Settings = dict[str, str]


def settings_of(record: Record) -> Settings:
    """Return the overrides of a run by key, preceded by its arm if it belongs to a study.

    Numbers are as they were given; of other values, spaces, quotes and capitals that mean nothing are dropped.
    """
    arm = {ARM: record.arm} if record.arm else {}
    return arm | {key: _without_spelling(value) for key, value in record.settings.items()}


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
    for key in filter(NUMBER_OR_SHARE.fullmatch, keys):
        _tell_all_from_one(list(whole.values()), key)
    begun = [whole[record.directory] for record in records if record.config]
    different = [key for key in keys if len({same(settings[key]) for settings in begun}) > 1]
    return {directory: {key: printable(settings[key]) for key in different} for directory, settings in whole.items()}


def same(value: str) -> float | str:
    """Return a form in which equal settings compare equal: a number if the text is one, so that 1e-3 equals 0.001."""
    found = number(value)
    return value if found is None else found


@cache
def _without_spelling(text: str) -> str:
    """Return a value as ``show`` writes it, except for numbers: ``true`` for True, ``[a,b]`` for [a, 'b']."""
    if number(text) is not None or len(text) > LONGEST:
        return text
    try:
        value = OverridesParser.create().parse_override(f"key={text}").value()
    except (HydraException, RecursionError):
        return text
    return show(value) if value is None or isinstance(value, bool | str | list) else text


def _tell_all_from_one(settings: Sequence[Settings], key: str) -> None:
    """Replace the decimal 1.0 by ALL, in place, if other runs have the whole number 1 and so the opposite."""
    ones = {each[key] for each in settings if number(each[key]) == 1}
    if any(one.isdecimal() for one in ones):
        for each in settings:
            if each[key] in ones and not each[key].isdecimal():
                each[key] = ALL


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
