"""The launcher of sweeps: every job in a process of its own."""

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.triptych._job import Job, Place, count_gpus, work
from triptych.config import ConfigError
from triptych.results.directory import DONE, ERROR
from triptych.results.record import read_record
from triptych.sweeps import standing

INTERRUPTED = (130, 143, -signal.SIGINT, -signal.SIGTERM)
"""How a job's process ends that was told to."""
SHARED = ("search",)
"""The sweepers with which several processes may work on one sweep: they agree on who runs which job."""


class ProcessLauncher(Launcher):
    """Runs each job in a process of its own, so that its memory, and its end, whatever that is, are the job's alone.

    The processes are forked from a server that has imported what jobs need, so that none pays for it. A job that is
    done is left as it is, one under way goes on from its last checkpoint: that is how a sweep is resumed.

    Args:
        n_jobs: jobs at a time; -1: one for each GPU, or for each CPU core where there is none. With several at a time
            each has one GPU, and its share of the cores unless ``threads`` is given.
    """

    def __init__(self, n_jobs: int = 1) -> None:
        self.n_jobs = n_jobs
        self.running: dict[BaseProcess, tuple[Job, str | None]] = {}
        self.told: list[signal.Signals] = []
        self.lock: Any = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config
        # Fork-safe as the server is: it imports and waits. There is none on Windows.
        methods = multiprocessing.get_all_start_methods()
        self.processes: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:
            self.processes.set_forkserver_preload(["hydra_plugins.triptych._preload"])

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs that are not done yet.

        Args:
            job_overrides: what each is run with.
            initial_job_idx: the number of the first; the others follow.

        Returns:
            For each job the best value of its monitored metric; None for one that failed.

        Raises:
            SystemExit: 1 for a failure with ``sweep.fail_fast``, 2 for a mistake, 130 for Ctrl-C, 143 for SIGTERM.
        """
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        self.folder = Path(str(self.config.hydra.sweep.dir))
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._hold()
            slots = self.slots()
            jobs = [self._plan(initial_job_idx + place, job, len(slots)) for place, job in enumerate(job_overrides)]
        except ConfigError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        self._run([job for job in jobs if job.standing != "ended"], slots, len(jobs))
        return [self._result(job) for job in jobs]

    def _hold(self) -> None:
        """Keep other processes from driving this sweep until this one ends; the kernel frees it, however that is."""
        from filelock import FileLock, Timeout

        if self.lock or self.config.hydra.runtime.choices.get("hydra/sweeper") in SHARED:
            return
        self.lock = FileLock(self.folder / ".lock")
        try:
            self.lock.acquire(blocking=False)
        except Timeout as error:
            raise ConfigError(f"another process is running the sweep {self.folder}: wait for it, or stop it") from error

    def slots(self) -> list[str | None]:
        """The GPU of each job that runs at a time, None where it has whatever there is."""
        n_jobs = self.n_jobs
        if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or (n_jobs < 1 and n_jobs != -1):
            raise ConfigError(f"hydra.launcher.n_jobs={n_jobs}: expected a number from 1, or -1")
        subdir = OmegaConf.to_container(self.config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[call-overload,index]
        if subdir != "${hydra:job.num}":
            raise ConfigError(f"hydra.sweep.subdir={subdir}: the jobs of a sweep lie in folders named by their numbers")
        if n_jobs == 1:
            return [None]
        gpus = [] if OmegaConf.select(self.config, "trainer.accelerator") == "cpu" else self._gpus()
        count = n_jobs if n_jobs > 0 else len(gpus) or _cores()
        return [gpus[slot % len(gpus)] if gpus else None for slot in range(count)]

    def _gpus(self) -> list[str]:
        """The GPUs by the names that CUDA_VISIBLE_DEVICES has for them; looked for in a process that ends again."""
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(1, self.processes) as pool:
            count = pool.submit(count_gpus).result()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        return visible.split(",")[:count] if visible else [str(number) for number in range(count)]

    def _plan(self, number: int, overrides: Sequence[str], at_once: int) -> Job:
        directory = self.folder.absolute() / str(number)
        todo = standing(directory, overrides)
        asked = OmegaConf.select(self.config, "threads") is not None
        if at_once > 1 and not asked and not any(override.startswith("threads=") for override in overrides):
            overrides = [*overrides, f"threads={max(1, _cores() // at_once)}"]
        return Job(number, tuple(overrides), directory, todo)

    def _run(self, jobs: Sequence[Job], slots: Iterable[str | None], planned: int) -> None:
        """Run the jobs, as many at a time as there are slots."""
        waiting, free = deque(jobs), deque(slots)
        at_once = min(len(free), len(jobs))
        if len(jobs) < planned:
            print(f"{planned - len(jobs)} of {planned} jobs have ended already.")
        failed: Job | None = None
        with self._listening():
            try:
                while self.running or waiting:
                    while waiting and free and not self.told:
                        self._start(waiting.popleft(), Place(free.popleft(), shared=at_once > 1))
                    for job, gpu in self._ended():
                        free.append(gpu)
                        failed = failed or (job if (job.directory / ERROR).exists() else None)
                    if self.told:
                        self._stop(self.told[0])
                        print(f"Interrupted. Go on with: python train.py -m resume={self.folder}")
                        sys.exit(128 + self.told[0])
                    if failed and OmegaConf.select(self.config, "sweep.fail_fast"):
                        self._stop(signal.SIGTERM)
                        self._end_after(failed, [job.number for job in waiting])
            finally:
                for process in self.running:
                    process.kill()

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Note Ctrl-C and SIGTERM: raised where they happen to come they could be lost, or leave a job half begun."""

        def note(number: int, _: Any) -> None:
            self.told.append(signal.Signals(number))

        self.told.clear()
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, job: Job, place: Place) -> None:
        from joblib import wrap_non_picklable_objects

        verb = "goes on" if job.standing == "begun" else "starts"
        print(f"\njob {job.number} {verb}: {' '.join(filter_overrides(job.overrides))}", flush=True)
        task = wrap_non_picklable_objects(self.task)  # the task of a script is not to be had by its name
        process = self.processes.Process(
            target=work, args=(job, place, self.context, self.config, task), name=f"job {job.number}"
        )
        process.start()
        self.running[process] = job, place.gpu

    def _ended(self) -> Iterator[tuple[Job, str | None]]:
        """Wait a while for processes to end; yields the job and GPU of each, and leaves a word on those that died."""
        sentinels = {process.sentinel: process for process in self.running}
        for sentinel in wait(list(sentinels), timeout=0.5):
            process = sentinels[sentinel]  # type: ignore[index]
            process.join()
            job, gpu = self.running.pop(process)
            code = process.exitcode
            if code and code not in INTERRUPTED and not (job.directory / DONE).exists():
                job.directory.mkdir(exist_ok=True)
                (job.directory / ERROR).write_text(f"{_death(code)}\n")
                print(f"job {job.number} failed: {_death(code)}", file=sys.stderr)
            yield job, gpu

    def _stop(self, sent: signal.Signals) -> None:
        """Send all jobs a signal, upon which they save and end, and wait for them; a Ctrl-C meanwhile kills them."""
        before = self.told.count(signal.SIGINT)
        while self.running:
            for process in self.running:
                # More than once, for a process that has only just been forked does not listen yet.
                with suppress(ProcessLookupError):
                    os.kill(process.pid or 0, sent)
            for _ in self._ended():
                pass
            if self.told.count(signal.SIGINT) > before:
                print("Stopped without saving.", file=sys.stderr)
                return

    def _end_after(self, failed: Job, left: list[int]) -> NoReturn:
        """End the sweep with its report after the first failure."""
        rest = f"; not run: {', '.join(map(str, left))}" if left else ""
        print(f"sweep.fail_fast: job {failed.number} failed, and ends the sweep{rest}", file=sys.stderr)
        self.context.callbacks.on_multirun_end(config=self.config, config_name=self.config.hydra.job.config_name)
        sys.exit(1)

    @staticmethod
    def _result(job: Job) -> JobReturn:
        result = JobReturn(overrides=list(job.overrides), status=JobStatus.COMPLETED)
        if (job.directory / DONE).exists():
            record = read_record(job.directory)
            result.return_value = record.best(record.monitor)
        return result


def _death(code: int) -> str:
    """What is known of a process that ended without a word."""
    if code > 0:
        return f"its process ended with exit code {code} and said no more"
    name = signal.Signals(-code).name
    return f"its process was killed by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")


def _cores() -> int:
    """The CPU cores this process may use."""
    from joblib import cpu_count

    return cpu_count()
