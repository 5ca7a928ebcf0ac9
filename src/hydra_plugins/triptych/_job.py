"""The process of one job of a sweep: what is set up before the job runs in it."""

import io
import os
import re
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing import parent_process, set_start_method
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from triptych import job as runs
from triptych.results.record import config_places, read_record
from triptych.resume import resumption
from triptych.sweeps import may_change
from triptych.terminal import harmless


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        number: its number, which names its directory.
        overrides: what the sweep plans it with.
        directory: its run directory, which may not be there yet.
        standing: ``new``, ``begun`` or ``ended``, see ``triptych.sweeps.standing``.
        threads: the CPU threads that its launcher gives it; None for those of its config.
    """

    number: int
    overrides: tuple[str, ...]
    directory: Path
    standing: str
    threads: int | None = None

    @property
    def arguments(self) -> list[str]:
        """What it is run with, were it run anew: its overrides, and the threads of its launcher."""
        return [*self.overrides, *([] if self.threads is None else [f"threads={self.threads}"])]


@dataclass(frozen=True)
class Place:
    """Where a job runs: the GPU it is given, None for whatever there is, and whether others run at the same time."""

    gpu: str | None = None
    shared: bool = False


def work(job: Job, place: Place, context: HydraContext, config: DictConfig, task: TaskFunction) -> None:
    """Run one job, or go on with it. An error is left in its directory; only an interruption is seen from outside.

    Args:
        job: the job; ``new`` or ``begun``.
        place: where it runs.
        context: Hydra's, of the sweep.
        config: the sweep's config.
        task: Hydra's task function.
    """
    _die_with_the_sweep()
    interrupt_once()
    set_start_method(None, force=True)  # for the workers of DataLoaders as in any other process, not as for this one
    if place.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = place.gpu
    if place.shared:
        sys.stdout = _SharedTerminal(sys.stdout.buffer, line_buffering=True)
    try:
        code = perform(job, context, config, task)
    except Exception as error:
        # The launcher will see that this process failed, and not why.
        print(f"job {job.number}: {type(error).__name__}: {harmless(error)}", file=sys.stderr)
        code = 1
    if code:
        sys.exit(code)


def perform(job: Job, context: HydraContext, config: DictConfig, task: TaskFunction) -> int:
    """Run one job, or go on with it, in this process; returns 130 after Ctrl-C, else 0.

    Raises:
        SystemExit: the job was interrupted.
        Exception: it failed before its task began, and that could not be left in its directory.
    """
    try:
        if job.standing == "begun":
            _go_on(job)
        else:
            _begin(job, context, config, task)
    except KeyboardInterrupt:
        return 130
    except runs.InUse as error:  # its directory tells of that process
        print(f"job {job.number} is left alone: {harmless(error)}", file=sys.stderr)
    except Exception as error:  # before the task began: it leaves its own
        fail(job, error)
    return 0


def fail(job: Job, error: Exception) -> None:
    """Leave in the directory of a job, and say, why it failed before its task began; where that cannot be, raise it."""
    runs.leave_error(job.directory, error)
    if not read_record(job.directory).error:
        raise error
    runs.say_failed(job.directory, job.number)


def _begin(job: Job, context: HydraContext, config: DictConfig, task: TaskFunction) -> None:
    setup_globals()
    if config.hydra.searchpath:
        Plugins.instance()  # Hydra opens the places anew then, by plugins that a new process has not found yet
    composed = context.config_loader.load_sweep_config(config, job.arguments)
    with open_dict(composed):
        composed.hydra.job.id = composed.hydra.job.num = job.number
        composed.hydra.run.dir = str(job.directory)
    # With this and hydra.run.dir Lightning starts the other processes of a distributed run.
    places = config_places(OmegaConf.to_container(config.hydra))
    sys.argv[1:] = [*places, *(line for line in job.arguments if not re.match(r"\+*(study|search)[.=]", line))]
    ended = run_job(
        hydra_context=context,
        task_function=task,
        config=composed,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    _ = ended.return_value  # raises what the task raised


def _go_on(job: Job) -> None:
    recorded = read_record(job.directory).overrides
    # A mapping cannot be set as a whole, and one that is as it was need not be.
    anew = [line for line in job.overrides if may_change(line) and not ("={" in line and line in recorded)]
    arguments = [f"resume={job.directory}", *(line.lstrip("+") for line in anew)]
    resumed = resumption(arguments)
    assert resumed is not None
    runs.train_on(resumed)


def count_gpus() -> int:
    """How many GPUs this process sees."""
    import torch

    return torch.cuda.device_count()


class _SharedTerminal(io.TextIOWrapper):
    """A terminal that several jobs write their lines to: no place for a progress bar."""

    def isatty(self) -> bool:
        return False


def _die_with_the_sweep() -> None:
    """End this process at once when the one that runs the sweep is gone, killed as it may have been."""
    sweep = parent_process()
    assert sweep is not None

    def watch() -> None:
        wait([sweep.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="watch the sweep", daemon=True).start()


def interrupt_once() -> None:
    """Take the first Ctrl-C, which the terminal and the sweep may both send; the fork server takes none."""

    def interrupt(*_: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
