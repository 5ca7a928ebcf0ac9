"""Parse and validate the content of a study's file into a Study."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from triptych.dotted import leaves, show
from triptych.hint import did_you_mean
from triptych.results.study.spec import FAILS, HOLDS, KINDS, PLOTS, UNDECIDED, Expectation, Measure, Plot, Study

MEASURE_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "steps_to": ((), ("within", "mode")),
    "largest": (("of",), ("within", "mode")),
    "preferred": (("of",), ("mode",)),
}
"""Required and optional keys of a measure besides its target, by kind; other kinds take none."""
PLOT_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "dots": ((), ("log",)),
    "curves": ((), ("log",)),
    "layers": ((), ()),
    "lines": (("x",), ("log",)),
    "heat": (("x", "y"), ()),
}
PAIR_KEYS = (("measure", "arm", "against"), ("direction", "scale", "by"))
SPREAD_KEYS = (("measure", "spread_above"), ("arm",))
"""Required and optional keys of an expectation that compares two arms, and of one about the spread over seeds."""


def read_study(name: str, content: Mapping[str, Any]) -> Study:
    """Return the Study described by the content of ``study`` in a study's file, which may be invalid.

    Raises:
        ValueError: naming the part that is missing or wrong, and what would be right.
    """
    try:
        return _read_study(name, content)
    except ValueError as error:
        raise ValueError(f"study {name}: {error}") from error


def _read_study(name: str, content: Mapping[str, Any]) -> Study:
    known = {"claim", "arms", "choose", "measures", "expect", "plots", "discussion"}
    for key in content:
        if key not in (*known, "arm"):  # `arm` is set by the sweeper in each job
            raise ValueError(f"{key}: choose one of {', '.join(sorted(known))}{did_you_mean(str(key), known)}")
    claim = _part(content, "claim", "")
    if not claim:
        raise ValueError("claim: a study puts a claim to the test, in one sentence")
    arms = {str(arm): _arm(f"arms.{arm}", entry) for arm, entry in _part(content, "arms", {}).items()}
    measures = {str(label): _measure(str(label), entry) for label, entry in _part(content, "measures", {}).items()}
    if not measures:
        raise ValueError("measures: name at least one")
    expect = [
        _expectation(f"expect[{index}]", entry, arms, measures)
        for index, entry in enumerate(_part(content, "expect", []))
    ]
    if not expect:
        raise ValueError("expect: a verdict needs something that is expected")
    plots = [_plot(f"plots[{index}]", entry, measures) for index, entry in enumerate(_part(content, "plots", []))]
    discussion = {str(key): str(value) for key, value in _part(content, "discussion", {}).items()}
    verdicts = {HOLDS, FAILS, UNDECIDED}
    for key in discussion:
        if key not in verdicts:
            raise ValueError(f"discussion.{key}: choose one of {', '.join(sorted(verdicts))}")
    return Study(name, claim, arms, measures, expect, plots, discussion, _part(content, "choose", ""))


def _part(content: Mapping[str, Any], key: str, default: Any) -> Any:
    """Return the value of a key, which must have the default's type; the default if the key is missing or null."""
    value = default if content.get(key) is None else content[key]
    if not isinstance(value, type(default)):
        raise ValueError(f"{key}: expected a {type(default).__name__}, found {value!r}")
    return value


def _arm(where: str, entry: Any) -> dict[str, str]:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where}: expected overrides as key: value, found {entry!r}")
    return _overrides(entry)


def _measure(label: str, entry: Any) -> Measure:
    where = f"measures.{label}"
    kind, rest = _kind(where, entry, KINDS)
    _check_keys(where, kind, rest, *MEASURE_KEYS.get(kind, ((), ())))
    measure: Measure = _made(Measure, rest, where, label, kind, str(entry[kind]))
    if measure.mode not in ("", "min", "max"):
        raise ValueError(f"{where}.mode: min or max")
    return measure


