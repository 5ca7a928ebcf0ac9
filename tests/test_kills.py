"""A run that is killed repeatedly, at random moments, ends exactly as an uninterrupted one."""

import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from types import FrameType

import pytest
from tests.harness import EXPERIMENTS, small, train
from tests.test_exact_resume import outcome

from triptych.results.checkpoints import is_intact, resumable

MOST = 25
"""Maximum number of kills per run."""
LONG = 3600.0


def run(directory: Path, options: list[str], seconds: float = LONG, sent: int = signal.SIGKILL) -> None:
    """Train from the newest intact checkpoint; to be called in a subprocess, which ``sent`` ends after ``seconds``.

    These are seconds of CPU time, which do not depend on the load of the machine.
    """

    def kill(_: int, frame: FrameType | None) -> None:
        os.kill(os.getpid(), sent)

    # The fork server of an earlier test's sweep ignores both signals, and this process may be forked from it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # By default SIGPROF ends a process at once, wherever it is, as SIGKILL would.
    signal.signal(signal.SIGPROF, signal.SIG_DFL if sent == signal.SIGKILL else kill)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    os.chdir(directory.parent)
    before = time.process_time()
    train(directory, *options, resume_from=resumable(directory)[0])
    signal.setitimer(signal.ITIMER_PROF, 0)
    (directory / "work.txt").write_text(str(time.process_time() - before))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not hasattr(signal, "SIGPROF"), reason="this system has no timer of a process's work")
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_kills_at_random_moments_change_nothing(
    experiment: str, data_root: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    longer = ("trainer.max_epochs=20", "trainer.log_every_n_steps=1", "callbacks.figures.every_n_epochs=10")
    options = small(experiment, data_root, *longer)
    context = get_context("forkserver")
    context.set_forkserver_preload(["triptych.run", "tests.test_kills"])
    draw = random.Random(0)

    def ends(name: str, *killed: float) -> int:
        process = context.Process(target=run, args=(tmp_path / name, options, *killed))
        process.start()
        process.join()
        assert process.exitcode is not None
        return process.exitcode

    assert ends("whole") == 0
    work = float((tmp_path / "whole/work.txt").read_text())

    kills, code = 0, None
    while code != 0:
        sent = draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
        code = ends("part", draw.uniform(0.02, 0.2) * work, sent) if kills < MOST else ends("part")
        kills += code != 0
        # Before training begins, a signal has its default effect.
        allowed = {signal.SIGKILL: (-signal.SIGPROF,), signal.SIGTERM: (143, -sent), signal.SIGINT: (130, 1)}[sent]
        assert code in (0, *allowed), f"after {kills} kills, by {sent.name}"
        assert all(is_intact(path) for path in (tmp_path / "part/checkpoints").glob("*.ckpt"))
    record_property("kills survived", kills)
    assert kills >= 5
    assert outcome(tmp_path / "part") == outcome(tmp_path / "whole")
