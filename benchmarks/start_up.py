"""Measure start-up time: from the command to the first step or the message."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.markdown import REPOSITORY
from benchmarks.pace import EXPERIMENTS

ONE_STEP = ("data.source=synthetic", "trainer.max_steps=1", "trainer.limit_val_batches=0", "test=false")
STAGES = ("reading the data", "weights, in", "epoch 1/")
"""What a run prints when it begins to read, when it has data and network, and right after the first step."""
QUICK = {
    "`python train.py --help`": ["train.py", "--help"],
    "an experiment with a misspelt key": [
        "train.py",
        f"experiment={EXPERIMENTS[0]}",
        "optimizer.lrr=1",
    ],
    "tab completion of an experiment's name": ["train.py", "-sc", "query=bash"],
    "`triptych --help`": ["-c", "from triptych.cli import main; main()", "--help"],
}
"""Commands that must not wait for torch, each with the arguments of Python for it."""


def seconds_of(arguments: list[str], folder: Path) -> float:
    """Seconds until the command ends."""
    environment = os.environ | {"COMP_LINE": "train.py experiment=", "COMP_POINT": "20"}
    began = time.perf_counter()
    subprocess.run([sys.executable, *_absolute(arguments)], cwd=folder, capture_output=True, env=environment)
    return time.perf_counter() - began


def _absolute(arguments: list[str]) -> list[str]:
    return [str(REPOSITORY / part) if part == "train.py" else part for part in arguments]


def seconds_until(overrides: Sequence[str], folder: Path, signs: Sequence[str]) -> list[float]:
    """Run ``train.py OVERRIDES`` in the folder; returns the seconds until each of its lines with one of the signs.

    Raises:
        RuntimeError: the number of such lines is not that of the signs.
    """
    command = [sys.executable, "-u", str(REPOSITORY / "train.py"), *overrides]
    began = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = [time.perf_counter() - began for line in process.stdout if any(sign in line for sign in signs)]
    if len(found) != len(signs):
        raise RuntimeError(f"{' '.join(command)} said {len(found)} of {len(signs)}: {', '.join(signs)}")
    return found


def stages(experiment: str, folder: Path) -> list[float]:
    """Seconds of a run's three stages (see STAGES), and in total."""
    reading, made, stepped = seconds_until([f"experiment={experiment}", *ONE_STEP], folder, STAGES)
    return [reading, made - reading, stepped - made, stepped]


def rows(rounds: int) -> Iterator[list[str]]:
    """A row per command: seconds of its stages, and in total."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for experiment in EXPERIMENTS:
            stages(experiment, folder)  # generates the synthetic data, and warms the disk cache
            runs = [stages(experiment, folder) for _ in range(rounds)]
            medians = [statistics.median(column) for column in zip(*runs, strict=True)]
            yield [f"`python train.py experiment={experiment}`", *(f"{seconds:.1f}" for seconds in medians)]
        for name, arguments in QUICK.items():
            seconds_of(arguments, folder)
            median = statistics.median(seconds_of(arguments, folder) for _ in range(rounds))
            yield [name, "", "", "", f"{median:.2f}"]
