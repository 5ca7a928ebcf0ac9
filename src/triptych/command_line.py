"""Rewrite a command line so that Hydra takes it as it is meant."""

from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException

from triptych.config import TASK_GROUP, hydras_flags


def move_flags_first(arguments: Sequence[str]) -> list[str]:
    """The same command line with flags before overrides, as Hydra refuses `experiment=housing -m seed=1,2`.

    Raises:
        ConfigError: for a flag that Hydra does not have.
    """
    overrides = _overrides(arguments)
    left, flags = list(overrides), []
    for argument in arguments:
        if left and argument == left[0]:
            left.pop(0)
        else:
            flags.append(argument)
    return [*flags, *overrides]


def force_values(arguments: Sequence[str]) -> list[str]:
    """The same command line; in a sweep over experiments, with values forced (``++key=value``): they need no such key.

    Hydra sets them in the sweep's own config too, which without an experiment has no data and no model.
    """
    try:
        overrides = OverridesParser.create().parse_overrides(_overrides(arguments))
    except HydraException:
        return list(arguments)  # with --help nothing has been checked, and Hydra reports it itself
    if not any(each.key_or_group == TASK_GROUP and each.is_sweep_override() for each in overrides):
        return list(arguments)
    values = [each for each in overrides if "." in each.key_or_group and not each.key_or_group.startswith("hydra.")]
    plain = {each.input_line for each in values if each.type == OverrideType.CHANGE and not each.is_sweep_override()}
    return [f"++{argument}" if argument in plain else argument for argument in arguments]


def _overrides(arguments: Sequence[str]) -> list[str]:
    # argparse would answer --version itself, and exit.
    return [] if "--version" in arguments else list(hydras_flags(arguments).overrides)
