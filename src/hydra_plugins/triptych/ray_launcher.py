"""Launcher of sweeps on a Ray cluster."""

import os
import signal
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

from hydra_plugins.triptych._job import Job
from hydra_plugins.triptych._launch import SweepLauncher, print_job_start, record_crash
from hydra_plugins.triptych._remote import RemoteJob
from triptych.config import ConfigError
from triptych.job import print_job_failure
from triptych.results.directory import DONE
from triptych.results.record import read_record


class RayLauncher(SweepLauncher):
    """Runs each job as a Ray task, in its own process, wherever resources are free.

    If its process or node dies, Ray runs a task again on another, where the job resumes from its last checkpoint.

    Args:
        address: of the cluster, ``HOST:PORT`` or ``auto``; null starts Ray on this machine for the sweep.
        num_cpus: CPU cores per job.
        num_gpus: GPUs per job; a fraction shares a GPU.
        max_retries: how often a job that died is run again; -1 for no limit.
    """

    def __init__(self, address: str | None, num_cpus: int, num_gpus: float, max_retries: int) -> None:
        self.address, self.cpus, self.gpus, self.retries = address, num_cpus, num_gpus, max_retries
        self.running: dict[Any, Job] = {}

    def concurrency(self) -> int:
        self._connect()
        import ray

        there = ray.cluster_resources()
        room = [there.get(name, 0) / asked for name, asked in (("CPU", self.cpus), ("GPU", self.gpus)) if asked]
        return max(1, int(min(room)))

    def _connect(self) -> None:
        # Opts out of Ray's usage statistics, unless the user has decided.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"hydra/launcher=ray needs a package that is not installed ({error}): `make setup EXTRAS=ray` adds it"
            ) from error
        if self.cpus < 1:
            raise ConfigError(f"hydra.launcher.num_cpus={self.cpus}: expected a number from 1")
        if ray.is_initialized():
            return
        own: dict[str, Any] = {} if self.address else {"include_dashboard": False}
        try:
            ray.init(address=self.address or "local", log_to_driver=False, logging_level="warning", **own)
        except (ConnectionError, ValueError) as error:
            raise ConfigError(f"hydra.launcher.address={self.address}: no Ray cluster there ({error})") from error

    def threads(self, num_concurrent: int) -> int | None:
        return self.cpus

    def start(self, waiting: deque[Job]) -> None:
        import ray

        # One process per job, which frees all its memory when it ends.
        task = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=self.retries, max_calls=1)(_task)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "CUDA_"))}
        while waiting:
            job = waiting.popleft()
            print_job_start(job)
            remote_job = RemoteJob(job, self.context, self.config, self.task, environment=environment)
            self.running[task.options(name=f"job {job.number}").remote(remote_job)] = job

    def ended(self) -> Iterator[Job]:
        import ray

        done, _ = ray.wait(list(self.running), timeout=0.5)
        for reference in done:
            job = self.running.pop(reference)
            try:
                ray.get(reference)
            except ray.exceptions.RayError as error:
                if not self.received_signals and not (job.directory / DONE).exists():
                    cause = getattr(error, "cause", error)  # what the task raised; a process that died raised nothing
                    record_crash(job, f"{type(cause).__name__}: {str(cause).strip().splitlines()[0]}")
            else:
                if read_record(job.directory).error:
                    print_job_failure(job.directory, job.number)
            yield job

    def has_running_jobs(self) -> bool:
        return bool(self.running)

    def ask_to_stop(self, sent: signal.Signals) -> None:
        import ray

        for reference in self.running:
            ray.cancel(reference)

    def kill_all(self) -> None:
        import ray

        for reference in self.running:
            ray.cancel(reference, force=True)


def _task(remote_job: RemoteJob) -> int:
    """Ray's task. A node that shuts down sends SIGTERM: the job saves, then kills itself, so that Ray runs it again."""
    code = remote_job.run()
    if code == 128 + signal.SIGTERM:
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return code
