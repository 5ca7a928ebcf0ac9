"""The content of a report, independent of its format: sentences, tables and figures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from triptych.results.record import STATES, Record
from triptych.results.report.charts import MOST_CURVES, curves, parallel, parameter
from triptych.results.report.comparison import Comparison, Ranking, data_of
from triptych.results.report.settings import REPEATS
from triptych.results.report.text import file_name, join_first, mean_and_deviation, printable, setting, settings_line
from triptych.results.section import Section
from triptych.results.summary import format_number

MOST_PICTURES = 12
"""Most swept parameters that get a figure each."""


@dataclass(frozen=True)
class Document:
    """The content of a report.

    Attributes:
        title: its heading.
        headline: what was compared, and the result, in a few sentences.
        warning: why runs are not fully comparable; empty if they are.
        answers: the sections of a study or a search.
        tables: rankings, means over seeds and folds, and unfinished runs.
        pictures: the sections with figures.
        commands: for each run its label and the command that repeats it.
    """

    title: str
    headline: list[str]
    warning: str
    answers: list[Section]
    tables: list[Section]
    pictures: list[Section]
    commands: list[tuple[str, str]]

    @property
    def sections(self) -> list[Section]:
        """All sections, in order."""
        return [*self.answers, *self.tables, *self.pictures]


def document(comparison: Comparison, answers: Sequence[Section], place: str) -> Document:
    """Compose the report of a comparison.

    Args:
        comparison: the compared runs.
        answers: the sections of a study or a search.
        place: the name of the runs' folder, for the title.
    """
    tables, pictures = [], []
    for ranking in comparison.rankings:
        if any(record.ended for record in ranking.records):
            tables.append(ranking_table(comparison, ranking))
        if ranking.repeated and ranking.ranked:
            tables.append(means_table(ranking))
        pictures += _pictures(comparison, ranking)
    if comparison.unfinished:
        tables.append(unfinished_table(comparison))
    commands = [(comparison.labels[record.directory], printable(record.command)) for record in comparison.records]
    title = f"{_experiments(comparison.records)}: {printable(place)}"
    return Document(title, headline(comparison), warning(comparison), list(answers), tables, pictures, commands)


def headline(comparison: Comparison) -> list[str]:
    """Return sentences on what was compared, on which data, and which run and mean are best."""
    count = Counter(record.state for record in comparison.records)
    states = ", ".join(f"{count[state]} {state}" for state in STATES if count[state])
    runs = f"{len(comparison.records)} run{'s' if len(comparison.records) > 1 else ''}: {states}."
    compared = list(dict.fromkeys(key for ranking in comparison.rankings for key in ranking.keys))
    lines = [f"{runs} Compared: {join_first(compared, 12)}." if compared else runs]
    lines += [line for ranking in comparison.rankings if (line := _data(ranking))]
    for ranking in comparison.rankings:
        where = f"{ranking.title}: " if ranking.title else ""
        better = "smaller" if ranking.mode == "min" else "larger"
        if not ranking.ranked:
            lines.append(f"{where}No run has a value of {printable(ranking.monitor)}: there is nothing to rank.")
            continue
        best = ranking.ranked[0]
        settings = settings_line(ranking.settings[best.directory])
        label, value = comparison.labels[best.directory], format_number(ranking.value(best))
        lines.append(
            f"{where}Best by {printable(ranking.monitor)} ({better} is better): run {label} with {value}"
            f"{f', {settings}' if settings else ''}."
        )
        group = ranking.groups[0]
        if ranking.repeated and len(group.values) > 1:
            settings = settings_line(group.settings)
            shown = f"{mean_and_deviation(group.values)} over {len(group.values)} runs"
            lines.append(f"{where}Best mean: {shown}, with {settings}." if settings else f"{where}Mean: {shown}.")
    return lines


def warning(comparison: Comparison) -> str:
    """Return a warning if the data of the runs differ; otherwise an empty string."""
    if not comparison.differences:
        return ""
    told = "; ".join(comparison.differences)
    if comparison.mixed:
        return f"These runs differ in more than their settings and are ranked together, as was asked for: {told}."
    return f"Runs that cannot be compared are ranked apart: {told}."


def ranking_table(comparison: Comparison, ranking: Ranking) -> Section:
    """Return the ranking: one row per run that ended normally, the best first."""
    ended = [record for record in ranking.records if record.ended]
    ranked = [*ranking.ranked, *(record for record in ended if ranking.value(record) is None)]
    tested, pruned = ranking.test_metric, any(record.state == "pruned" for record in ended)
    rows = []
    for place, record in enumerate(ranked, 1):
        tests = [record.test(tested)] if tested else []
        seconds = record.number("seconds")
        rows.append(
            [
                str(place) if ranking.value(record) is not None else "-",
                comparison.labels[record.directory],
                *map(format_number, [ranking.value(record), *tests]),
                *map(setting, ranking.settings[record.directory].values()),
                format_number(record.number("epochs")),
                "-" if seconds is None else f"{seconds:,.0f}",
                *([record.state] if pruned else []),
            ]
        )
    header = ["rank", "run", ranking.monitor, *([tested] if tested else []), *ranking.keys, "epochs", "seconds"]
    return Section(
        f"Ranking{_of(ranking)}",
        [],
        [*map(printable, header), *(["state"] if pruned else [])],
        rows,
    )


def means_table(ranking: Ranking) -> Section:
    """Return the means over seeds and folds: one row per group of runs, the best mean first."""
    tested = ranking.test_metric
    rows = []
    for group in ranking.groups:
        row = [*map(setting, group.settings.values()), mean_and_deviation(group.values)]
        row += [mean_and_deviation(group.tests)] if tested else []
        rows.append([*row, _of_all(len(group.values), len(group.records))])
    over = [key for key in ranking.keys if key in REPEATS]
    lines = [
        f"Mean ± standard deviation over {' and '.join(over) or 'runs with the same settings'}. "
        "Runs counts those that were done."
    ]
    if any(len(group.values) < len(group.records) for group in ranking.groups):
        lines.append("Where some were not, the mean is of those that were: it may flatter.")
    keys = [key for key in ranking.keys if key not in REPEATS]
    header = [*keys, ranking.monitor, *([tested] if tested else []), "runs"]
    return Section(f"Means{_of(ranking)}", lines, list(map(printable, header)), rows)


def unfinished_table(comparison: Comparison) -> Section:
    """Return the table of unfinished runs, each with the first line of its error."""
    rows = [
        [
            comparison.labels[record.directory],
            record.state,
            printable(record.error)
            or record.damage
            or ("stopped, killed, or still under way" if record.state == "interrupted" else "-"),
            settings_line(_distinguishing_settings(comparison, record)) or "-",
        ]
        for record in comparison.unfinished
    ]
    return Section("Not finished", [], ["run", "state", "error", "settings"], rows)


def _distinguishing_settings(comparison: Comparison, record: Record) -> dict[str, str]:
    """Return the settings that distinguish a run; all of its settings if it is in no ranking."""
    for ranking in comparison.rankings:
        if record.directory in ranking.settings:
            return ranking.settings[record.directory]
    return record.settings


def _pictures(comparison: Comparison, ranking: Ranking) -> list[Section]:
    sections = []
    prefix = f"{comparison.rankings.index(ranking) + 1}-" if len(comparison.rankings) > 1 else ""
    keys = ranking.parameters[:MOST_PICTURES]
    varied = len(ranking.ranked) > 1
    drawn = {f"{prefix}parameter-{file_name(key)}": parameter(ranking, key) for key in keys} if varied else {}
    if drawn:
        lines = ["Every run is a point. In red the mean, and a triangle for a run beyond the edge."]
        if len(ranking.parameters) > len(keys):
            lines.append(f"Of {len(ranking.parameters)} swept parameters the first {len(keys)} are shown.")
        sections.append(Section(f"Swept parameters{_of(ranking)}", lines, figures=drawn))
    if (figure := curves(ranking, comparison.labels)) is not None:
        few = f"The curves of {MOST_CURVES} of the {len(ranking.records)} runs, the best first."
        lines = [few] if len(ranking.records) > MOST_CURVES else []
        sections.append(Section(f"Learning curves{_of(ranking)}", lines, figures={f"{prefix}learning-curves": figure}))
    if varied and (figure := parallel(ranking)) is not None:
        lines = ["Every line is a run through its settings to its result; the thick one is the best."]
        sections.append(Section(f"Parallel coordinates{_of(ranking)}", lines, figures={f"{prefix}parallel": figure}))
    return sections


def _data(ranking: Ranking) -> str:
    """Return a sentence on source, sizes and split of the data, from the first run that recorded them."""
    found = next((about for record in ranking.records if (about := data_of(record))), {})
    sizes = found.get("sizes")
    if not isinstance(sizes, dict):
        return ""
    if found.get("fold"):
        counted = f"{found['fold'].rpartition(' ')[2]} folds" if isinstance(found["fold"], str) else "folds"
    else:
        counted = ", ".join(f"{name} {size}" for name, size in sizes.items())
    text = (
        f"Data: {found.get('source')}, {counted}; split {found.get('split')}; fingerprint {found.get('fingerprint')}."
    )
    stand_in = f" The test is a stand-in: {found['stand_in']}." if found.get("stand_in") else ""
    return printable(text + stand_in)


def _experiments(records: Sequence[Record]) -> str:
    names = [record.metrics.get("experiment") or record.settings.get("experiment") for record in records]
    given = [printable(name) for name in names if isinstance(name, str)]
    return join_first(list(dict.fromkeys(filter(None, given)))) or "Runs"


def _of(ranking: Ranking) -> str:
    return f": {ranking.title}" if ranking.title else ""


def _of_all(count: int, total: int) -> str:
    return str(total) if count == total else f"{count} of {total}"
