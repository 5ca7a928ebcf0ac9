"""Measure what torch.compile costs and gains in a run (``trainer.compile=true``)."""

import statistics
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from benchmarks.pace import CLOCK, EXPERIMENTS, Pace, composed, run_triptych, short, spread, suppress_output, title
from torch._inductor.utils import fresh_cache

from triptych.terminal import quiet_lightning

WAYS = {"as it is": "false", "compiled": "true", "compiled before": "true"}
"""``trainer.compile`` of each run of a round; the last finds the kernels of the one before it in the cache."""


def measure(experiment: str, rounds: int, *overrides: str) -> dict[str, list[Pace]]:
    """Run the WAYS in turn for the given number of rounds; returns the paces of each way, one per round."""
    found: dict[str, list[Pace]] = {name: [] for name in WAYS}
    common = (f"experiment={experiment}", "trainer=cpu", *short(experiment), *overrides, CLOCK)
    for _ in range(rounds):
        with fresh_cache():
            for name, value in WAYS.items():
                torch.compiler.reset()
                config = composed(*common, f"trainer.compile={value}")
                with TemporaryDirectory() as folder, suppress_output(), quiet_lightning():
                    found[name].append(run_triptych(config, Path(folder)))
    return found


def rows(rounds: int, threads: int) -> Iterator[list[str]]:
    """A row per task: milliseconds per step without and with, speed-up, seconds of waiting, and steps to break even."""
    torch.set_num_threads(threads)
    for experiment in EXPERIMENTS:
        found = measure(experiment, rounds, f"threads={threads}")
        plain, compiled, again = found.values()
        step = {name: statistics.median(pace.step for pace in paces) for name, paces in found.items()}
        gains = [one.step / other.step for one, other in zip(plain, compiled, strict=True)]
        waits = [statistics.median(pace.warm_up for pace in paces) for paces in (plain, compiled, again)]
        saved = step["as it is"] - step["compiled"]
        even = f"{(waits[1] - waits[0]) / saved:,.0f} steps" if saved > 0 else "never"
        yield [
            title(experiment),
            *(f"{1000 * step[name]:.2f}" for name in ("as it is", "compiled")),
            spread(gains),
            *(f"{max(wait, 0):.1f}" for wait in waits),
            even,
        ]
