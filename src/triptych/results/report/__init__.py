"""What runs have in common and what sets them apart: on the terminal, as a table, as text and as a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.files import replaced
from triptych.results.directory import CONFIG, LOGS, REPORT, SWEEP, find_run, new_run_id
from triptych.results.output import make_folder
from triptych.results.record import Record, read_records
from triptych.results.report import markdown, page, terminal
from triptych.results.report.comparison import Comparison, compare
from triptych.results.report.document import Document, document
from triptych.results.report.pictures import pictures
from triptych.results.report.table import results
from triptych.results.section import Section


@dataclass(frozen=True)
class Report:
    """A report that has been written.

    Attributes:
        folder: where ``results.csv``, ``report.md``, ``report.html`` and ``figures/`` lie.
        comparison: the runs.
        document: its content.
    """

    folder: Path
    comparison: Comparison
    document: Document


def report(
    folders: Sequence[str | Path],
    output: Path | None = None,
    monitor: str | None = None,
    mode: str | None = None,
    mixed: bool = False,
    apart: bool = False,
) -> Report:
    """Compare runs: print their ranking, and write ``results.csv``, ``report.md`` and ``report.html``.

    Args:
        folders: runs and sweeps; ``latest`` for the newest run of any experiment.
        output: the folder for what is written; None for that of the sweep, and for any other set of runs a new one.
        monitor: the metric that ranks; None for the one by which the runs were trained.
        mode: ``min`` or ``max``: which is better, where the metric does not say.
        mixed: whether runs on different data are ranked all the same.
        apart: whether runs on different data are ranked apart, as those of one sweep are unless ``mixed``.

    Raises:
        ValueError: a folder holds no run, the runs cannot be ranked together, or the output is a run itself or cannot
            be made.
    """
    places = [find_run(str(folder)) if str(folder) == "latest" else Path(folder) for folder in folders]
    alone = len(places) == 1 and not (places[0] / CONFIG).exists()
    # A sweep may well be over data: its own end ranks them apart, and to ask for its report again is no mistake.
    apart = apart or (alone and not mixed and (places[0] / SWEEP).exists())
    comparison = compare(read_records(places), monitor, mode, mixed, apart)
    if output is None:
        output = places[0] if alone else LOGS / f"report-{new_run_id()}"
    make_folder(output)
    if (output / CONFIG).exists():
        raise ValueError(f"{output} is a run, and its files stay as they are: name another folder with --output")
    if (output / "figures").is_symlink():
        raise ValueError(f"{output / 'figures'} is a link, and pictures written there would change other files")
    answers = [section for place in places for section in _answers(place, comparison.records)]
    names = [place.resolve().name for place in places]
    content = document(comparison, answers, ", ".join(dict.fromkeys(names[:3])) + (" and more" if names[3:] else ""))
    _write(output, comparison, content)
    terminal.show(content)
    return Report(output, comparison, content)


def _write(folder: Path, comparison: Comparison, content: Document) -> None:
    """Every file whole or not at all, and in the place of an earlier one."""
    drawn = pictures(content.sections)
    make_folder(folder / "figures")
    for name, png in drawn.values():
        with replaced(folder / "figures" / name) as aside:
            aside.write_bytes(png)
    texts = {
        "results.csv": results(comparison, folder),
        "report.md": markdown.render(content, {figure: f"figures/{name}" for figure, (name, _) in drawn.items()}),
        REPORT: page.render(content, {figure: png for figure, (_, png) in drawn.items()}),
    }
    for name, text in texts.items():
        with replaced(folder / name) as aside:
            aside.write_text(text, "utf-8", errors="replace", newline="\n")


def _answers(place: Path, records: Sequence[Record]) -> list[Section]:
    """What the study or the search says whose sweep this folder is."""
    from triptych.results import search, study
    from triptych.results.trials import DATABASE

    own = [record for record in records if place.resolve() == record.directory.resolve().parent]
    found = []
    for asked, maker in ((_asks(own), study.sections), ((place / DATABASE).exists(), search.sections)):
        try:
            found += maker(own, place) if asked else []
        except Exception as error:
            # Whatever is wrong with a claim or a database, the runs themselves can be reported.
            found.append(Section("Left out", [f"A part of this report could not be made: {error}"]))
    return found


def _asks(records: Sequence[Record]) -> bool:
    """Whether the runs belong to a study."""
    asking = next((record for record in records if any(line.startswith("study=") for line in record.overrides)), None)
    content = asking.config.get("study") if asking else None
    return isinstance(content, dict) and bool(content.get("claim"))
