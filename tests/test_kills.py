"""A run that is killed again and again, at moments drawn at random, ends as one that was left alone."""

import os
import random
import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest
from tests.harness import EXPERIMENTS, small, train
from tests.test_exact_resume import outcome

from triptych.results.checkpoints import is_whole, resumable
from triptych.results.directory import read_metrics

MOST = 25
"""Kills a run."""


def run(directory: Path, options: list[str]) -> None:
    """Train from the newest whole checkpoint, in a process of its own."""
    os.chdir(directory.parent)
    train(directory, *options, resume_from=resumable(directory)[0])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_kills_at_any_moment_change_nothing(
    experiment: str, data_root: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    longer = ("trainer.max_epochs=20", "trainer.log_every_n_steps=1", "callbacks.figures.every_n_epochs=10")
    options = small(experiment, data_root, *longer)
    context = get_context("forkserver")
    context.set_forkserver_preload(["triptych.run", "tests.test_kills"])
    draw = random.Random(0)

    def begin(name: str) -> "context.Process":  # type: ignore[name-defined]
        process = context.Process(target=run, args=(tmp_path / name, options))
        process.start()
        return process

    whole = begin("whole")
    whole.join()
    assert whole.exitcode == 0
    seconds = read_metrics(tmp_path / "whole")["seconds"]

    kills = 0
    while True:
        process = begin("part")
        process.join(draw.uniform(0.05, 0.3 * seconds) if kills < MOST else None)
        if process.exitcode is None:
            os.kill(process.pid or 0, draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
            process.join()
            kills += 1
            assert all(is_whole(path) for path in (tmp_path / "part/checkpoints").glob("*.ckpt"))
        elif process.exitcode == 0:
            break
        else:
            pytest.fail(f"exit code {process.exitcode} after {kills} kills")
    record_property("kills survived", kills)
    assert kills >= 10
    assert outcome(tmp_path / "part") == outcome(tmp_path / "whole")
