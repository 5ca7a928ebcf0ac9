"""The report of a hyperparameter search: the best trials, its progress, and which settings matter."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from triptych.results.colours import BLUE, GREY, RED
from triptych.results.record import Record
from triptych.results.report.scales import figure_text
from triptych.results.section import Section
from triptych.results.summary import format_number
from triptych.results.trials import DEFINITION, read_study

if TYPE_CHECKING:
    from optuna import Study

BEST, OTHER, PRUNED = RED, BLUE, GREY
SHOWN = 10
"""Rows of the table of the best trials."""
FEWEST, LEAST_BEST = 12, 5
"""Fewest completed trials for which importances are computed, and fewest of them that count as the best."""


@dataclass(frozen=True)
class Trial:
    """One trial of the database: ``values`` is empty unless completed, ``last`` is the last intermediate value."""

    number: int
    state: str
    values: tuple[float, ...]
    params: Mapping[str, object]
    last: float | None


def sections(records: Sequence[Record], folder: Path) -> list[Section]:
    """Return the sections that a search adds to a report.

    Args:
        records: the runs of the report; those of this search are recognised by their directory.
        folder: the sweep's directory, with its database, which may be untrusted.
    """
    try:
        with read_study(folder) as study:
            objectives = {str(name): str(way) for name, way in study.user_attrs[DEFINITION]["objectives"].items()}
            trials = [
                Trial(
                    trial.number,
                    trial.state.name.lower(),
                    tuple(trial.values) if trial.state.name == "COMPLETE" else (),
                    trial.params,
                    trial.intermediate_values[max(trial.intermediate_values)] if trial.intermediate_values else None,
                )
                for trial in study.get_trials(deepcopy=False)
            ]
            best = [trials[trial.number] for trial in study.best_trials]
            importances = {name: _importances(study, place) for place, name in enumerate(objectives)}
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        return [Section("Search", [f"The search cannot be shown: {error}"])]
    runs = {record.name: record for record in records if record.directory.resolve().parent == folder.resolve()}
    completed = sum(bool(trial.values) for trial in trials)
    return [_trials_section(trials, best, objectives, runs), _importance_section(importances, completed)]


def _importances(study: "Study", place: int) -> dict[str, float]:
    """Return the importance of each setting for one objective, largest first; empty with too few trials.

    PED-ANOVA (Watanabe et al. 2023) compares the distribution of the settings among the best trials with that among
    all. It is fast even for a thousand trials, and for twenty it is more reliable than a random forest (fANOVA).
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import FrozenTrial, TrialState

    completed = len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]))
    if completed < FEWEST:
        return {}
    # With a `target` of its own the evaluator takes the smallest values as the best, whatever the direction.
    sign = -1 if study.directions[place].name == "MAXIMIZE" else 1

    def target(trial: FrozenTrial) -> float:
        return sign * trial.values[place]

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*computes the importances of params to achieve low `target` values.*")
        return get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(target_quantile=_best_share(completed)), target=target
        )


def _best_share(completed: int) -> float:
    """Return the share of the completed trials that counts as the best."""
    return max(0.25, LEAST_BEST / completed)


def _trials_section(
    trials: Sequence[Trial], best: Sequence[Trial], objectives: Mapping[str, str], runs: Mapping[str, Record]
) -> Section:
    """Return the section on how the trials ended and on the best ones, with the command that trains the best."""
    names = {"complete": "done", "pruned": "pruned", "fail": "failed", "running": "under way", "waiting": "waiting"}
    counts = {said: sum(trial.state == state for trial in trials) for state, said in names.items()}
    lines = [f"{len(trials)} trials: {', '.join(f'{count} {said}' for said, count in counts.items() if count)}."]
    completed = [trial for trial in trials if trial.values]
    if not completed:
        return Section("Search", [*lines, "No trial was completed, so there is none to choose."])
    metric, direction = next(iter(objectives.items()))
    sign = -1 if direction == "maximize" else 1
    if len(objectives) == 1:
        shown = sorted(completed, key=lambda trial: sign * trial.values[0])[:SHOWN]
        lines.append(f"Trial {shown[0].number} is the best: {metric} {format_number(shown[0].values[0])}.")
        figures = {"search-history": _history(trials, metric, direction)}
    else:
        shown = sorted(best, key=lambda trial: sign * trial.values[0])
        what = " and ".join(f"{name} ({way})" for name, way in objectives.items())
        lines.append(
            f"On the front of {what} lie {len(shown)} trials: none is better than another in everything. "
            f"Trial {shown[0].number} has the best {metric}."
        )
        figures = {"search-front": _front(completed, shown, list(objectives))} if len(objectives) == 2 else {}
    chosen = runs.get(str(shown[0].number))
    if chosen is not None:
        tested = [line for line in chosen.overrides if line.partition("=")[0] != "test"]
        lines.append(f"Train it anew, and test it: {replace(chosen, overrides=tested).command}")
    keys = list(dict.fromkeys(key for trial in shown for key in trial.params))
    rows = [
        [str(trial.number), *map(format_number, trial.values), *(_cell(trial.params.get(key)) for key in keys)]
        for trial in shown
    ]
    return Section("Search", lines, ["trial", *objectives, *keys], rows, figures)


