"""Base class of all launchers of sweeps: which jobs are to run, how the sweep ends, and how it is resumed."""

import shlex
import signal
import sys
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.triptych._job import Job
from triptych.config import ConfigError
from triptych.results.directory import DONE, ERROR, SWEEP_LOCK
from triptych.results.record import config_places, read_record
from triptych.results.sweep import unrecorded_failures
from triptych.sweeps import job_status, record_job_count

SHARED = ("search",)
"""Sweepers with which several processes may work on one sweep: they agree on who runs which job."""


class SweepLauncher(Launcher):
    """Runs the jobs of a sweep, each in its own directory.

    A finished job is left as it is, an unfinished one resumes from its last checkpoint: that is how a sweep is resumed.
    """

    lock: Any = None
    num_concurrent = 1
    """The largest number of concurrent jobs of any batch so far."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config
        self.received_signals: list[signal.Signals] = []

    @abstractmethod
    def concurrency(self) -> int:
        """The number of concurrent jobs, and so of trials that a search draws together before it sees their results.

        Raises:
            ConfigError: the launcher cannot run jobs with its settings.
        """

    @abstractmethod
    def threads(self, num_concurrent: int) -> int | None:
        """The number of CPU threads of a job if so many run at a time; None leaves it to torch."""

    @abstractmethod
    def start(self, waiting: deque[Job]) -> None:
        """Pop the jobs that can be started from the left of ``waiting``, and start them."""

    @abstractmethod
    def ended(self) -> Iterator[Job]:
        """Wait a while for jobs to end, and yield those that did; record why one died in its directory."""

    @abstractmethod
    def has_running_jobs(self) -> bool:
        """Whether there are jobs that were started and have not ended."""

    @abstractmethod
    def ask_to_stop(self, sent: signal.Signals) -> None:
        """Tell all jobs to save and end. Called repeatedly: a job that has only just started does not react yet."""

    @abstractmethod
    def kill_all(self) -> None:
        """End all jobs at once, without letting them save."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs that are not done yet.

        Args:
            job_overrides: the overrides of each job.
            initial_job_idx: the number of the first job; the others follow.

        Returns:
            For each job the best value of its monitored metric; None for one that failed.

        Raises:
            SystemExit: 1 for a failure with ``sweep.fail_fast``, 2 for a user error, 130 for Ctrl-C, 143 for SIGTERM.
        """
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        self.folder = Path(str(self.config.hydra.sweep.dir))
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock_sweep()
            self._check_subdir()
            threads = self.threads(self._num_concurrent(len(job_overrides)))
            self._record_job_count(initial_job_idx + len(job_overrides))
            jobs = [self._plan(initial_job_idx + place, job, threads) for place, job in enumerate(job_overrides)]
            self._run([job for job in jobs if job.status != "ended"], len(jobs))
        except ConfigError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        return [self._result(job) for job in jobs]

    def _lock_sweep(self) -> None:
        """Lock this sweep against other processes until this one ends; the kernel releases the lock in any case."""
        from filelock import FileLock, Timeout

        if self.lock or self._is_shared():
            return
        self.lock = FileLock(self.folder / SWEEP_LOCK)
        try:
            self.lock.acquire(blocking=False)
        except Timeout as error:
            raise ConfigError(f"another process is running the sweep {self.folder}: wait for it, or stop it") from error

    def _check_subdir(self) -> None:
        subdir = OmegaConf.to_container(self.config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[call-overload,index]
        if subdir != "${hydra:job.num}":
            raise ConfigError(f"hydra.sweep.subdir={subdir}: the jobs of a sweep lie in folders named by their numbers")

    def _is_shared(self) -> bool:
        return self.config.hydra.runtime.choices.get("hydra/sweeper") in SHARED

    def _num_concurrent(self, jobs: int) -> int:
        """The number of jobs that run at a time and share the cores.

        The same for all jobs of a sweep, even for the rest when it is resumed: results depend on the number of threads,
        in the last digits.
        """
        concurrency = self.concurrency()
        # The batches of a search vary in size; in other sweeps, if there are several, the first is the largest.
        self.num_concurrent = concurrency if self._is_shared() else max(self.num_concurrent, min(concurrency, jobs))
        return self.num_concurrent

    def _record_job_count(self, so_far: int) -> None:
        trials = OmegaConf.select(self.config, "hydra.sweeper.trials") if self._is_shared() else None
        with suppress(OSError):  # the disk may be full, which the jobs will report
            record_job_count(self.folder, trials or so_far)

    def _plan(self, number: int, overrides: Sequence[str], threads: int | None) -> Job:
        directory = self.folder.absolute() / str(number)
        status = job_status(directory, overrides)
        asked = OmegaConf.select(self.config, "threads") is not None
        asked = asked or any(override.startswith("threads=") for override in overrides)
        return Job(number, tuple(overrides), directory, status, None if asked else threads)

    def _run(self, jobs: Iterable[Job], planned: int) -> None:
        waiting = deque(jobs)
        if len(waiting) < planned:
            print(f"{planned - len(waiting)} of {planned} jobs have ended already.")
        failed: Job | None = None
        with self._listening():
            try:
                while self.has_running_jobs() or waiting:
                    if not self.received_signals:
                        self.start(waiting)
                    for job in self.ended():
                        failed = failed or (job if _failed(job) and not self._is_finding(job) else None)
                    if self.received_signals:
                        self._stop(self.received_signals[0])
                        places = config_places(OmegaConf.to_container(self.config.hydra))
                        again = shlex.join(["python", "train.py", "-m", *places, f"resume={self.folder}"])
                        print(f"Interrupted. Continue with: {again}")
                        sys.exit(128 + self.received_signals[0])
                    if failed and OmegaConf.select(self.config, "sweep.fail_fast"):
                        self._stop(signal.SIGTERM)
                        self._end_after(failed, [job.number for job in waiting])
            finally:
                self.kill_all()

    def _is_finding(self, job: Job) -> bool:
        """Whether a job of a study diverged, which is a finding there and not a failure."""
        return bool(self.config.get("study")) and read_record(job.directory).state == "diverged"

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Record Ctrl-C and SIGTERM: as exceptions, raised anywhere, they could be lost or leave a job half started."""

        def note(number: int, _: Any) -> None:
            self.received_signals.append(signal.Signals(number))

        self.received_signals.clear()
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, sent: signal.Signals) -> None:
        """Tell all jobs to save and end, and wait for them; another Ctrl-C gives up waiting, and they are killed."""
        before = self.received_signals.count(signal.SIGINT)
        while self.has_running_jobs():
            self.ask_to_stop(sent)
            for _ in self.ended():
                pass
            if self.received_signals.count(signal.SIGINT) > before:
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
        result = JobReturn(overrides=job.arguments, status=JobStatus.COMPLETED)
        if (job.directory / DONE).exists():
            record = read_record(job.directory)
            result.return_value = record.best(record.monitor)
        return result


def _failed(job: Job) -> bool:
    """Whether a job that has ended left an error, or tried to and could not."""
    record = read_record(job.directory)
    if record.error and record.ended:  # refused, as another job's run has ended there
        unrecorded_failures[job.directory] = record.error
    return (job.directory / ERROR).exists() or job.directory in unrecorded_failures


def print_job_start(job: Job) -> None:
    """Print that a job starts or resumes, and with which settings."""
    verb = "resumes" if job.status == "begun" else "starts"
    print(f"\njob {job.number} {verb}: {' '.join(filter_overrides(job.arguments))}", flush=True)


def record_crash(job: Job, what: str) -> None:
    """Write to the directory of a job that died, and print, what is known about its end."""
    try:
        job.directory.mkdir(exist_ok=True)
        (job.directory / ERROR).write_text(f"{what}\n")
    except OSError as error:
        what = f"{what}; its directory cannot be written: {error}"
        unrecorded_failures[job.directory] = what
    print(f"job {job.number} failed: {what}", file=sys.stderr)
