"""Write the page on all studies: python -m triptych.results.study.page SWEEP... --output docs/studies.md.

Everything on it is computed from the runs, apart from the remark on each verdict, which comes from the study's file.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from triptych.files import atomic_write
from triptych.results.record import Record, read_records
from triptych.results.section import Section
from triptych.results.study import sections

HEAD = """\
# What the studies show

Each study is one command: it runs the sweep in its file under `conf/study/`, evaluates the runs, and reaches a verdict
on a claim of the course. `make studies` generates this page from the runs (their configs hold the remarks on each
verdict). A verdict applies to these data, this network and this budget: change them in the study's file, or on its
command line, and ask again.

An effect is the mean (for factors, the geometric mean) over pairs of runs with the same seed; any other swept settings
are averaged within each seed first. Its 95 % interval over the seeds is Student's. A claim *holds* if all its intervals
lie on the expected side. It *does not hold* if one lies on the other side, and still does when widened for the number
of expectations (for k of them to 1 - 0.05 / k, Bonferroni). Otherwise, or with fewer than three seeds, it is
*undecided*.
"""


def main(arguments: list[str] | None = None) -> None:
    """Write the page, and its figures into ``images/studies`` beside it."""
    parser = argparse.ArgumentParser(description="Write the page of the studies from their sweeps.")
    parser.add_argument("sweeps", nargs="+", type=Path, metavar="SWEEP")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    images = options.output.parent / "images" / "studies"
    images.mkdir(parents=True, exist_ok=True)
    parts, index = [], ["| study | claim | verdict |", "|---|---|---|"]
    for sweep in options.sweeps:
        records = read_records([sweep])
        (section,) = sections(records, sweep)
        for figure in section.figures.values():
            with atomic_write(images / f"{sweep.name}.png") as aside:
                figure.savefig(aside, dpi=80)
        parts.append(_part(sweep.name, section, records))
        verdict = next(line.partition(": ")[2] for line in section.lines if line.startswith("Verdict:"))
        index.append(f"| [{sweep.name}](#{sweep.name}) | {section.lines[0]} | {verdict} |")
    with atomic_write(options.output) as aside:
        aside.write_text("\n".join([HEAD, *index, "", *parts]))


def _part(name: str, section: Section, records: Sequence[Record]) -> str:
    command = "python train.py -m " + " ".join(_given(records))
    done = [record for record in records if record.metrics]
    minutes = sum(record.number("seconds") or 0 for record in done) / 60
    about = done[0].metrics if done else {}
    source = about.get("data", {})
    lines = [f"## {name}", "", f"> {section.lines[0]}", "", f"`{command}`", ""]
    for line in section.lines[1:]:
        lines += [f"**{line}**" if line.startswith("Verdict:") else line, ""]
    lines += [f"![{name}](images/studies/{name}.png)", ""] if section.figures else []
    lines += [f"| {' | '.join(section.header)} |", f"|{'---|' * len(section.header)}"]
    lines += [f"| {' | '.join(row)} |" for row in section.rows]
    lines += [
        "",
        f"{len(records)} runs, {minutes:.1f} minutes of training in all; {source.get('source')} data "
        f"({', '.join(f'{part} {size}' for part, size in source.get('sizes', {}).items())}); "
        f"{about.get('device')}, {about.get('threads')} thread(s) a run; "
        f"torch {about.get('versions', {}).get('torch')}.",
        "",
    ]
    return "\n".join(lines)


def _given(records: Sequence[Record]) -> list[str]:
    """Return the override ``study=NAME`` and, for ``study=seeds``, the experiment's."""
    overrides = records[0].overrides
    study = [line for line in overrides if line.startswith("study=")]
    return study + [line for line in overrides if line.startswith("experiment=") and study == ["study=seeds"]]


if __name__ == "__main__":
    main()
