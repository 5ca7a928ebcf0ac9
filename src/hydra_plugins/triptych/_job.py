"""Run or resume one job of a sweep: the job, and the set-up of the process it runs in."""

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
from triptych.resume import parse_resumption
from triptych.sweeps import may_change
from triptych.terminal import harmless


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        number: its number, which names its directory.
        overrides: those the sweep plans it with.
        directory: its run directory, which may not exist yet.
        status: ``new``, ``begun`` or ``ended``, see ``triptych.sweeps.job_status``.
        threads: the number of CPU threads that its launcher assigns; None for that of its config.
    """

    number: int
    overrides: tuple[str, ...]
    directory: Path
    status: str
    threads: int | None = None

    @property
    def arguments(self) -> list[str]:
        """The overrides of a new run of the job: its own, and the threads of its launcher."""
        return [*self.overrides, *([] if self.threads is None else [f"threads={self.threads}"])]


@dataclass(frozen=True)
class Place:
    """Where a job runs: its GPU (None: not restricted to one), and whether other jobs run at the same time."""

    gpu: str | None = None
    shared: bool = False


def job_process_main(job: Job, place: Place, context: HydraContext, config: DictConfig, task: TaskFunction) -> None:
    """Entry point of a job's process: set it up, then run or resume the job. Errors are recorded in its directory.

    Args:
        job: the job; ``new`` or ``begun``.
        place: where it runs.
        context: the sweep's Hydra context.
        config: the sweep's config.
        task: Hydra's task function.

    Raises:
        SystemExit: 130 or 143 after an interruption, 1 if an error could not be recorded.
    """
    _exit_with_parent()
    interrupt_once()
    set_start_method(None, force=True)  # DataLoader workers start as in any other process, not as this one did
    if place.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = place.gpu
    if place.shared:
        sys.stdout = _SharedTerminal(sys.stdout.buffer, line_buffering=True)
    try:
        code = run_or_resume(job, context, config, task)
    except Exception as error:
        # The launcher sees only that this process failed, not why.
        print(f"job {job.number}: {type(error).__name__}: {harmless(error)}", file=sys.stderr)
        code = 1
    if code:
        sys.exit(code)


def run_or_resume(job: Job, context: HydraContext, config: DictConfig, task: TaskFunction) -> int:
    """Run or resume one job in this process; returns 130 after Ctrl-C, else 0.

    Raises:
        SystemExit: the job was interrupted.
        Exception: it failed before its task began, and the error could not be recorded in its directory.
    """
    try:
        if job.status == "begun":
            _resume(job)
        else:
            _start(job, context, config, task)
    except KeyboardInterrupt:
        return 130
    except runs.RunInUseError as error:  # the directory is that other process's to write to
        print(f"job {job.number} is left alone: {harmless(error)}", file=sys.stderr)
    except Exception as error:  # before the task began, which records its own errors
        record_failure(job, error)
    return 0


def record_failure(job: Job, error: Exception) -> None:
    """Write to a job's directory and print why it failed before its task began; if that is impossible, raise it."""
    runs.write_error(job.directory, error)
    if not read_record(job.directory).error:
        raise error
    runs.print_job_failure(job.directory, job.number)


def _start(job: Job, context: HydraContext, config: DictConfig, task: TaskFunction) -> None:
    setup_globals()
    if config.hydra.searchpath:
        Plugins.instance()  # Hydra then reopens the search path, with plugins that a new process has not loaded yet
    composed = context.config_loader.load_sweep_config(config, job.arguments)
    with open_dict(composed):
        composed.hydra.job.id = composed.hydra.job.num = job.number
        composed.hydra.run.dir = str(job.directory)
    # Lightning starts the other ranks of a distributed run with these arguments and hydra.run.dir.
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


def _resume(job: Job) -> None:
    recorded = read_record(job.directory).overrides
    # A mapping cannot be set as a whole, and an unchanged one need not be.
    anew = [line for line in job.overrides if may_change(line) and not ("={" in line and line in recorded)]
    arguments = [f"resume={job.directory}", *(line.lstrip("+") for line in anew)]
    resumed = parse_resumption(arguments)
    assert resumed is not None
    runs.resume_training(resumed)


def count_gpus() -> int:
    """How many GPUs this process sees."""
    import torch

    return torch.cuda.device_count()


class _SharedTerminal(io.TextIOWrapper):
    """The output of several jobs to one terminal; it denies being a terminal, so that no progress bar is drawn."""

    def isatty(self) -> bool:
        return False


def _exit_with_parent() -> None:
    """End this process at once when the one that runs the sweep has ended, even if it was killed."""
    sweep = parent_process()
    assert sweep is not None

    def watch() -> None:
        wait([sweep.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="watch the sweep", daemon=True).start()


def interrupt_once() -> None:
    """React to the first Ctrl-C only, as terminal and sweep may both send one; the fork server ignores SIGINT."""

    def interrupt(*_: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
