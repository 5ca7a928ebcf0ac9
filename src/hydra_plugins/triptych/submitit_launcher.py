"""Launcher of sweeps on a SLURM cluster, with submitit."""

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import OmegaConf

from hydra_plugins.triptych._job import Job
from hydra_plugins.triptych._launch import SweepLauncher, print_job_start, record_crash
from hydra_plugins.triptych._remote import RemoteJob
from triptych.config import ConfigError
from triptych.job import print_job_failure
from triptych.results.directory import DONE, new_run_id
from triptych.results.record import read_record


class SubmititLauncher(SweepLauncher):
    """Submits the jobs to SLURM as one array, or runs them on this machine as submitit would run them there.

    A job close to its time limit saves, and SLURM requeues it to be resumed.

    Args:
        executor: ``slurm`` or ``local``.
        array_parallelism: number of concurrent jobs.
        timeout_min: time limit of a job in minutes, anew each time it is resumed.
        max_num_timeout: how often a job that reached the limit is resumed.
        cpus_per_task: CPU cores per job; null leaves it to the cluster.
        gpus_per_node: GPUs per job.
        mem_gb: memory per job in GB; null leaves it to the cluster.
        partition: SLURM partition of the jobs; null for the cluster's default.
        signal_delay_s: how many seconds before the limit a job is told to save.
        setup: shell commands to run before the job, such as ``module load``.
        additional_parameters: further options of ``sbatch`` by their long names.
    """

    def __init__(
        self,
        executor: str,
        array_parallelism: int,
        timeout_min: int,
        max_num_timeout: int = 3,
        cpus_per_task: int | None = None,
        gpus_per_node: int = 0,
        mem_gb: float | None = None,
        partition: str | None = None,
        signal_delay_s: int = 90,
        setup: Sequence[str] = (),
        additional_parameters: dict[str, Any] | None = None,
    ) -> None:
        self.kind, self.parallel, self.cpus = executor, array_parallelism, cpus_per_task
        self.max_num_timeout = max_num_timeout
        self.parameters: dict[str, Any] = {
            "timeout_min": timeout_min,
            "cpus_per_task": cpus_per_task,
            "gpus_per_node": gpus_per_node,
            "mem_gb": mem_gb,
            "slurm_partition": partition,
            "slurm_signal_delay_s": signal_delay_s,
            "slurm_array_parallelism": array_parallelism,
            "slurm_setup": list(setup),
            "slurm_additional_parameters": OmegaConf.to_container(OmegaConf.create(additional_parameters or {})),
        }
        self.executor: Any = None
        self.running: list[tuple[Job, Any]] = []

    def concurrency(self) -> int:
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"hydra/launcher=submitit_{self.kind} needs a package that is not installed ({error}): "
                "`make setup EXTRAS=submitit` adds it"
            ) from error
        if self.parallel < 1:
            raise ConfigError(f"hydra.launcher.array_parallelism={self.parallel}: expected a number from 1")
        if self.executor is None:
            # For submitit's pickles of the jobs. Always a new folder, since an existing one may be untrusted.
            folder = Path(self.config.hydra.sweep.dir).absolute() / ".submitit" / new_run_id()
            try:
                self.executor = submitit.AutoExecutor(folder, self.kind, slurm_max_num_timeout=self.max_num_timeout)
                self.executor.update_parameters(name="triptych", **self.parameters)
            except (AssertionError, RuntimeError, ValueError) as error:  # no srun here; a value of the wrong type
                raise ConfigError(f"hydra/launcher=submitit_{self.kind}: {error}") from error
        return self.parallel

    def threads(self, num_concurrent: int) -> int | None:
        return self.cpus

    def start(self, waiting: deque[Job]) -> None:
        # SLURM itself limits how many jobs run, and queues the others.
        room = len(waiting) if self.kind == "slurm" else self.parallel - len(self.running)
        jobs = [waiting.popleft() for _ in range(min(room, len(waiting)))]
        if not jobs:
            return
        tasks = [Preemptible(RemoteJob(job, self.context, self.config, self.task)) for job in jobs]
        try:
            with self.executor.batch():
                sent = [self.executor.submit(task) for task in tasks]
        except RuntimeError as error:  # submitit's, with sbatch's message
            raise ConfigError(f"the cluster did not accept the jobs: {error}") from error
        # Links with absolute paths, which would point outside the sweep's directory once it is moved.
        for link in self.executor.folder.glob(".submission_file_*"):
            link.unlink()
        for job in jobs:
            print_job_start(job)
        self.running += zip(jobs, sent, strict=True)

    def ended(self) -> Iterator[Job]:
        time.sleep(0.5)
        done = [(job, sent) for job, sent in self.running if sent.done()]
        self.running = [pair for pair in self.running if pair not in done]
        for job, sent in done:
            if read_record(job.directory).error:
                print_job_failure(job.directory, job.number)
            elif not (job.directory / DONE).exists() and not self.received_signals and sent.exception() is not None:
                record_crash(job, self._describe_crash(sent))
            yield job

    def _describe_crash(self, sent: Any) -> str:
        """What is known about a job that ended without recording an error; submitit's own message if there is one."""
        complaint = (sent.stderr() or "").strip().splitlines() if sent.paths.result_pickle.exists() else []
        state = f" ({sent.state}, says SLURM)" if self.kind == "slurm" else " (out of memory?)"
        log = os.path.relpath(sent.paths.stderr, self.folder)
        return f"{complaint[-1] if complaint else f'its process died{state}'}; what it printed: {log}"

    def has_running_jobs(self) -> bool:
        return bool(self.running)

    def ask_to_stop(self, sent: signal.Signals) -> None:
        for _, job in self.running:
            if self.kind == "slurm":
                job.cancel(check=False)
            else:
                with suppress(ProcessLookupError):
                    os.kill(int(job.job_id), signal.SIGTERM)  # to submitit, which forwards it

    def kill_all(self) -> None:
        for _, job in self.running:
            job.cancel(check=False)


@dataclass(frozen=True)
class Preemptible:
    """A job that saves and is requeued when submitit's signal says that its time is up."""

    remote_job: RemoteJob

    def __call__(self) -> int:
        logging.getLogger("submitit").propagate = False  # it logs to its own files, not to train.log
        queue_again = signal.getsignal(signal.SIGUSR2)
        times_up: list[int] = []

        def save(number: int, _: FrameType | None) -> None:
            times_up.append(number)
            os.kill(os.getpid(), signal.SIGTERM)  # on which a run finishes its step and saves

        # SLURM signals every process of the job. Processes started from here inherit the mask, so the signal does not
        # end them; in this one a thread waits for it, or the handler runs, if a thread started earlier receives it.
        signal.signal(signal.SIGUSR2, save)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        waiting = threading.Thread(target=lambda: save(signal.sigwait({signal.SIGUSR2}), None), daemon=True)
        waiting.start()
        code = self.remote_job.run()
        if times_up and code and callable(queue_again):
            queue_again(signal.SIGUSR2, None)  # does not return
        return code

    def checkpoint(self) -> Any:
        """What submitit runs the next time: the same, since what remains to be done is determined then."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
