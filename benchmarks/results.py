"""Write the tables of docs/results.md: python -m benchmarks.results denoise --output docs/results.md.

A task's file in ``benchmarks/tables/`` names its models, the protocols they are evaluated under and published figures.
Missing runs are run one after the other, and interrupted ones resumed; then the task's section of the page is written,
and the others stay unchanged.
"""

import argparse
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from benchmarks.markdown import REPOSITORY, page, table

from triptych.results.record import Record, read_record

TABLES = Path(__file__).parent / "tables"
HEAD = """\
# Results

Made by `make results TASK=NAME` from the runs alone, not edited by hand. Each figure is the test metric of a run's best
checkpoint; where a cell has several runs, one a seed, it gives their mean, standard deviation and number. Choices were
made on validation splits. Minutes are those of whole runs, with reading, validation, pictures and the test: the median,
of the runs with most threads.
"""


@dataclass(frozen=True)
class Cell:
    """A model under a protocol: its runs, one per seed."""

    directories: tuple[Path, ...]
    overrides: tuple[str, ...]

    @property
    def records(self) -> list[Record]:
        """The records of the runs that have ended."""
        return [record for directory in self.directories if (record := read_record(directory)).ended]


def read_table(task: str) -> dict[str, Any]:
    """Read a task's file in ``benchmarks/tables/``."""
    return yaml.safe_load((TABLES / f"{task}.yaml").read_text("utf-8"))


def cells(spec: dict[str, Any], logs: Path) -> list[list[Cell]]:
    """A row per model, a cell per protocol; each run has its own directory under ``logs``."""
    return [[_cell(model, protocol, logs) for protocol in spec["protocols"]] for model in spec["models"]]


def _cell(model: dict[str, Any], protocol: dict[str, Any], logs: Path) -> Cell:
    place = re.sub(r"\W+", "-", protocol["title"].lower())
    directories = [logs / f"{model['name']}-{place}-{seed}" for seed in range(model["seeds"])]
    return Cell(tuple(directories), (*model["overrides"], *protocol["overrides"]))


def run(cell: Cell) -> None:
    """Run or resume all runs of a cell that are not done.

    Raises:
        RuntimeError: a run failed.
    """
    for seed, directory in enumerate(cell.directories):
        if read_record(directory).ended:
            continue
        new = [*cell.overrides, f"seed={seed}", f"hydra.run.dir={directory}"]
        arguments = [f"resume={directory}"] if (directory / ".hydra").exists() else new
        print(f"python train.py {' '.join(arguments)}", flush=True)
        if code := subprocess.run([sys.executable, "train.py", *arguments], cwd=REPOSITORY).returncode:
            raise RuntimeError(f"{directory}: the run failed with exit code {code}")


def section(spec: dict[str, Any], rows: Sequence[Sequence[Cell]]) -> str:
    """A task's section of the page, without its heading."""
    header = ["model", "command", "weights", "steps", "threads", "minutes"]
    header += [
        f"{metric['title']}, {protocol['title']}" for protocol in spec["protocols"] for metric in spec["metrics"]
    ]
    lines = [_row(spec, model, cells_of_row) for model, cells_of_row in zip(spec["models"], rows, strict=True)]
    for anchor in spec["anchors"]:
        values = [str(value or "") for value in anchor["values"]]
        lines.append([anchor["system"], *[""] * 5, *values, *[""] * (len(header) - 6 - len(values))])
    return "\n\n".join([spec["text"], table(header, lines), _footnotes([cell for row in rows for cell in row])])


def _row(spec: dict[str, Any], model: dict[str, Any], row: Sequence[Cell]) -> list[str]:
    records = [record for cell in row for record in cell.records]
    # Protocols differ in the number of training samples, and so of steps.
    steps = sorted({round(record.number("steps") or 0) for record in records})
    threads = round(max(record.number("threads") or 0 for record in records))
    timed = [record.number("seconds") or 0 for record in records if record.number("threads") == threads]
    minutes = statistics.median(timed) / 60
    scale = spec.get("scale", 1)
    figures = [_figure(cell.records, metric, scale) for cell in row for metric in spec["metrics"]]
    command = f"`python train.py {' '.join(model['overrides'])}`"
    weights = f"{records[0].number('parameters') or 0:,.0f}"
    return [
        model["name"],
        command,
        weights,
        " to ".join(f"{n:,}" for n in steps),
        str(threads),
        f"{minutes:.1f}",
        *figures,
    ]


def _figure(records: Sequence[Record], metric: dict[str, Any], scale: float) -> str:
    """Mean, standard deviation and number of a metric's values, and the mean of their 95 % intervals, if any."""
    values, lows, highs = (
        [scale * value for record in records if (value := record.test(f"test/{metric['name']}{end}")) is not None]
        for end in ("", "_low", "_high")
    )
    if not values:
        return ""
    digits = metric.get("digits", 4)
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    figure = f"**{statistics.fmean(values):.{digits}f}**{spread} (n = {len(values)})"
    if lows and highs:
        figure += f", 95 %: {statistics.fmean(lows):.{digits}f} to {statistics.fmean(highs):.{digits}f}"
    return figure


def _footnotes(measured: Sequence[Cell]) -> str:
    """The hardware, commits and stand-in data with which the figures were measured."""
    records = [record for cell in measured for record in cell.records]
    stand_ins = sorted({str(text) for record in records if (text := record.metrics["data"]["stand_in"])})
    hardware = sorted({str(record.metrics["hardware"]["cpu"]) for record in records})
    commits = sorted({str(record.metrics["git"]["commit"])[:7] for record in records})
    lines = [f"Measured on {', '.join(hardware)}, at {', '.join(commits)}."]
    lines += [f"Not the published split itself: {text}." for text in stand_ins]
    return " ".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing and write the task's section of the page."""
    parser = argparse.ArgumentParser(description="Run a task's models and write its part of the results.")
    parser.add_argument("task", choices=sorted(path.stem for path in TABLES.glob("*.yaml")))
    parser.add_argument("--logs", type=Path, default=Path("logs/results"), metavar="FOLDER", help="(%(default)s)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    spec = read_table(options.task)
    rows = cells(spec, (options.logs / options.task).absolute())
    try:
        for row in rows:
            for cell in row:
                run(cell)
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    old = options.output.read_text("utf-8") if options.output.exists() else ""
    options.output.write_text(page(HEAD, old, spec["title"], section(spec, rows)), "utf-8")
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
