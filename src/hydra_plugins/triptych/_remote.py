"""A job of a sweep on another machine: what it is sent with, and what is set up there before it runs."""

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

from hydra_plugins.triptych._job import Job, fail, interrupt_once, perform
from triptych.config import ConfigError
from triptych.sweeps import standing


@dataclass(frozen=True)
class Errand:
    """A job with all that running it takes; pickled, and run in a process of its own.

    What there is to do is asked there and not where it was planned: it may be run anew, on another machine, after the
    first died.

    Attributes:
        job: the job.
        context: Hydra's, of the sweep.
        config: the sweep's config.
        task: Hydra's task function.
        program: the script that was started, which Lightning starts again for a run on several GPUs.
        folder: the working directory.
        environment: the variables of the process that runs the sweep, for those that are not set there.
        version_base: the version of Hydra whose habits are kept.
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
        """Run the job, or go on with it; returns 0, or 130 or 143 where it was told to stop and has saved.

        Raises:
            Exception: it failed before its task began, and that could not be left in its directory.
        """
        from filelock import FileLock

        import __main__

        os.chdir(self.folder)
        for name, value in self.environment.items():
            os.environ.setdefault(name, value)
        # A job has one node, of which Lightning is to start the processes itself: this hides from it that SLURM might.
        os.environ.pop("SLURM_NTASKS", None)
        warnings.filterwarnings("ignore", "The `srun` command is available")
        __main__.__spec__, sys.argv[0] = None, self.program
        version.setbase(self.version_base)
        interrupt_once()
        signal.signal(signal.SIGTERM, _end)
        try:
            # One process at a time, also where a scheduler believes one dead that is not, or a resumed sweep sends a
            # job again that an earlier one has in the queue.
            locks = self.job.directory.with_name(".locks")
            locks.mkdir(exist_ok=True)
            with FileLock(locks / str(self.job.number)):
                try:
                    todo = standing(self.job.directory, self.job.overrides)
                except ConfigError as error:  # another job, planned and sent away before this one, has begun there
                    fail(self.job, error)
                    return 0
                if todo == "ended":
                    return 0
                return perform(replace(self.job, standing=todo), self.context, self.config, self.task)
        except SystemExit as error:
            return int(error.code or 0)
        except KeyboardInterrupt:  # told to stop while it waited
            return 130


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)