def _importance_section(importances: Mapping[str, Mapping[str, float]], count: int) -> Section:
    """Return the section on the importance of the settings, from ``count`` completed trials."""
    title = "Which settings matter"
    keys = list(dict.fromkeys(key for shares in importances.values() for key in shares))
    if not keys:
        return Section(title, [f"Too few trials to tell: it takes {FEWEST} completed ones."])
    best = f"the best {100 * _best_share(count):.0f} % of the {count} completed ones"
    lines = [f"The share of each setting in what puts a trial among {best} (PED-ANOVA)."]
    completed = {name: shares for name, shares in importances.items() if shares}
    rows = [[key, *(f"{shares.get(key, 0.0):.0%}" for shares in completed.values())] for key in keys]
    figure = Figure(figsize=(6, 0.8 + 0.35 * len(keys)), layout="constrained")
    axis = figure.subplots()
    height = 0.8 / len(completed)
    for place, (name, shares) in enumerate(completed.items()):
        at = [row + place * height for row in range(len(keys))]
        axis.barh(
            at, [shares.get(key, 0.0) for key in keys], height, label=name, color=(OTHER, BEST, PRUNED)[place % 3]
        )
    axis.set_yticks([row + (len(completed) - 1) * height / 2 for row in range(len(keys))], map(figure_text, keys))
    axis.invert_yaxis()
    axis.set(xlabel="share", xlim=(0, None))
    if len(completed) > 1:
        axis.legend()
    return Section(title, lines, ["setting", *completed], rows, {"search-importances": figure})


def _history(trials: Sequence[Trial], metric: str, direction: str) -> Figure:
    """Plot the value of each trial and the best so far."""
    better = max if direction == "maximize" else min
    done = [(trial.number, trial.values[0]) for trial in trials if trial.values and math.isfinite(trial.values[0])]
    pruned = [
        (trial.number, trial.last)
        for trial in trials
        if trial.state == "pruned" and trial.last is not None and math.isfinite(trial.last)
    ]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    if done:
        best = [better(value for _, value in done[: place + 1]) for place in range(len(done))]
        axis.step([number for number, _ in done], best, where="post", color=BEST, label="best so far")
        axis.scatter([x for x, _ in done], [y for _, y in done], color=OTHER, s=18, label="completed")
        # An outlier would flatten all other trials: cut the axis at the worse end.
        values = sorted(value for _, value in done)
        low, high = values[0], values[-1]
        middle = values[len(values) // 2]
        if direction == "minimize" and high - low > 10 * (middle - low) > 0:
            axis.set_ylim(low - 0.2 * (middle - low), middle + 3 * (middle - low))
        if direction == "maximize" and high - low > 10 * (high - middle) > 0:
            axis.set_ylim(middle - 3 * (high - middle), high + 0.2 * (high - middle))
    if pruned:
        axis.scatter(
            [x for x, _ in pruned], [y for _, y in pruned], color=PRUNED, s=18, marker="x", label="pruned, as it stood"
        )
    low, high = axis.get_ylim()
    beyond = sum(not low <= value <= high for _, value in (*done, *pruned))
    if beyond:
        axis.set_title(f"{beyond} {'trial lies' if beyond == 1 else 'trials lie'} beyond this picture", fontsize=9)
    axis.set(xlabel="trial", ylabel=figure_text(metric))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if done or pruned:
        axis.legend()
    return figure


def _front(trials: Sequence[Trial], best: Sequence[Trial], metrics: Sequence[str]) -> Figure:
    """Plot all trials by their two objectives, and the Pareto front."""
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axis = figure.subplots()
    first, second = zip(*(trial.values for trial in trials), strict=True)
    axis.scatter(first, second, color=OTHER, s=18, label="completed")
    first, second = zip(*(trial.values for trial in best), strict=True)
    axis.plot(first, second, color=BEST, marker="o", label="front")
    for trial in best:
        axis.annotate(
            str(trial.number), (trial.values[0], trial.values[1]), xytext=(4, 4), textcoords="offset points", fontsize=8
        )
    axis.set(xlabel=figure_text(metrics[0]), ylabel=figure_text(metrics[1]))
    axis.legend()
    return figure


def _cell(value: object) -> str:
    if isinstance(value, float):
        return format_number(value)
    return "-" if value is None else str(value)
