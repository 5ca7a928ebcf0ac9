"""Reports that compare runs: on the terminal, as CSV, as Markdown and as an HTML page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.files import atomic_write
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
    """A written report.

    Attributes:
        folder: contains ``results.csv``, ``report.md``, ``report.html`` and ``figures/``.
        comparison: the compared runs.
        document: the content of the report.
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
        output: the output folder; None for that of a single sweep, or for a new one below ``logs/`` otherwise.
        monitor: the metric to rank by; None for the one that the runs monitored.
        mode: ``min`` or ``max``: which values are better; None to infer it from the metric.
        mixed: rank runs on different data together.
        apart: rank runs on different data separately, the default for a single sweep.

    Raises:
        ValueError: a folder contains no run, the runs cannot be ranked together, or the output folder is a run or
            cannot be created.
    """
    places = [find_run(str(folder)) if str(folder) == "latest" else Path(folder) for folder in folders]
    is_single_sweep = len(places) == 1 and not (places[0] / CONFIG).exists()
    # A sweep may vary the data. Its own report ranks those runs separately, so repeating the report must work too.
    apart = apart or (is_single_sweep and not mixed and (places[0] / SWEEP).exists())
    comparison = compare(read_records(places), monitor, mode, mixed, apart)
    if output is None:
        output = places[0] if is_single_sweep else LOGS / f"report-{new_run_id()}"
    make_folder(output)
    if (output / CONFIG).exists():
        raise ValueError(f"{output} is a run, and its files stay as they are: name another folder with --output")
    if (output / "figures").is_symlink():
        raise ValueError(f"{output / 'figures'} is a link, and pictures written there would change other files")
    answers = [section for place in places for section in _sweep_sections(place, comparison.records)]
    names = [place.resolve().name for place in places]
    content = document(comparison, answers, ", ".join(dict.fromkeys(names[:3])) + (" and more" if names[3:] else ""))
    _write(output, comparison, content)
    terminal.show(content)
    return Report(output, comparison, content)


def _write(folder: Path, comparison: Comparison, content: Document) -> None:
    """Write each file atomically, replacing an earlier one."""
    drawn = pictures(content.sections)
    make_folder(folder / "figures")
    for name, png in drawn.values():
        with atomic_write(folder / "figures" / name) as aside:
            aside.write_bytes(png)
    texts = {
        "results.csv": results(comparison, folder),
        "report.md": markdown.render(content, {figure: f"figures/{name}" for figure, (name, _) in drawn.items()}),
        REPORT: page.render(content, {figure: png for figure, (_, png) in drawn.items()}),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as aside:
            aside.write_text(text, "utf-8", errors="replace", newline="\n")


def _sweep_sections(place: Path, records: Sequence[Record]) -> list[Section]:
    """Return the sections of the study or the search that the sweep in this folder belongs to."""
    from triptych.results import search, study
    from triptych.results.trials import DATABASE

    own = [record for record in records if place.resolve() == record.directory.resolve().parent]
    found = []
    for asked, maker in ((_has_study(own), study.sections), ((place / DATABASE).exists(), search.sections)):
        try:
            found += maker(own, place) if asked else []
        except Exception as error:
            # An invalid study or a damaged database must not prevent the report on the runs themselves.
            found.append(Section("Left out", [f"A part of this report could not be made: {error}"]))
    return found


def _has_study(records: Sequence[Record]) -> bool:
    """Whether the runs belong to a study."""
    asking = next((record for record in records if any(line.startswith("study=") for line in record.overrides)), None)
    content = asking.config.get("study") if asking else None
    return isinstance(content, dict) and bool(content.get("claim"))
