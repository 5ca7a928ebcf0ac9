"""Compute the measures of a study from its runs."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from triptych.results.directory import read_history
from triptych.results.record import Record
from triptych.results.study.spec import Measure

SEED = "seed"


@dataclass(frozen=True)
class Unit:
    """A run of a study: its arm, the values of the keys swept besides the arm, and its seed."""

    arm: str
    swept: dict[str, str]
    seed: str
    record: Record

    @property
    def counts(self) -> bool:
        """Whether the run is evidence: it ended normally, or it diverged, which is a finding."""
        return self.record.ended or self.record.state == "diverged"

    @cached_property
    def history(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Per metric in ``metrics.csv``, the number of steps done and the finite values, both of shape (points,)."""
        points: dict[str, list[tuple[float, float]]] = defaultdict(list)
        path = self.record.directory / "metrics.csv"
        for row in read_history(path) if path.exists() else []:
            step = as_number(row.pop("step", ""))
            for name, text in row.items():
                value = as_number(text)
                if math.isfinite(step) and math.isfinite(value):
                    points[name].append((step + 1, value))  # steps in the file count from 0
        return {name: (np.array(pairs)[:, 0], np.array(pairs)[:, 1]) for name, pairs in points.items()}

    def values(self, metric: str) -> np.ndarray:
        """Return the finite values of a metric in step order, (points,); empty if it was not logged."""
        return self.history[metric][1] if metric in self.history else np.empty(0)


@dataclass(frozen=True)
class Value:
    """A measure of one unit, or of the units that differ only in one swept key; ``value`` is None if not measured.

    For steps to a target, ``reached`` is False if the run never reached it.
    """

    arm: str
    swept: dict[str, str]
    seed: str
    value: float | None
    reached: bool = True


def units_of(records: Sequence[Record]) -> list[Unit]:
    """Split the settings of each run of a study into arm, swept keys and seed."""
    settings = [record.settings for record in records]
    values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for record, own in zip(records, settings, strict=True):
        for key, value in own.items():
            values[key][record.arm].add(value)
    # A key with one value per arm is part of the arm; one that takes several values within an arm is swept.
    swept = [key for key, by_arm in values.items() if key != SEED and any(len(found) > 1 for found in by_arm.values())]
    return [
        Unit(record.arm, {key: own[key] for key in swept if key in own}, own.get(SEED, "0"), record)
        for record, own in zip(records, settings, strict=True)
    ]


def measure(kind: Measure, units: Sequence[Unit]) -> list[Value]:
    """Measure every unit; measures over a swept key give one value for all units that differ only in that key.

    Runs that failed or were interrupted are ignored, whatever they logged before; diverged runs are a finding.
    """
    units = [unit for unit in units if unit.counts]
    if not units:
        return []
    if kind.compared_metric:
        own = _record_with_monitor(units)
        measure_jointly = _steps_to if kind.kind == "steps_to" else _over_key
        return measure_jointly(kind, kind.resolve_mode(own.monitor, own.mode), units)
    one = ONE_RUN[kind.kind]
    return [Value(unit.arm, unit.swept, unit.seed, one(unit, kind.target)) for unit in units]


def chosen_units(units: Sequence[Unit], key: str) -> tuple[list[Unit], dict[str, str | None]]:
    """Keep, in each arm, only the units with the value of a swept key whose mean monitor over the seeds is best.

    Returns:
        the units, and the value chosen for each arm that has the key; None if for every value a run diverged or none
        ended normally.
    """
    kept: list[Unit] = []
    choices: dict[str, str | None] = {}
    for arm in dict.fromkeys(unit.arm for unit in units):
        by_value: dict[str, list[Unit]] = defaultdict(list)
        for unit in units:
            if unit.arm == arm and key in unit.swept:
                by_value[unit.swept[key]].append(unit)
        means = {}
        for value, members in by_value.items():
            scores = [unit.record.best(unit.record.monitor) for unit in members if unit.record.ended]
            known = [score for score in scores if score is not None]
            # A value with which a run diverges, or ends without a finite monitor, is not eligible; a run that failed or
            # was interrupted says nothing about the value.
            is_ineligible = len(known) < len(scores) or any(unit.record.state == "diverged" for unit in members)
            if known and not is_ineligible:
                means[value] = float(np.mean(known))
        if by_value:
            best = max if _record_with_monitor(units).mode == "max" else min
            choices[arm] = best(means, key=lambda value: means[value]) if means else None
        kept += [unit for unit in units if unit.arm == arm and unit.swept.get(key) == choices.get(arm)]
    return kept, choices


