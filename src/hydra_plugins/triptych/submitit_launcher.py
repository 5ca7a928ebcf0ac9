"""The launcher of sweeps on a SLURM cluster, by submitit."""

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
from hydra_plugins.triptych._launch import SweepLauncher, leave_word, say_started
from hydra_plugins.triptych._remote import Errand
from triptych.config import ConfigError
from triptych.job import say_failed
from triptych.results.directory import DONE, new_run_id
from triptych.results.record import read_record


class SubmititLauncher(SweepLauncher):
    """Hands the jobs to SLURM as one array, or runs them here as submitit would run them there.

    A job that nears its time limit saves, and SLURM puts it into the queue again, to go on.

    Args:
        executor: ``slurm``, or ``local``.
        array_parallelism: jobs at a time.
        timeout_min: minutes that a job may take at a stretch.
        max_num_timeout: how often a job that took longer goes on.
        cpus_per_task: CPU cores of a job; null leaves it to the cluster.
        gpus_per_node: GPUs of a job.
        mem_gb: memory of a job in GB; null leaves it to the cluster.
        partition: where SLURM queues the jobs; null is its own default.
        signal_delay_s: how many seconds before the limit a job is told to save.
        setup: shell commands that go before the job, such as ``module load``.
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

    def at_once(self) -> int:
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
            # What submitit keeps of the jobs, pickled. A new folder, for one that is there may be a stranger's.
            folder = Path(self.config.hydra.sweep.dir).absolute() / ".submitit" / new_run_id()
            try:
                self.executor = submitit.AutoExecutor(folder, self.kind, slurm_max_num_timeout=self.max_num_timeout)
                self.executor.update_parameters(name="triptych", **self.parameters)
            except (AssertionError, RuntimeError, ValueError) as error:  # no srun here; a value of another type
                raise ConfigError(f"hydra/launcher=submitit_{self.kind}: {error}") from error
        return self.parallel

    def threads(self, side_by_side: int) -> int | None:
        return self.cpus

    def start(self, waiting: deque[Job]) -> None:
        # SLURM itself holds back what is too much, and has all jobs in its queue meanwhile.
        room = len(waiting) if self.kind == "slurm" else self.parallel - len(self.running)
        jobs = [waiting.popleft() for _ in range(min(room, len(waiting)))]
        if not jobs:
            return
        try:
            with self.executor.batch():
                sent = [
                    self.executor.submit(Preemptible(Errand(job, self.context, self.config, self.task))) for job in jobs
                ]
        except RuntimeError as error:  # submitit's, with what sbatch says
            raise ConfigError(f"the jobs were not taken: {error}") from error
        # Links by absolute paths, which would lead out of the sweep's directory once that is moved.
        for link in self.executor.folder.glob(".submission_file_*"):
            link.unlink()
        for job in jobs:
            say_started(job)
        self.running += zip(jobs, sent, strict=True)

    def ended(self) -> Iterator[Job]:
        time.sleep(0.5)
        done = [(job, sent) for job, sent in self.running if sent.done()]
        self.running = [pair for pair in self.running if pair not in done]
        for job, sent in done:
            if read_record(job.directory).error:
                say_failed(job.directory, job.number)
            elif not (job.directory / DONE).exists() and not self.told and sent.exception() is not None:
                leave_word(job, self._death(sent))
            yield job

    def _death(self, sent: Any) -> str:
        """What is known of a job that ended without a word; submitit's own complaint where it has one."""
        complaint = (sent.stderr() or "").strip().splitlines() if sent.paths.result_pickle.exists() else []
        state = f" ({sent.state}, says SLURM)" if self.kind == "slurm" else " (out of memory?)"
        log = os.path.relpath(sent.paths.stderr, self.folder)
        return f"{complaint[-1] if complaint else f'its process died{state}'}; what it printed: {log}"

    def under_way(self) -> bool:
        return bool(self.running)

    def tell(self, sent: signal.Signals) -> None:
        for _, job in self.running:
            if self.kind == "slurm":
                job.cancel(check=False)
            else:
                with suppress(ProcessLookupError):
                    os.kill(int(job.job_id), signal.SIGTERM)  # to submitit, which hands it on

    def abandon(self) -> None:
        for _, job in self.running:
            job.cancel(check=False)


@dataclass(frozen=True)
class Preemptible:
    """A job that saves and is queued again when submitit's signal says that its time is up."""

    errand: Errand

    def __call__(self) -> int:
        logging.getLogger("submitit").propagate = False  # its lines are in files of its own, not in train.log
        queue_again = signal.getsignal(signal.SIGUSR2)
        times_up: list[int] = []

        def save(number: int, _: FrameType | None) -> None:
            times_up.append(number)
            os.kill(os.getpid(), signal.SIGTERM)  # upon which a run ends its step, and saves

        # SLURM tells every process of the job. Blocked, the signal does not end those that this one will start, which
        # inherit that; here a thread waits for it, or else the handler has it, if a thread from before took it.
        signal.signal(signal.SIGUSR2, save)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        waiting = threading.Thread(target=lambda: save(signal.sigwait({signal.SIGUSR2}), None), daemon=True)
        waiting.start()
        code = self.errand.run()
        if times_up and code and callable(queue_again):
            queue_again(signal.SIGUSR2, None)  # does not return
        return code

    def checkpoint(self) -> Any:
        """What submitit runs the next time: the same, for what is to do is asked then."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
