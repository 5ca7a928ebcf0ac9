"""Train a network: python train.py experiment=denoise [key=value ...].

Composes conf/, checks it, then runs. Torch is imported only after the check, so that a typing mistake costs no wait.
"""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from triptych import job
from triptych.config import ConfigError, check, flags_first
from triptych.resume import refuse_used_folder, resumption
from triptych.sweeps import sweep_resumption
from triptych.terminal import harmless

CONF = Path(__file__).parent / "conf"


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def train(config: DictConfig) -> float | None:
    """One run, or one job of a sweep; returns the best value of the monitored metric."""
    return job.train(config)


def main() -> None:
    """Check, then run; exit codes: 0 trained and tested, 1 crashed, 2 the user's mistake, 130 Ctrl-C, 143 SIGTERM."""
    try:
        arguments = sweep_resumption(sys.argv[1:], CONF)
        if arguments is None:
            arguments = sys.argv[1:]
            resumed = resumption(arguments)
            if resumed is not None:
                sys.exit(job.go_on(resumed))
            refuse_used_folder(arguments)
        check(arguments, CONF)
        sys.argv[1:] = flags_first(arguments)
        train()
    except ConfigError as error:
        print(f"error: {harmless(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
