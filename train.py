"""Train a network: python train.py experiment=denoise [key=value ...].

Composes conf/, checks it, then runs. Torch is imported only after the check, so that a typing mistake costs no wait.
"""

import logging
import sys
import traceback
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from triptych.config import ConfigError, check, flags_first
from triptych.results.directory import ERROR, new_run_id
from triptych.resume import Resumption, refuse_used_folder, resumption
from triptych.terminal import TerminalHandler

CONF = Path(__file__).parent / "conf"

# One name for a run or sweep, however often it is asked for; `${now:...}` alone would collide within a second.
OmegaConf.register_new_resolver("run_id", new_run_id, use_cache=True)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def train(config: DictConfig) -> float | None:
    """One run, or one job of a sweep; returns the best value of the monitored metric."""
    from triptych.run import UserError, run

    settings = HydraConfig.get()
    directory = Path(settings.runtime.output_dir)
    experiment = settings.runtime.choices["experiment"]
    try:
        metrics = run(config, directory, experiment)
    except UserError as error:
        (directory / ERROR).write_text(f"{error}\n")
        if settings.mode == RunMode.RUN:
            sys.exit(_complain(error))
    except Exception as error:
        if settings.mode == RunMode.RUN:
            raise
        (directory / ERROR).write_text(f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}")
    else:
        return (metrics["best"] or {}).get(config.monitor)
    print(f"job {settings.job.num} failed: {(directory / ERROR).read_text().splitlines()[0]}", file=sys.stderr)
    return None


def go_on(resumed: Resumption) -> int:
    """Go on with a run that was interrupted; returns the exit code."""
    if resumed.finished:
        print(f"{resumed.directory} is done already; to train on, ask for more: trainer.max_epochs=N")
        return 0
    from triptych.run import UserError, run

    to_terminal, to_file = TerminalHandler(), logging.FileHandler(resumed.directory / "train.log")
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[to_terminal, to_file])
    if resumed.checkpoint is None:
        print("There is no checkpoint yet: the run starts again.")
    try:
        run(resumed.config, resumed.directory, resumed.experiment, resumed.checkpoint, on_start=resumed.record)
    except UserError as error:
        return _complain(error)
    return 0


def main() -> None:
    """Check, then run; exit codes: 0 trained and tested, 1 crashed, 2 the user's mistake, 130 Ctrl-C, 143 SIGTERM."""
    try:
        resumed = resumption(sys.argv[1:])
        if resumed is not None:
            sys.exit(go_on(resumed))
        check(sys.argv[1:], CONF)
        refuse_used_folder(sys.argv[1:])
        sys.argv[1:] = flags_first(sys.argv[1:])
        train()
    except ConfigError as error:
        sys.exit(_complain(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _complain(error: Exception) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
