"""Launcher of sweeps on this machine: every job in its own process."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.triptych._job import Job, Place, count_gpus, job_process_main
from hydra_plugins.triptych._launch import SweepLauncher, print_job_start, record_crash
from triptych.config import ConfigError
from triptych.results.directory import DONE

INTERRUPTED = (130, 143, -signal.SIGINT, -signal.SIGTERM)
"""Exit codes of a job's process that was told to stop."""


class ProcessLauncher(SweepLauncher):
    """Runs each job in its own process, so that its memory and any crash concern that job alone.

    The processes are forked from a server that has imported what jobs need, so that no job spends time on it.

    Args:
        n_jobs: number of concurrent jobs; -1: one per GPU, or per CPU core if there is none. Concurrent jobs have one
            GPU each, and an equal share of the cores unless ``threads`` is given. Fewer jobs have larger shares.
    """

    def __init__(self, n_jobs: int = 1) -> None:
        self.n_jobs = n_jobs
        self.running: dict[BaseProcess, tuple[Job, str | None]] = {}
        self.free: deque[str | None] = deque()

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        # The fork server only imports and waits, so forking it is safe. Windows has none.
        methods = multiprocessing.get_all_start_methods()
        self.processes: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:
            self.processes.set_forkserver_preload(["hydra_plugins.triptych._preload"])

    def concurrency(self) -> int:
        self.free = deque(self.slots())
        return len(self.free)

    def threads(self, num_concurrent: int) -> int | None:
        return max(1, _cores() // num_concurrent) if num_concurrent > 1 else None

    def slots(self) -> list[str | None]:
        """The GPU of each concurrent job, None if a job is not restricted to one."""
        n_jobs = self.n_jobs
        if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or (n_jobs < 1 and n_jobs != -1):
            raise ConfigError(f"hydra.launcher.n_jobs={n_jobs}: expected a number from 1, or -1")
        if n_jobs == 1:
            return [None]
        gpus = [] if OmegaConf.select(self.config, "trainer.accelerator") == "cpu" else self._gpus()
        count = n_jobs if n_jobs > 0 else len(gpus) or _cores()
        return [gpus[slot % len(gpus)] if gpus else None for slot in range(count)]

    def _gpus(self) -> list[str]:
        """The GPUs, named as in CUDA_VISIBLE_DEVICES; counted in a temporary process."""
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(1, self.processes) as pool:
            count = pool.submit(count_gpus).result()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        return visible.split(",")[:count] if visible else [str(number) for number in range(count)]

    def start(self, waiting: deque[Job]) -> None:
        from joblib import wrap_non_picklable_objects

        shared = len(self.running) + min(len(self.free), len(waiting)) > 1
        while waiting and self.free:
            job, gpu = waiting.popleft(), self.free.popleft()
            print_job_start(job)
            task = wrap_non_picklable_objects(self.task)  # a script's task cannot be pickled by name
            place = Place(gpu, shared)
            process = self.processes.Process(
                target=job_process_main, args=(job, place, self.context, self.config, task), name=f"job {job.number}"
            )
            process.start()
            self.running[process] = job, gpu

    def ended(self) -> Iterator[Job]:
        sentinels = {process.sentinel: process for process in self.running}
        for sentinel in wait(list(sentinels), timeout=0.5):
            process = sentinels[sentinel]  # type: ignore[index]
            process.join()
            job, gpu = self.running.pop(process)
            self.free.append(gpu)
            code = process.exitcode
            if code and code not in INTERRUPTED and not (job.directory / DONE).exists():
                record_crash(job, _describe_crash(code))
            yield job

    def has_running_jobs(self) -> bool:
        return bool(self.running)

    def ask_to_stop(self, sent: signal.Signals) -> None:
        for process in self.running:
            with suppress(ProcessLookupError):
                os.kill(process.pid or 0, sent)

    def kill_all(self) -> None:
        for process in self.running:
            process.kill()


def _describe_crash(code: int) -> str:
    """What is known about a process that ended without recording an error."""
    if code > 0:
        return f"its process ended with exit code {code} and recorded no error"
    name = signal.Signals(-code).name
    return f"its process was killed by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")


def _cores() -> int:
    """The CPU cores this process may use."""
    from joblib import cpu_count

    return cpu_count()