def _first(unit: Unit, metric: str) -> float | None:
    values = unit.values(metric)
    return float(values[0]) if len(values) else None


def _last(unit: Unit, metric: str) -> float | None:
    values = unit.values(metric)
    return float(values[-1]) if len(values) else None


def _median(unit: Unit, metric: str) -> float | None:
    values = unit.values(metric)
    return float(np.median(values)) if len(values) else None


def _per_epoch(unit: Unit, name: str) -> float | None:
    value, epochs = unit.record.number(name), unit.record.number("epochs")
    return value / epochs if value is not None and epochs else None


def _noise(unit: Unit, metric: str) -> float | None:
    values = unit.values(metric)
    late = values[len(values) // 2 :]
    if len(late) < 3 or not np.mean(late):
        return None
    # Differences of neighbours remove the slow trend; a difference of two has twice the variance, hence the root of 2.
    return float(np.std(np.diff(late)) / math.sqrt(2) / abs(np.mean(late)))


def _gap(unit: Unit, metric: str) -> float | None:
    val, train = _last(unit, f"val/{metric}"), _last(unit, f"train_eval/{metric}")
    return None if val is None or train is None else val - train


def _memory(unit: Unit, _: str) -> float | None:
    peak, start = unit.record.number("peak_memory_mb"), unit.record.number("memory_at_start_mb")
    return None if peak is None or start is None else peak - start


ONE_RUN: dict[str, Callable[[Unit, str], float | None]] = {
    "best": lambda unit, metric: unit.record.best(metric),
    "first": _first,
    "last": _last,
    "test": lambda unit, metric: unit.record.test(metric),
    "median": _median,
    "number": lambda unit, name: unit.record.number(name),
    "per_epoch": _per_epoch,
    "noise": _noise,
    "gap": _gap,
    "memory": _memory,
}


def _steps_to(kind: Measure, mode: str, units: Sequence[Unit]) -> list[Value]:
    """Return the steps to the target; for a run that never reaches it a lower bound, the steps of the longest run."""
    target = _target(kind.target, kind.within, mode, units)
    most = max((float(unit.history[kind.target][0][-1]) for unit in units if kind.target in unit.history), default=None)
    found = []
    for unit in units:
        steps, values = unit.history.get(kind.target, (np.empty(0), np.empty(0)))
        there = _reached(values, target, mode) if target is not None else np.zeros(len(values), bool)
        needed = float(steps[there.argmax()]) if there.any() else most
        found.append(Value(unit.arm, unit.swept, unit.seed, needed, needed is None or bool(there.any())))
    return found


def _over_key(kind: Measure, mode: str, units: Sequence[Unit]) -> list[Value]:
    """Return one value for all units that differ only in the swept key."""
    target = _target(kind.of, kind.within, mode, units)
    groups: dict[tuple[str, tuple[tuple[str, str], ...], str], list[Unit]] = defaultdict(list)
    for unit in units:
        rest = tuple((key, value) for key, value in unit.swept.items() if key != kind.target)
        groups[unit.arm, rest, unit.seed].append(unit)
    values = []
    for (arm, rest, seed), members in groups.items():
        scored = [(as_number(unit.swept.get(kind.target, "")), unit.record.best(kind.of)) for unit in members]
        good = [(number, score) for number, score in scored if score is not None and math.isfinite(number)]
        found: float | None = None
        if kind.kind == "largest" and target is not None:
            found = max((number for number, score in good if _reached(score, target, mode)), default=None)
        elif kind.kind == "preferred" and good:
            found = (max if mode == "max" else min)(good, key=lambda pair: pair[1])[0]
        values.append(Value(arm, dict(rest), seed, found))
    return values


def _record_with_monitor(units: Sequence[Unit]) -> Record:
    """Return a run that has a monitor, the same for all runs; one that failed at its start has no config."""
    return next((unit.record for unit in units if unit.record.monitor), units[0].record)


def _target(metric: str, within: float, mode: str, units: Sequence[Unit]) -> float | None:
    """Return the best value that any run reached, relaxed by the factor ``within``."""
    scores = [score for unit in units if (score := unit.record.best(metric)) is not None]
    if not scores:
        return None
    best = max(scores) if mode == "max" else min(scores)
    # A negative value, such as that of R², is worse the larger it is in size.
    return best / within if (mode == "max") == (best > 0) else best * within


def _reached(values: np.ndarray | float, target: float, mode: str) -> np.ndarray:
    return np.asarray(values) >= target if mode == "max" else np.asarray(values) <= target


def as_number(text: str) -> float:
    """Parse a number; NaN if the text is not one."""
    try:
        return float(text)
    except ValueError:
        return math.nan
