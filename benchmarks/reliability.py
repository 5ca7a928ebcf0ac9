"""Write the page on what this project survives: python -m benchmarks.reliability --output docs/reliability.md.

Runs the tests that kill runs, feed broken files and attack, and counts what they report to have tried; then predicts
very large inputs and measures how much memory that takes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.large_predictions import HERE, Measured, measure, train
from benchmarks.markdown import REPOSITORY, last_commit, table

KILLS, READ, REFUSED, ATTACKS = "kills survived", "corrupt inputs read", "corrupt inputs refused", "attacks refused"
"""What tests count: the names under which they record it."""

PAGE = """\
# What this project survives

Made by `make reliability`, not edited by hand; the last commit that changed `src/` or `conf/` was {commit}.

{overview}

## Kills

A run is killed at moments drawn at random, by SIGKILL, SIGTERM or SIGINT, and resumed, until it is done. After each
kill every checkpoint is whole; at the end metrics and weights equal, bit for bit, those of a run that was left alone.

{kills}

Counted in {kills_in}.

`python train.py resume=RUN` goes on with a run that was interrupted, however it was. Promised: on a CPU it ends with
the same metrics and the same weights, bit for bit, as a run that was never interrupted, without overrides, at the
recorded number of threads, with deterministic algorithms (the default), on the same machine with the same packages.
Not promised: that on a GPU, or with several processes (`trainer=ddp`); there a run goes on from its last whole
checkpoint, and its numbers may differ a little.

## Corrupt inputs

Files drawn by Hypothesis, whole and damaged: random bytes, truncated files, unusual modes and sizes, odd names, links;
tables with missing columns, text, infinities. Each is read to the right values or refused with one error that names the
file, and leaves nothing half written. A damage that takes no sample away, such as bytes behind an image's end, may
be read.

{inputs}

## Attacks

Run directories, sweeps, archives and configs from a stranger, made to run code, to read or write outside their folder,
to fill the memory, or to send commands to the terminal. Counted is each attack with each command that it is tried on.
None had an effect: a command that reads what is poisoned refuses it with one message, one that does not read it ends
well.

{attacks}

## Large predictions

`triptych predict` on made-up inputs, with networks of each experiment's own size, trained for a few steps. The peak is
the most memory that the process had resident, PyTorch itself included, in MB of 2^20 bytes; beside it stands the peak
of a process that was given a hundredth of the inputs, or of the page's pixels. However many the inputs, a few are in
memory at a time; one page is there as a whole, what the network makes of it only tile by tile.

{predictions}

Seconds are of a machine with {cores} CPU cores that other programs used too: take them as a size. That an interrupted
prediction goes on with `--resume` has [tests of its own](../tests/test_predict_kills.py), which are not counted here.

## Not promised

