"""What a study's file says: its claim, its arms, what is measured and what is expected of it.

A study is a sweep that answers a question. ``conf/study/NAME.yaml`` holds under ``study``:

- ``claim``: what is put to the test, in one sentence.
- ``arms``: what is compared, by name; each is a mapping of overrides, several values of a key separated by commas.
- ``choose``: a swept key, such as ``optimizer.lr``: of each arm only the value with the best mean monitor counts.
- ``measures``: what is measured, by the name that tables show; the first key of each is one of KINDS.
- ``expect``: what the claim says about the measures; the verdict follows from it.
- ``plots``: the pictures.
- ``discussion``: a remark for each verdict, of which the report shows the one that came out.

The metric ``monitor`` is the one that the experiment monitors.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from triptych.results.better import mode_of

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"

KINDS = {
    "best": "a metric at the epoch with the best monitor",
    "first": "a metric when it was first logged",
    "last": "a metric at the last epoch",
    "test": "a metric of the test split",
    "median": "the median of a metric over the run",
    "number": "a number of metrics.json, such as seconds",
    "per_epoch": "a number of metrics.json divided by the epochs",
    "steps_to": "optimizer steps until a metric is `within` a factor of the best that any run reached",
    "noise": "deviation of a metric from one point to the next, as a share of its mean, over the second half",
    "gap": "a metric on validation samples less the same on training samples, at the last epoch",
    "memory": "what the run added to the memory of its process, in megabytes",
    "largest": "the largest value of a swept key at which the metric `of` is `within` a factor of the best",
    "preferred": "the value of a swept key at which the metric `of` is best",
}
MEASURE_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "steps_to": ((), ("within", "mode")),
    "largest": (("of",), ("within", "mode")),
    "preferred": (("of",), ("mode",)),
}
"""What a kind of measure must be told beside its target, and what it may be; the others take nothing."""
PLOTS = {
    "dots": "a measure of each arm, a dot a seed",
    "curves": "a metric over the steps, a line an arm",
    "layers": "the first values of the metrics that begin with it, from the first layer to the last, a line an arm",
    "lines": "measures over a swept key",
    "heat": "a measure over two swept keys",
}
PLOT_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "dots": ((), ("log",)),
    "curves": ((), ("log",)),
    "layers": ((), ()),
    "lines": (("x",), ("log",)),
    "heat": (("x", "y"), ()),
}
PAIR_KEYS = (("measure", "arm", "against"), ("direction", "scale", "by"))
SPREAD_KEYS = (("measure", "spread_above"), ("arm",))
"""Of an expectation that compares two arms, and of one about the seeds of one."""


@dataclass(frozen=True)
class Measure:
    """One measured quantity. ``target`` is a metric, a number's name or a swept key, as its ``kind`` wants it.

    Which values of a metric are better, ``mode`` (min or max) says where neither the monitor nor the name does.
    """

    name: str
    kind: str
    target: str
    of: str = ""
    within: float = 1.05
    mode: str = ""

    @property
    def judged(self) -> str:
        """The metric of which it must be known which values are better; empty for the kinds that need not know."""
        return {"steps_to": self.target, "largest": self.of, "preferred": self.of}.get(self.kind, "")

    def better(self, monitor: str, mode: str) -> str:
        """``min`` or ``max``: which values of what it judges are better, in runs with this monitor and mode.

        Raises:
            ValueError: nothing says so.
        """
        found = self.mode or mode_of(self.judged, monitor, mode)
        if found is None:
            raise ValueError(
                f"measures.{self.name}: which values of {self.judged} are better? Add mode: min or mode: max to it"
            )
        return found


@dataclass(frozen=True)
class Expectation:
    """What the claim says about one measure.

    Either the measure of ``arm`` is ``direction`` (lower or higher) than that of ``against``, by at least ``by``: a
    difference, or with ``scale`` ratio a factor. Or, with ``spread_above``, the standard deviation over the seeds is
    more than this share of the mean. An arm is named, or given by swept keys and their values. What else is swept is
    averaged within each seed.
    """

    measure: str
    arm: str | dict[str, str] = ""
    against: str | dict[str, str] = ""
    direction: str = "lower"
    scale: str = "difference"
    by: float = 0.0
    spread_above: float | None = None


@dataclass(frozen=True)
class Plot:
    """One picture; see PLOTS."""

    kind: str
    of: str | tuple[str, ...]
    x: str = ""
    y: str = ""
    log: bool = False


@dataclass(frozen=True)
class Study:
    """A study as its file says it."""

    name: str
    claim: str
    arms: dict[str, dict[str, str]]
    measures: dict[str, Measure]
    expect: list[Expectation]
    plots: list[Plot]
    discussion: dict[str, str]
    choose: str = ""

    def check(self, given: Collection[str], monitor: str, mode: str) -> None:
        """Look, before any job runs, whether there will be what is to be chosen, measured and drawn.

        Args:
            given: the keys that any job sets.
            monitor: the metric that the experiment monitors.
            mode: which of its values are better.

        Raises:
            ValueError: naming the part that is wrong, and what would be right.
        """
        for where, key in self._keys().items():
            if key not in given:
                raise ValueError(f"{where}: no arm and no hydra.sweeper.params sets {key}{_hint(key, given)}")
        for measure in self.monitoring(monitor).measures.values():
            if measure.judged:
                measure.better(monitor, mode)

    def _keys(self) -> dict[str, str]:
        """The keys that the study takes to be swept, by where it names them."""
        named = {"choose": self.choose}
        for name, measure in self.measures.items():
            if measure.kind in ("largest", "preferred"):
                named[f"measures.{name}.{measure.kind}"] = measure.target
        for index, expectation in enumerate(self.expect):
            for side in ("arm", "against"):
                if isinstance(keys := getattr(expectation, side), Mapping):
                    named |= {f"expect[{index}].{side}.{key}": key for key in keys}
        for index, plot in enumerate(self.plots):
            named |= {f"plots[{index}].x": plot.x, f"plots[{index}].y": plot.y}
        return {where: key for where, key in named.items() if key}

    def monitoring(self, metric: str) -> "Study":
        """The same study of an experiment whose monitor, such as ``val/rmse``, is meant by the word ``monitor``."""

        def named(of: Any) -> Any:
            return metric if of == "monitor" else of

        tested = f"test/{metric.partition('/')[2]}"
        measures = {
            name: replace(
                measure,
                target=tested if (measure.kind, measure.target) == ("test", "monitor") else named(measure.target),
                of=named(measure.of),
            )
            for name, measure in self.measures.items()
        }
        return replace(self, measures=measures, plots=[replace(plot, of=named(plot.of)) for plot in self.plots])


def read_study(name: str, content: Mapping[str, Any]) -> Study:
    """Check what stands under ``study`` in a study's file, which may be anything.

    Raises:
        ValueError: naming the part that is missing or wrong, and what would be right.
    """

    def wrong(where: str, what: str) -> ValueError:
        return ValueError(f"study {name}: {where}: {what}")

    def part(key: str, kind: type, default: Any) -> Any:
        value = content.get(key, default)
        value = default if value is None else value
        if not isinstance(value, kind):
            raise wrong(key, f"expected a {kind.__name__}, found {value!r}")
        return value

    known = {"claim", "arms", "choose", "measures", "expect", "plots", "discussion"}
    for key in content:
        if key not in (*known, "arm"):  # the job's own, from the sweeper
            raise wrong(str(key), f"choose one of {', '.join(sorted(known))}{_hint(str(key), known)}")
    claim = part("claim", str, "")
    if not claim:
        raise wrong("claim", "a study puts a claim to the test, in one sentence")

    arms = {}
    for arm, overrides in part("arms", dict, {}).items():
        if not isinstance(overrides, Mapping):
            raise wrong(f"arms.{arm}", f"expected overrides as key: value, found {overrides!r}")
        arms[str(arm)] = _flat(overrides)

    measures = {}
    for label, entry in part("measures", dict, {}).items():
        kind = next((key for key in entry if key in KINDS), None) if isinstance(entry, Mapping) else None
        if kind is None:
            raise wrong(f"measures.{label}", f"one of its keys must be {', '.join(KINDS)}")
        rest = {key: value for key, value in entry.items() if key != kind}
        where = f"study {name}: measures.{label}"
        _check_keys(where, kind, rest, *MEASURE_KEYS.get(kind, ((), ())))
        measures[str(label)] = _made(Measure, rest, where, str(label), kind, str(entry[kind]))
        if measures[str(label)].mode not in ("", "min", "max"):
            raise wrong(f"measures.{label}.mode", "min or max")
    if not measures:
        raise wrong("measures", "name at least one")

    expect = []
    for index, entry in enumerate(part("expect", list, [])):
        where = f"expect[{index}]"
        if not isinstance(entry, Mapping):
            raise wrong(where, f"expected a mapping, found {entry!r}")
        found = dict(entry)
        of_seeds = "spread_above" in found
        what, keys = ("spread_above", SPREAD_KEYS) if of_seeds else ("an arm against another", PAIR_KEYS)
        _check_keys(f"study {name}: {where}", what, found, *keys)
        for key in ("arm", "against"):
            if isinstance(found.get(key), Mapping):
                found[key] = _flat(found[key])
            elif found.get(key, "") not in (*arms, ""):
                raise wrong(f"{where}.{key}", f"{found[key]} is no arm: choose one of {', '.join(arms)}")
        expectation = _made(Expectation, found, f"study {name}: {where}")
        if expectation.measure not in measures:
            raise wrong(f"{where}.measure", f"{expectation.measure} is none of {', '.join(measures)}")
        if expectation.direction not in ("lower", "higher") or expectation.scale not in ("difference", "ratio"):
            raise wrong(where, "direction is lower or higher, scale is difference or ratio")
        expect.append(expectation)
    if not expect:
        raise wrong("expect", "a verdict needs something that is expected")

    plots = []
    for index, entry in enumerate(part("plots", list, [])):
        kind = next((key for key in entry if key in PLOTS), None) if isinstance(entry, Mapping) else None
        if kind is None:
            raise wrong(f"plots[{index}]", f"one of its keys must be {', '.join(PLOTS)}")
        of = entry[kind]
        rest = {key: value for key, value in entry.items() if key != kind}
        _check_keys(f"study {name}: plots[{index}]", kind, rest, *PLOT_KEYS[kind])
        if isinstance(of, list) and kind != "lines":
            raise wrong(f"plots[{index}].{kind}", f"one name, found {of!r}; lines takes several")
        of = tuple(map(str, of)) if isinstance(of, list) else str(of)
        plots.append(_made(Plot, rest, f"study {name}: plots[{index}]", kind, of))
        missing = [label for label in ([of] if isinstance(of, str) else of) if label not in measures]
        if kind in ("dots", "lines", "heat") and missing:
            raise wrong(f"plots[{index}].{kind}", f"{missing[0]} is none of {', '.join(measures)}")

    discussion = {str(key): str(value) for key, value in part("discussion", dict, {}).items()}
    verdicts = {HOLDS, FAILS, UNDECIDED}
    for key in discussion:
        if key not in verdicts:
            raise wrong(f"discussion.{key}", f"choose one of {', '.join(sorted(verdicts))}")
    return Study(name, claim, arms, measures, expect, plots, discussion, part("choose", str, ""))


def _check_keys(
    where: str, what: str, given: Mapping[Any, Any], needed: tuple[str, ...], allowed: tuple[str, ...]
) -> None:
    """Refuse a key that would not be read, and a missing one without which there is nothing to measure or to draw."""
    known = (*needed, *allowed)
    for key in given:
        if key not in known:
            takes = f"takes {', '.join(known)}" if known else "takes no other key"
            raise ValueError(f"{where}.{key}: {what} {takes}{_hint(str(key), known)}")
    for key in needed:
        if given.get(key) in (None, "", {}):
            raise ValueError(f"{where}: {what} needs {key}")


def _made(kind: type, values: Mapping[str, Any], where: str, *arguments: Any) -> Any:
    """A dataclass of the values, whose names and types are checked."""
    types = {field.name: field.type for field in fields(kind)[len(arguments) :]}
    for key, value in values.items():
        if key not in types:
            raise ValueError(f"{where}.{key}: choose one of {', '.join(types)}{_hint(str(key), types)}")
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


def _hint(key: str, known: Any) -> str:
    near = get_close_matches(key, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _flat(tree: Mapping[Any, Any], above: str = "") -> dict[str, str]:
    """Overrides by their dotted keys, with their values as one writes them, however they are nested."""
    found: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{above}{key}"
        found |= _flat(value, f"{name}.") if isinstance(value, Mapping) and value else {name: _text(value)}
    return found


def _text(value: Any) -> str:
    """A value as one writes it on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
