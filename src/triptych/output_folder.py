"""The folder of a run or sweep: created before Hydra needs it, and refused if it holds runs already."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from triptych.config import ConfigError
from triptych.processes import broadcast_refusal, global_rank
from triptych.results.directory import CONFIG, LOGS, SWEEP
from triptych.results.output import make_folder
from triptych.terminal import harmless


class UnusedFolder(Callback):
    """Hydra callback that refuses a folder with runs in it, of which a new one would overwrite parts; exit code 2.

    It is called before Hydra writes to the folder, and knows it as Hydra resolves it, wherever it was set.
    """

    resumes: ClassVar[bool] = False
    """Whether this process resumes a sweep, in its own folder."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        _refuse_if_used(config, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if not self.resumes:
            _refuse_if_used(config, "hydra.sweep.dir")


def _refuse_if_used(config: DictConfig, key: str) -> None:
    """Exit if the folder under the key of Hydra's config cannot be resolved, or holds a run or a sweep."""

    def find_runs() -> str:
        try:
            folder = _resolved(config, key)
        except OmegaConfBaseException as error:
            return f"{key} cannot be used: {str(error).partition(chr(10))[0]}"
        if not (any(folder.glob(f"**/{CONFIG}")) or (folder / SWEEP).exists()):
            return ""
        return (
            f"{key}={folder}: there are runs in that folder; name another, resume one with resume=RUN, or a whole "
            "sweep with -m resume=SWEEP"
        )

    if why := broadcast_refusal("used_folder", find_runs):
        if global_rank() == 0:
            print(f"error: {harmless(why)}", file=sys.stderr)
        sys.exit(2)  # Hydra turns exceptions of its callbacks into warnings, but not SystemExit


def _resolved(config: DictConfig, key: str) -> Path:
    """The folder under a key of Hydra's; raises OmegaConf's errors."""
    # Here `${hydra:...}` refers to nothing yet. As Hydra does to show its config, and with the config itself, so that
    # it keeps the time and the run's id once they are resolved.
    state, before = HydraConfig.instance(), HydraConfig.instance().cfg
    state.set_config(config)
    try:
        return Path(str(OmegaConf.select(config, key, throw_on_missing=True)))
    finally:
        OmegaConf.set_readonly(config.hydra, None)
        state.cfg = before


def make_output_folder(arguments: Sequence[str]) -> None:
    """Create the folder for runs, unless its name has interpolations; Hydra would fail with a traceback.

    Args:
        arguments: what follows the program's name, checked before.

    Raises:
        ConfigError: it cannot be created.
    """
    if any(argument.startswith("-") and argument not in ("-m", "--multirun") for argument in arguments):
        return  # such as --help, which trains nothing
    named = [each for each in arguments if each.lstrip("+").startswith(("hydra.run.dir=", "hydra.sweep.dir="))]
    for override in OverridesParser.create().parse_overrides(named or [f"hydra.run.dir={LOGS}"]):
        folder = str(override.value())
        try:
            if "${" not in folder:
                make_folder(Path(folder), f"{override.key_or_group}=FOLDER")
        except ValueError as error:
            raise ConfigError(str(error)) from error
