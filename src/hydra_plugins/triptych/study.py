"""Sweeper for the studies in conf/study."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.triptych.space import debug_keys, flat, merge_overrides
from triptych.files import atomic_write
from triptych.results.directory import SWEEP


class StudySweeper(Sweeper):
    """Runs every arm of a study with every combination of its swept values and seeds.

    A job gets all its settings as overrides, so that they are recorded in its directory and its command can be repeated
    on its own. The command line takes precedence over the study, and so does what ``debug=`` sets; the check of the
    command line has refused what would make the arms equal.

    Args:
        params: settings of every job, ``a,b`` for several values.
    """

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        self.params = flat(params)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Plan the jobs and launch them; a mistake in the study's file ends the program with exit code 2."""
        # Not imported above, since Hydra imports this file at every start.
        from triptych.results.study.reading import read_study

        content: Any = OmegaConf.to_container(self.config.study, resolve=True)
        name = str(self.config.hydra.runtime.choices["study"])
        try:
            study = read_study(name, content)
            given_keys = [argument.partition("=")[0].lstrip("+") for argument in arguments]
            swept = {*self.params, *given_keys, *(key for settings in study.arms.values() for key in settings)}
            study.check(swept, str(self.config.monitor), str(self.config.mode))
        except ValueError as error:
            print(f"error: conf/study/{name}.yaml: {error}", file=sys.stderr)
            sys.exit(2)
        loader: Any = self.hydra_context.config_loader
        debug = debug_keys(loader, self.config)
        jobs = plan(study.arms, self.params, debug, arguments, OverridesParser.create(config_loader=loader))
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        # An existing file is from the process that began the sweep and may still run it: the launcher will find out.
        if not (folder / SWEEP).exists():
            with atomic_write(folder / SWEEP) as aside:
                OmegaConf.save(self.config, aside)
        return self.launcher.launch(jobs, initial_job_idx=0)


def plan(
    arms: Mapping[str, Mapping[str, str]],
    params: Mapping[str, Any],
    debug: set[str],
    arguments: Sequence[str],
    parser: OverridesParser,
) -> list[list[str]]:
    """The overrides of every job.

    Args:
        arms: the settings of each arm, ``a,b`` for several values.
        params: the settings of every job.
        debug: keys that neither may set.
        arguments: the command line's overrides.
        parser: Hydra's.
    """
    jobs: list[list[str]] = []
    for arm, settings in (arms or {"": {}}).items():
        own = {key: value for key, value in {**params, **settings}.items() if key not in debug}
        named = [_arm_override(arm, parser)] if arm else []
        (batch,) = BasicSweeper.split_arguments([*merge_overrides(own, arguments, parser), *named], max_batch_size=None)
        jobs += batch
    return jobs


def _arm_override(arm: str, parser: OverridesParser) -> Override:
    """The override that tells a job its arm, quoted if Hydra would not read this very string: 1e-3, true, L1 (0.1)."""
    try:
        plain = parser.parse_override(f"+study.arm={arm}")
    except HydraException:
        pass
    else:
        if plain.value() == arm:
            return plain
    return parser.parse_override(f"+study.arm={QuotedString(text=arm, quote=Quote.single).with_quotes()}")