def _expectation(where: str, entry: Any, arms: Collection[str], measures: Collection[str]) -> Expectation:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where}: expected a mapping, found {entry!r}")
    found = dict(entry)
    of_seeds = "spread_above" in found
    what, keys = ("spread_above", SPREAD_KEYS) if of_seeds else ("an arm against another", PAIR_KEYS)
    _check_keys(where, what, found, *keys)
    for key in ("arm", "against"):
        if isinstance(found.get(key), Mapping):
            found[key] = _overrides(found[key])
        elif found.get(key, "") not in (*arms, ""):
            raise ValueError(f"{where}.{key}: {found[key]} is no arm: choose one of {', '.join(arms)}")
    expectation: Expectation = _made(Expectation, found, where)
    if expectation.measure not in measures:
        raise ValueError(f"{where}.measure: {expectation.measure} is none of {', '.join(measures)}")
    if expectation.direction not in ("lower", "higher") or expectation.scale not in ("difference", "ratio"):
        raise ValueError(f"{where}: direction is lower or higher, scale is difference or ratio")
    return expectation


def _plot(where: str, entry: Any, measures: Collection[str]) -> Plot:
    kind, rest = _kind(where, entry, PLOTS)
    _check_keys(where, kind, rest, *PLOT_KEYS[kind])
    of = entry[kind]
    if isinstance(of, list) and kind != "lines":
        raise ValueError(f"{where}.{kind}: one name, found {of!r}; lines takes several")
    of = tuple(map(str, of)) if isinstance(of, list) else str(of)
    plot: Plot = _made(Plot, rest, where, kind, of)
    missing = [label for label in ([of] if isinstance(of, str) else of) if label not in measures]
    if kind in ("dots", "lines", "heat") and missing:
        raise ValueError(f"{where}.{kind}: {missing[0]} is none of {', '.join(measures)}")
    return plot


def _kind(where: str, entry: Any, kinds: Collection[str]) -> tuple[str, dict[Any, Any]]:
    """Return the kind of an entry, which is its first key that names one, and its other keys."""
    kind = next((key for key in entry if key in kinds), None) if isinstance(entry, Mapping) else None
    if kind is None:
        raise ValueError(f"{where}: one of its keys must be {', '.join(kinds)}")
    return kind, {key: value for key, value in entry.items() if key != kind}


def _check_keys(
    where: str, what: str, given: Mapping[Any, Any], needed: tuple[str, ...], allowed: tuple[str, ...]
) -> None:
    """Raise ValueError for a key that is unknown, and for a required one that is missing or empty."""
    known = (*needed, *allowed)
    for key in given:
        if key not in known:
            takes = f"takes {', '.join(known)}" if known else "takes no other key"
            raise ValueError(f"{where}.{key}: {what} {takes}{did_you_mean(str(key), known)}")
    for key in needed:
        if given.get(key) in (None, "", {}):
            raise ValueError(f"{where}: {what} needs {key}")


def _made(kind: type, values: Mapping[str, Any], where: str, *arguments: Any) -> Any:
    """Construct a dataclass after checking the names and types of the values."""
    types = {field.name: field.type for field in fields(kind)[len(arguments) :]}
    for key, value in values.items():
        if key not in types:
            raise ValueError(f"{where}.{key}: choose one of {', '.join(types)}{did_you_mean(str(key), types)}")
        wanted = types[key]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        text = isinstance(value, str) or (isinstance(value, dict) and "dict" in str(wanted))
        right = number if "float" in str(wanted) else isinstance(value, bool) if wanted is bool else text
        if not right:
            raise ValueError(f"{where}.{key}: {value!r} is of the wrong type")
    try:
        return kind(*arguments, **values)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


def _overrides(tree: Mapping[str, Any]) -> dict[str, str]:
    """Flatten a nested mapping into overrides: dotted keys, with the values as on the command line."""
    return {key: show(value) for key, value in leaves(tree)}
