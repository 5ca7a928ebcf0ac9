"""Sweeper for the searches in conf/search, with Optuna."""

import os
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.triptych.space import Parameter, debug_keys, flat, key, merge_overrides, parameter
from triptych.results.record import as_read
from triptych.sweeps import may_change

if TYPE_CHECKING:
    # Otherwise imported in functions only: Hydra imports this file at every start, and Optuna takes most of a second.
    from optuna.trial import FrozenTrial, Trial

CONTROLLER = "controller"
"""The user attribute of a trial that names the process that launched it."""


class SearchSweeper(Sweeper):
    """Searches settings with Optuna's TPE (Bergstra et al. 2011), one run per trial.

    The study is stored in ``search.db`` in the sweep's directory. A search that was killed resumes to the same total.
    Several processes may share one directory, and each takes over what another left when it died.

    Args:
        trials: total number of trials, failed ones included.
        objectives: ``minimize`` or ``maximize`` for each metric; null for the experiment's monitor.
        seed: what is drawn depends on it, on the trial's number and on earlier trials.
        startup_trials: trials drawn at random before the search learns from results.
        pruning: null for none, or ``startup_trials`` and ``warmup_epochs``: the first trials and epochs, never pruned.
        params: the settings of every job; those to be searched are in Hydra's sweep syntax.
    """

    poll = 2.0
    """Seconds between polls of other processes' trials, when none is left to launch."""

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher

    def __init__(
        self,
        trials: int,
        objectives: Mapping[str, str] | None = None,
        seed: int = 0,
        startup_trials: int = 10,
        pruning: Mapping[str, int] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.trials, self.seed, self.startup_trials = trials, seed, startup_trials
        self.objectives, self.pruning, self.params = dict(objectives or {}), dict(pruning or {}), flat(params)
        self.id = f"{os.getpid()}-{secrets.token_hex(5)}"

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config
        self.folder = Path(config.hydra.sweep.dir)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Launch trials until all have ended; a user error ends the program with exit code 2."""
        from filelock import FileLock

        from triptych.files import atomic_write
        from triptych.results.directory import SWEEP
        from triptych.results.trials import create_study

        try:
            definition = self._plan(arguments)
            self.concurrency = self._launcher_concurrency()
            (self.folder / "controllers").mkdir(parents=True, exist_ok=True)
            self.lock = FileLock(self.folder / "search.lock")
            with self.lock:
                self.study = create_study(self.folder, definition)
                if not (self.folder / SWEEP).exists():
                    with atomic_write(self.folder / SWEEP) as aside:
                        OmegaConf.save(self.config, aside)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        # Released by the kernel when this process ends, in whatever way.
        with FileLock(self._controller(self.id)):
            self._run()
        self._controller(self.id).unlink(missing_ok=True)

    def _plan(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Separate fixed from searched settings; returns what defines the study.

        Raises:
            ValueError: an argument is invalid, or something cannot be searched or be an objective.
        """
        for name, value, least in (("trials", self.trials, 1), ("startup_trials", self.startup_trials, 0)):
            if value < least:
                raise ValueError(f"hydra.sweeper.{name}={value}: expected a number from {least}")
        if self.pruning and set(self.pruning) != {"startup_trials", "warmup_epochs"}:
            raise ValueError("hydra.sweeper.pruning: expected null, or startup_trials and warmup_epochs")
        loader: Any = self.hydra_context.config_loader
        parser = OverridesParser.create(config_loader=loader)
        debug = debug_keys(loader, self.config)
        own = {name: value for name, value in self.params.items() if name not in debug}
        overrides = merge_overrides(own, arguments, parser)
        self.fixed = [str(override.input_line) for override in overrides if not override.is_sweep_override()]
        # The config without the searched settings; a searched group must have some option, so has its first.
        searched = [override for override in overrides if override.is_sweep_override()]
        first = [
            f"{override.get_key_element()}={next(override.sweep_string_iterator())}"
            for override in searched
            if loader.get_group_options(override.key_or_group)
        ]
        base_config = loader.load_sweep_config(self.config, [*self.fixed, *first])
        self.space: list[Parameter] = []
        for override in searched:
            self.space.append(parameter(override, OmegaConf.select(base_config, key(override)), parser))
        if not self.space:
            raise ValueError(
                "there is nothing to search: give settings several values, such as optimizer.lr=interval(1e-4,1e-2), "
                "or choose search=NAME"
            )
        direction = "maximize" if base_config.mode == "max" else "minimize"
        self.objectives = self.objectives or {base_config.monitor: direction}
        for metric, direction in self.objectives.items():
            if direction not in ("minimize", "maximize"):
                raise ValueError(f"hydra.sweeper.objectives: {metric}: choose one of minimize, maximize")
            if metric.startswith("test/"):
                raise ValueError(f"hydra.sweeper.objectives: {metric}: choices are made on val/ metrics, never on test")
        lasting = [override for override in overrides if not may_change(str(override.input_line))]
        settings = {key(override): as_read(str(override.input_line)).partition("=")[2] for override in lasting}
        return {"objectives": self.objectives, "settings": settings, "pruning": self.pruning or None}

    def _run(self) -> None:
        """Launch batch after batch; at the end, wait for other processes' trials, in case one of them dies."""
        while True:
            with self.lock:
                batch = self._next_batch(self.concurrency)
                trials = self.study.get_trials(deepcopy=False)
            if not batch:
                if not any(trial.state.name == "RUNNING" for trial in trials):
                    return
                time.sleep(self.poll)
                continue
            jobs = [[*self.fixed, *(parameter.draw(trial) for parameter in self.space)] for trial in batch]
            try:
                self.launcher.launch(jobs, initial_job_idx=batch[0].number)
            except BaseException:
                # Interrupted, or stopped by a failure: trials without an end are left to whoever resumes the search.
                for trial in batch:
                    self._tell(trial.number)
                raise
            for trial in batch:
                self._tell(trial.number, final=True)

    def _launcher_concurrency(self) -> int:
        """How many jobs the launcher runs at a time, by its ``concurrency`` or else its ``n_jobs``; by default 1."""
        concurrency = getattr(self.launcher, "concurrency", None)
        return concurrency() if concurrency else max(1, int(self.config.hydra.launcher.get("n_jobs") or 1))

    def _next_batch(self, size: int) -> "list[Trial]":
        """The trials to launch next, with consecutive numbers: those that a dead process left, or else new ones."""
        from optuna.samplers import TPESampler
        from optuna.trial import Trial

        trials = self.study.get_trials(deepcopy=False)
        left = [trial for trial in trials if trial.state.name == "RUNNING" and not self._is_at_work(trial)]
        left = [trial for trial in left if not self._tell(trial.number)]
        left = [trial for place, trial in enumerate(left[:size]) if trial.number == left[0].number + place]
        count = len(left) or max(0, min(size, self.trials - len(trials)))
        batch = []
        for place in range(count):
            number = left[0].number + place if left else len(trials) + place
            # A new one for each trial: a resumed search draws what it would have drawn without the interruption.
            self.study.sampler = TPESampler(
                n_startup_trials=self.startup_trials,
                multivariate=True,
                constant_liar=True,
                seed=_mix(self.seed, number),
            )
            trial = Trial(self.study, left[place]._trial_id) if left else self.study.ask()
            for part in self.space:
                part.draw(trial)
            # Set last, so that a trial whose process was killed in between belongs to none.
            trial.set_user_attr(CONTROLLER, self.id)
            batch.append(trial)
        return batch

    def _is_at_work(self, trial: "FrozenTrial") -> bool:
        """Whether the process that launched a trial is alive."""
        from filelock import FileLock, Timeout

        name = str(trial.user_attrs.get(CONTROLLER, ""))
        if name == self.id:
            return True
        path = self._controller(name)
        if not name or not path.exists():
            return False
        try:
            with FileLock(path, timeout=0):
                return False
        except Timeout:
            return True

    def _controller(self, name: str) -> Path:
        return self.folder / "controllers" / f"{Path(name).name}.lock"

    def _tell(self, number: int, final: bool = False) -> bool:
        """Report the state of a trial's run to the study; returns whether it has ended.

        Args:
            number: of the trial and of its run.
            final: whether a run that has not ended counts as failed.
        """
        from optuna.trial import TrialState

        from triptych.results.record import read_record

        record = read_record(self.folder / str(number))
        if record.state == "interrupted" and not final:
            return False
        found = [record.number(name) if record.best(name) is None else record.best(name) for name in self.objectives]
        values = [value for value in found if value is not None]
        if record.state == "pruned":
            self.study.tell(number, state=TrialState.PRUNED)
            outcome = "pruned"
        elif record.state == "done" and len(values) == len(found):
            self.study.tell(number, values)
            outcome = self._scores(values)
        else:
            missing = [name for name, value in zip(self.objectives, found, strict=True) if value is None]
            what = f"no {' and no '.join(missing)}" if record.state == "done" else record.state
            self.study.tell(number, state=TrialState.FAIL)
            outcome = f"{what}: {record.error}" if record.error else what
        settings = record.settings
        drawn = " ".join(f"{part.key}={settings.get(part.key, '-')}" for part in self.space)
        print(f"trial {number} ({number + 1} of {self.trials})  {outcome}  {drawn}{self._best()}", flush=True)
        return True

    def _scores(self, values: Sequence[float]) -> str:
        from triptych.results.summary import format_number

        return "  ".join(f"{name} {format_number(value)}" for name, value in zip(self.objectives, values, strict=True))

    def _best(self) -> str:
        """The best trial so far, as text; empty if there is none yet, or if there are several objectives."""
        trials = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
        if len(self.objectives) > 1 or not trials:
            return ""
        best = self.study.best_trial
        return f"  (best: trial {best.number}, {self._scores(best.values)})"


def _mix(seed: int, number: int) -> int:
    """A different seed for each trial."""
    import numpy as np

    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
