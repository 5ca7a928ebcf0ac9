"""Train a network: python train.py experiment=denoise [key=value ...].

Composes conf/, checks it, then runs. Torch is imported only after the check, so that a typo is reported at once.
"""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from triptych import job
from triptych.command_line import force_values, move_flags_first
from triptych.config import ConfigError, check
from triptych.output_folder import UnusedFolder, make_output_folder
from triptych.processes import global_rank, launched_externally
from triptych.resume import parse_resumption
from triptych.sweeps import sweep_resumption
from triptych.terminal import harmless

CONF = Path(__file__).parent / "conf"


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def train(config: DictConfig) -> float | None:
    """Hydra's task function: one run, or one job of a sweep; returns the best value of the monitored metric."""
    return job.train(config)


def main() -> None:
    """Check, then run; exit codes: 0 success, 1 crash, divergence, disk full; 2 user error; 130 Ctrl-C; 143 SIGTERM."""
    try:
        if launched_externally() and {"-m", "--multirun"} & set(sys.argv[1:]):
            raise ConfigError("a sweep starts the processes of its jobs itself: leave out torchrun or srun, or the -m")
        arguments = sweep_resumption(sys.argv[1:], CONF)
        UnusedFolder.resumes = arguments is not None
        if arguments is None:
            arguments = sys.argv[1:]
            resumed = parse_resumption(arguments, CONF)
            if resumed is not None:
                sys.exit(job.resume_run(resumed))
        check(arguments, CONF)
        make_output_folder(arguments)
        # Only rank 0 of a distributed run writes the config and the log.
        of_others = ["hydra.output_subdir=null", "hydra/job_logging=quiet"] if global_rank() else []
        given = {argument.partition("=")[0] for argument in arguments}
        of_others = [override for override in of_others if override.partition("=")[0] not in given]
        sys.argv[1:] = move_flags_first(force_values([*arguments, *of_others]))
        train()
    except ConfigError as error:
        if global_rank() == 0:
            print(f"error: {harmless(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