The figures are of what was tried. Not promised is that a file of your own is right where it is only well formed, and
that a package which you name with `--trust` does no harm.
"""


@dataclass(frozen=True)
class Count:
    """What one test counted: ``number`` of ``name``, by the test ``case`` of the file ``path``."""

    path: str
    case: str
    name: str
    number: int


def recording(tests: Path) -> list[Path]:
    """The test files that count something for the page."""
    return sorted(path for path in tests.rglob("test_*.py") if "record_property(" in path.read_text("utf-8"))


def run_tests(junit: Path) -> None:
    """Run these tests, including slow ones, and write the JUnit file.

    Raises:
        RuntimeError: a test failed.
    """
    command = [sys.executable, "-m", "pytest", "-n", "auto", "-m", "slow or not slow", f"--junitxml={junit}"]
    files = [str(path.relative_to(REPOSITORY)) for path in recording(REPOSITORY / "tests")]
    # One thread per worker, as in `make test`.
    environment = {"OMP_NUM_THREADS": "1"} | os.environ
    if code := subprocess.run([*command, *files], cwd=REPOSITORY, env=environment).returncode:
        raise RuntimeError(f"the tests failed (pytest's exit code {code}): mend what they say first")


def read_counts(junit: Path) -> list[Count]:
    """What the tests of a JUnit file counted, one Count per test and name.

    Raises:
        RuntimeError: a test failed, or nothing was counted under one of the names.
    """
    counts = []
    for case in ElementTree.parse(junit).getroot().iter("testcase"):
        name = case.get("name", "")
        if case.find("failure") is not None or case.find("error") is not None:
            raise RuntimeError(f"{junit}: {name} failed: mend that first")
        for item in case.iter("property"):
            if (recorded := item.get("name", "")) in (KILLS, READ, REFUSED, ATTACKS):
                path = case.get("classname", "").replace(".", "/") + ".py"
                counts.append(Count(path, name, recorded, int(item.get("value", ""))))
    for wanted in (KILLS, READ, REFUSED, ATTACKS):
        if not total(counts, wanted):
            raise RuntimeError(f"{junit}: no test recorded {wanted!r}: run all that do, slow ones included")
    return counts


def total(counts: Iterable[Count], *names: str) -> int:
    """The sum of what was counted under these names."""
    return sum(count.number for count in counts if count.name in names)


def sums(counts: Iterable[Count], name: str, key: Callable[[Count], str]) -> Counter[str]:
    """The counts under a name, summed by ``key``; the keys are sorted."""
    found: Counter[str] = Counter()
    for count in sorted(counts, key=key):
        if count.name == name:
            found[key(count)] += count.number
    return found


def page(counts: Sequence[Count], predictions: Sequence[Measured], commit: str, cores: int) -> str:
    """The page, in Markdown; links are relative to ``docs/``."""
    kills = sums(counts, KILLS, lambda count: count.case.partition("[")[2].rstrip("]"))
    read, refused, attacks = (sums(counts, name, lambda count: count.path) for name in (READ, REFUSED, ATTACKS))
    overview = [
        ("kills survived", f"{kills.total():,}"),
        ("corrupt inputs tried", f"{read.total() + refused.total():,}"),
        ("attacks refused", f"{attacks.total():,}"),
        *((f"predicted at once: {row.text}", f"peak {row.peak:,.0f} MB") for row in predictions),
    ]
    inputs = [(_link(path), f"{read[path]:,}", f"{refused[path]:,}") for path in sorted(read | refused)]
    predicted = [
        (row.text, f"{row.peak:,.0f} MB", f"{row.small_peak:,.0f} MB", f"{_rounded(row.seconds):,}")
        for row in predictions
    ]
    return PAGE.format(
        commit=commit,
        cores=cores,
        overview=table(("what was tried", "figure"), overview),
        kills=table(("experiment", "kills survived"), [(name, f"{number:,}") for name, number in kills.items()]),
        kills_in=", ".join(_link(path) for path in sums(counts, KILLS, lambda count: count.path)),
        inputs=table(("test", "read right", "refused by name"), inputs),
        attacks=table(("test", "attacks refused"), [(_link(path), f"{number:,}") for path, number in attacks.items()]),
        predictions=table(("input", "peak", "peak of a hundredth", "seconds, about"), predicted),
    )


def _link(path: str) -> str:
    return f"[{path.rpartition('/')[2]}](../{path})"


def _rounded(seconds: float) -> int:
    """Round to tens, at least ten: the rest varies from one run to the next."""
    return max(10, round(seconds / 10) * 10)


def main(arguments: list[str] | None = None) -> None:
    """Count, measure, and write the page."""
    parser = argparse.ArgumentParser(description="Write the page of what this project survives.")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="count what these tests said; default: run them now")
    for task in HERE:
        parser.add_argument(
            f"--{task.size}", type=int, default=task.usual, metavar="N", help=f"{task.experiment} (%(default)s)"
        )
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            junit = options.junit or work / "junit.xml"
            if not options.junit:
                run_tests(junit)
            counts = read_counts(junit)
            runs, predictions = {}, []
            for task in HERE:
                if task.experiment not in runs:
                    print(f"training {task.experiment}", flush=True)
                    runs[task.experiment] = train(task.experiment, work)
                size = getattr(options, task.size)
                print(f"predicting {task.text.format(size)}", flush=True)
                predictions.append(measure(task, size, runs[task.experiment], work))
                print(f"  {predictions[-1]}", flush=True)
    except (RuntimeError, OSError, ElementTree.ParseError) as error:
        sys.exit(f"error: {error}")
    options.output.write_text(page(counts, predictions, last_commit(), os.cpu_count() or 1), "utf-8")
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
