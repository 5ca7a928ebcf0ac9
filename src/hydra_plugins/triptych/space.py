"""The settings that a study or search gives its jobs, written in Hydra's sweep syntax."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, Quote, QuotedString, RangeSweep, Sweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from triptych.dotted import leaves, show

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution

LOG = "log"
"""The tag of a number that is drawn on a logarithmic scale: ``tag(log, interval(1e-4, 1e-1))``."""

DIGITS = 5
"""Significant digits of a float that is drawn."""


@dataclass(frozen=True)
class Parameter:
    """One setting that is searched.

    Attributes:
        key: the setting, such as ``optimizer.lr``.
        prefix: ``+`` or ``++`` if it was given with one.
        distribution: what it is drawn from; a choice is among strings, each as Hydra reads it.
    """

    key: str
    prefix: str
    distribution: "BaseDistribution"

    def draw(self, trial: "Trial") -> str:
        """The override that sets it in this trial; the same one if the trial has drawn it before."""
        value = trial._suggest(self.key, self.distribution)
        if isinstance(value, float):
            # Rounded, as people read and retype it: seventeen digits are not needed.
            value = float(f"{value:.{DIGITS}g}")
        return f"{self.prefix}{self.key}={value}"


def flat(params: Mapping[str, Any] | None, above: str = "") -> dict[str, Any]:
    """``hydra.sweeper.params`` by dotted keys: on the command line a dot in a key makes nested mappings."""
    found: dict[str, Any] = {}
    for name, value in (params or {}).items():
        nested = isinstance(value, Mapping | DictConfig) and value
        found |= flat(value, f"{above}{name}.") if nested else {f"{above}{name}": value}
    return found


def merge_overrides(params: Mapping[str, Any], arguments: Sequence[str], parser: OverridesParser) -> list[Override]:
    """The overrides of ``hydra.sweeper.params`` and of the command line, which takes precedence."""
    planned = parser.parse_overrides([f"{key}={show(value)}" for key, value in params.items()])
    last = parser.parse_overrides(list(arguments))
    return list({key(override): override for override in (*planned, *last)}.values())


def debug_keys(loader: Any, config: DictConfig) -> set[str]:
    """The keys that ``debug=`` sets, which takes precedence.

    Args:
        loader: Hydra's config loader.
        config: the sweep's config.
    """
    choice = config.hydra.runtime.choices.get("debug")
    found = loader.repository.load_config(f"debug/{choice}") if choice else None
    content: Any = OmegaConf.to_container(found.config) if found else {}
    return {name for name, _ in leaves(content)}


def key(override: Override) -> str:
    """The setting or group that an override sets, without ``+`` and ``~``."""
    return override.get_key_element().lstrip("+~")


def parameter(override: Override, default: object, parser: OverridesParser) -> Parameter:
    """The search parameter that an override with several values describes.

    Args:
        override: one with ``interval``, ``range``, ``choice``, ``glob`` or values separated by commas.
        default: the value that the setting has without it.
        parser: Hydra's.

    Raises:
        ValueError: nothing can be drawn from it.
    """
    swept = override.value()
    assert isinstance(swept, Sweep), override
    unknown = swept.tags - {LOG}
    if unknown:
        raise ValueError(f"{override.input_line}: no tag {', '.join(sorted(unknown))}; there is tag(log, ...)")
    is_log = LOG in swept.tags
    try:
        if isinstance(swept, IntervalSweep):
            distribution = _interval(swept.start, swept.end, is_log, default)
        elif isinstance(swept, RangeSweep):
            distribution = _range([*override.sweep_iterator()], is_log)
        else:
            distribution = _choice([*override.sweep_iterator()], is_log, parser)
    except ValueError as error:
        raise ValueError(f"{override.input_line}: {error}") from error
    element = override.get_key_element()
    return Parameter(key(override), element[: len(element) - len(key(override))], distribution)


def _interval(start: float | None, end: float | None, is_log: bool, default: object) -> "BaseDistribution":
    from optuna.distributions import FloatDistribution, IntDistribution

    if start is None or end is None:
        raise ValueError("an interval has two ends")
    counts = isinstance(default, int) and not isinstance(default, bool)
    if isinstance(start, int) or (counts and start.is_integer() and end.is_integer()):
        # By request, with int(interval(...)), or because the setting is an integer; both ends are included.
        return IntDistribution(int(start), int(end), log=is_log)
    return FloatDistribution(start, end, log=is_log)


def _range(values: list[Any], is_log: bool) -> "BaseDistribution":
    from optuna.distributions import FloatDistribution, IntDistribution

    if not values:
        raise ValueError("the range is empty")
    low, high = min(values), max(values)
    step = abs(values[1] - values[0]) if len(values) > 1 else 1
    if is_log and step != 1:
        raise ValueError("only an interval, or a range in steps of 1, can be drawn on a log scale")
    if all(isinstance(value, int) for value in values):
        return IntDistribution(low, high, log=is_log, step=step)
    if is_log:
        raise ValueError("only an interval can be drawn on a log scale: tag(log, interval(...))")
    return FloatDistribution(low, high, step=step)


def _choice(values: list[Any], is_log: bool, parser: OverridesParser) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution

    if not values:
        raise ValueError("there is nothing to choose from")
    if is_log:
        raise ValueError("a choice cannot be drawn on a log scale: tag(log, interval(...))")
    return CategoricalDistribution(list(dict.fromkeys(_text(value, parser) for value in values)))


def _text(value: Any, parser: OverridesParser) -> str:
    """A value as text that Hydra reads as the same value and type; ``choice('1', 'a b')`` has lost its quotes."""
    if isinstance(value, bool):
        return show(value)
    if not isinstance(value, str):
        return Override._get_value_element_as_str(value)
    try:
        (plain,) = parser.parse_overrides([f"key={value}"])
        if not plain.is_sweep_override() and plain.value() == value:
            return value
    except HydraException:
        pass
    return QuotedString(text=value, quote=Quote.single).with_quotes()
