"""Run a job of a sweep on another machine: what is sent there, and the set-up before it runs."""

import os
import signal
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from hydra import version
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.triptych._job import Job, interrupt_once, record_failure, run_or_resume
from triptych.config import ConfigError
from triptych.sweeps import job_status


@dataclass(frozen=True)
class RemoteJob:
    """A job with everything needed to run it; pickled, and run in its own process.

    What remains to be done is determined when it runs, not when it is planned: if its machine dies, it may be run again
    on another.

    Attributes:
        job: the job.
        context: the sweep's Hydra context.
        config: the sweep's config.
        task: Hydra's task function.
        program: the script that was started, which Lightning starts again for a run on several GPUs.
        folder: the working directory.
        environment: environment variables of the process that runs the sweep, as defaults for those not set there.
        version_base: Hydra's ``version_base``.
    """

    job: Job
    context: HydraContext
    config: DictConfig
    task: TaskFunction
    program: str = field(default_factory=lambda: str(Path(sys.argv[0]).absolute()))
    folder: str = field(default_factory=os.getcwd)
    environment: Mapping[str, str] = field(default_factory=dict)
    version_base: str = field(default_factory=lambda: str(version.getbase()))

    def run(self) -> int:
        """Run or resume the job; returns 0, or 130 or 143 if it was told to stop and has saved.

        Raises:
            Exception: it failed before its task began, and the error could not be recorded in its directory.
        """
        from filelock import FileLock

        import __main__

        os.chdir(self.folder)
        for name, value in self.environment.items():
            os.environ.setdefault(name, value)
        # A job has one node, on which Lightning is to start the processes itself: this hides SLURM from it.
        os.environ.pop("SLURM_NTASKS", None)
        warnings.filterwarnings("ignore", "The `srun` command is available")
        __main__.__spec__, sys.argv[0] = None, self.program
        version.setbase(self.version_base)
        interrupt_once()
        signal.signal(signal.SIGTERM, _end)
        try:
            # One process at a time, even if a scheduler wrongly believes one dead, or a resumed sweep submits a job
            # that an earlier one still has in the queue.
            locks = self.job.directory.with_name(".locks")
            locks.mkdir(exist_ok=True)
            with FileLock(locks / str(self.job.number)):
                try:
                    status = job_status(self.job.directory, self.job.overrides)
                except ConfigError as error:  # another job, planned and submitted before this one, has begun there
                    record_failure(self.job, error)
                    return 0
                if status == "ended":
                    return 0
                return run_or_resume(replace(self.job, status=status), self.context, self.config, self.task)
        except SystemExit as error:
            return int(error.code or 0)
        except KeyboardInterrupt:  # told to stop while it waited
            return 130


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)
