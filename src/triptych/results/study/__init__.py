"""Studies: turn the runs of a sweep into a verdict on its claim, with the supporting table and figures."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from triptych.results.record import Record
from triptych.results.section import Section
from triptych.results.study.charts import draw
from triptych.results.study.measures import Unit, Value, as_number, chosen_units, measure, units_of
from triptych.results.study.reading import read_study
from triptych.results.study.spec import FAILS, Expectation, Study
from triptych.results.study.verdict import Finding, compare, overall_verdict, seeds_for, spread
from triptych.results.summary import format_number

GAINS = (0.01, 0.03, 0.1)
"""Gains, relative to the mean, for which a study of the spread reports how many seeds would detect them."""

NO_VALUE = "no value"
"""Shown in place of the chosen value of an arm if there is none to choose."""


def sections(records: Sequence[Record], folder: Path) -> list[Section]:
    """Return the sections that a study adds to the report of its sweep.

    Args:
        records: the runs of the sweep.
        folder: the sweep's folder; unused, for the same signature as ``search.sections``.

    Raises:
        ValueError: no run belongs to a study, or the study in the runs' config is invalid.
    """
    study = study_of(records)
    units = units_of(records)
    counted, choices = chosen_units(units, study.choose) if study.choose else (units, {})
    measured = {}
    for name, kind in study.measures.items():
        # A measure over the chosen key needs the runs of all its values.
        over = kind.target == study.choose and kind.kind in ("largest", "preferred")
        measured[name] = measure(kind, units if over else counted)
    findings = [evaluate_expectation(each, measured[each.measure], study.choose) for each in study.expect]
    verdict = overall_verdict(findings)

    lines = [study.claim, f"Verdict: {verdict}"]
    lines += [_finding_line(expectation, finding) for expectation, finding in zip(study.expect, findings, strict=True)]
    if verdict != FAILS and any(finding.verdict == FAILS for finding in findings):
        lines.append(
            f"One of {len(findings)} expectations may fail by chance: with an interval widened for that none does."
        )
    for label, values in measured.items():
        if missed := sum(not value.reached for value in values):
            lines.append(
                f"{label}: {missed} of {len(values)} runs never reached it, and count with the steps of the longest."
            )
    if remark := study.discussion.get(verdict):
        lines.append(remark)
    if choices:
        told = [f"{arm} {value or NO_VALUE}".strip() for arm, value in choices.items()]
        lines.append(f"Chosen {study.choose}: {', '.join(told)}.")
        if None in choices.values():
            lines.append("No value: with each a run diverged, or none ended.")
        asked = [unit.counts for unit in units if study.choose in unit.swept]
        if not all(asked):
            lines.append(f"{asked.count(False)} of {len(asked)} runs did not end, and are missing from this choice.")
    for state in ("diverged", "failed", "interrupted"):
        names = [unit.record.name for unit in units if unit.record.state == state]
        if names:
            lines.append(f"{len(names)} of {len(units)} runs {state}: {', '.join(names[:20])}.")
    lost = [arm for arm, value in choices.items() if value is None]
    header, rows = _table(units, counted, measured, {arm: {study.choose: NO_VALUE} for arm in lost})
    figure = draw(study, counted, measured)
    name = study.name
    return [Section(f"Study: {name}", lines, header, rows, {"study": figure} if figure else {})]


def study_of(records: Sequence[Record]) -> Study:
    """Return the study that these runs belong to, from the config of the first run that has one.

    Raises:
        ValueError: no run has one, or it is invalid.
    """
    for record in records:
        content = record.config.get("study")
        if isinstance(content, dict) and content.get("claim"):
            names = [line.partition("=")[2] for line in record.overrides if line.startswith("study=")]
            return read_study(names[0] if names else "study", content).monitoring(record.monitor)
    raise ValueError("none of these runs belongs to a study")


def evaluate_expectation(expectation: Expectation, values: Sequence[Value], chosen: str = "") -> Finding:
    """Compare what was measured with what was expected; the ``chosen`` key may differ within a pair.

    Other swept keys (grids, arms under several settings) are averaged out within each seed first, for both sides over
    the same settings: only seeds are repetitions, so the interval must be over seeds alone.
    """
    if expectation.spread_above is not None:
        settings: dict[object, list[float]] = defaultdict(list)
        for value, number in _of(expectation.arm, values):
            settings[value.arm, *sorted(value.swept.items())].append(number)
        return spread(list(settings.values()), expectation.spread_above)
    sides_keys = (side for side in (expectation.arm, expectation.against) if isinstance(side, Mapping))
    fixed = {chosen, *(key for keys in sides_keys for key in keys)}
    ratio = expectation.scale == "ratio"
    arm, against = (_by_seed(_of(side, values), fixed, ratio) for side in (expectation.arm, expectation.against))
    differences = []
    for seed in arm:
        both = [setting for setting in arm[seed] if setting in against.get(seed, {})]
        if both:
            differences.append(fmean(fmean(arm[seed][one]) - fmean(against[seed][one]) for one in both))
    return compare(differences, expectation.direction, expectation.scale, expectation.by)


def _of(side: str | Mapping[str, str], values: Sequence[Value]) -> list[tuple[Value, float]]:
    """Return the measured values of one side, given as an arm's name (empty: all) or as swept keys and values."""
    found = [(value, value.value) for value in values if value.value is not None]
    if isinstance(side, str):
        return [(value, number) for value, number in found if not side or value.arm == side]
    return [
        (value, number)
        for value, number in found
        if all(_alike(value.swept.get(key, ""), wanted) for key, wanted in side.items())
    ]


def _alike(one: str, other: str) -> bool:
    """Whether two settings are equal as text or as numbers, such as 1e-3 and 0.001."""
    return one == other or as_number(one) == as_number(other)


def _by_seed(
    found: Sequence[tuple[Value, float]], fixed: set[str], ratio: bool
) -> dict[str, dict[object, list[float]]]:
    """Group the numbers (for a ratio their logarithms) by seed, then by the swept settings without ``fixed`` keys."""
    seeds: dict[str, dict[object, list[float]]] = defaultdict(lambda: defaultdict(list))
    for value, number in found:
        rest = tuple((key, text) for key, text in sorted(value.swept.items()) if key not in fixed)
        scaled = number if not ratio else math.log(number) if number > 0 else math.nan
        seeds[value.seed][rest].append(scaled)
    return seeds


def _finding_line(expectation: Expectation, finding: Finding) -> str:
    """Return effect, interval and number of seeds of one expectation as one line."""
    count = f"seeds: {finding.seeds}"
    low, high = format_number(finding.low), format_number(finding.high)
    interval = f"95 % interval {low} to {high}, {count}: {finding.verdict}"
    if math.isnan(finding.effect):
        return f"Effect on {expectation.measure}: not measured, {count}: {finding.verdict}"
    if math.isinf(finding.high):
        interval = f"no interval, {count}: {finding.verdict}"
    effect = format_number(finding.effect)
    if expectation.spread_above is not None:
        needed = ", ".join(f"{seeds_for(gain, finding.effect)} for one of {gain:.0%}" for gain in GAINS)
        return (
            f"Effect: the standard deviation of {expectation.measure} is {effect} of its mean (expected: more than "
            f"{expectation.spread_above:g}), {interval}. Seeds of each setting that show a gain: {needed}"
        )
    arm, against = _side(expectation.arm), _side(expectation.against)
    if expectation.scale == "ratio":
        least = f" by a factor of {expectation.by:g}" if expectation.by > 1 else ""
        effect = f"{expectation.measure} of {arm} is {effect} times that of {against}"
    else:
        least = f" by {expectation.by:g}" if expectation.by else ""
        effect = f"{expectation.measure} of {arm} less that of {against} is {effect}"
    return f"Effect: {effect} (expected: {expectation.direction}{least}), {interval}"


def _side(side: str | Mapping[str, str]) -> str:
    if isinstance(side, str):
        return side
    return " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in side.items())


def _table(
    units: Sequence[Unit],
    counted: Sequence[Unit],
    measured: Mapping[str, Sequence[Value]],
    lost: Mapping[str, Mapping[str, str]],
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: a row per arm and swept setting, with mean and deviation of each measure over the seeds.

    An arm none of whose runs are counted is ``lost`` and gets a row that says so.
    """
    keys = list(dict.fromkeys(key for unit in units for key in unit.swept))
    named = any(unit.arm for unit in units)
    groups = dict.fromkeys((unit.arm, tuple(unit.swept.items())) for unit in counted)
    groups |= dict.fromkeys((arm, tuple(swept.items())) for arm, swept in lost.items())
    rows = []
    for arm, swept in groups:
        settings = dict(swept)
        row = [arm] if named else []
        row += [settings.get(key, "-") for key in keys]
        for values in measured.values():
            # Values of a measure over a swept key do not have that key.
            own = [
                value.value
                for value in values
                if value.arm == arm
                and value.value is not None
                and all(settings.get(key) == text for key, text in value.swept.items())
            ]
            row.append(_mean(own))
        members = [unit for unit in units if unit.arm == arm and (arm in lost or unit.swept == settings)]
        done = 0 if arm in lost else sum(unit.record.ended for unit in members)
        rows.append([*row, str(done) if done == len(members) else f"{done} of {len(members)}"])
    shown = [key.rpartition(".")[2] for key in keys]
    return [*(["arm"] if named else []), *shown, *measured, "runs"], rows


def _mean(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    if len(values) < 2:
        return format_number(mean)
    # The mean of equal values may be off by a rounding error, which must not show as a deviation.
    return f"{format_number(mean)} ± {format_number(deviation if deviation > 1e-12 * abs(mean) else 0.0)}"
