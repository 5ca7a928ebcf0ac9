"""Prune a trial of a hyperparameter search that falls behind the others."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from triptych.results.trials import DATABASE, open_study

if TYPE_CHECKING:
    from optuna import Trial

log = logging.getLogger(__name__)


class Pruning(Callback):
    """Report the metric to the Optuna study after each validation, and stop if the study prunes this trial.

    A no-op in a run that is not an unfinished trial, and in searches with several objectives, which Optuna cannot
    prune.

    Args:
        directory: the run directory, named by the trial's number, beside the database of the search.
        monitor: the metric that is reported.

    Attributes:
        pruned: whether this run was pruned.
    """

    def __init__(self, directory: str, monitor: str) -> None:
        self.directory, self.monitor = Path(directory), monitor
        self.pruned = False
        self.trial: Trial | None = None
        self.reported: set[int] = set()

    def state_dict(self) -> dict[str, bool]:
        return {"pruned": self.pruned}

    def load_state_dict(self, state_dict: dict[str, bool]) -> None:
        # Also called before the test, with the best checkpoint, which may be older than the pruning.
        self.pruned = self.pruned or bool(state_dict["pruned"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Only the first process of a distributed run reports.
        self.trial = self._find_trial() if trainer.is_global_zero else None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        value = trainer.callback_metrics.get(self.monitor)
        falls_behind = False
        if self.trial is not None and value is not None:
            # Once per epoch, even if a resumed run repeats an epoch that has been reported.
            if trainer.current_epoch not in self.reported:
                self.reported.add(trainer.current_epoch)
                self.trial.report(float(value), trainer.current_epoch)
            # After its last epoch a trial is complete: pruning would save nothing.
            falls_behind = trainer.current_epoch + 1 != trainer.max_epochs and self.trial.should_prune()
        if trainer.strategy.broadcast(falls_behind):
            self.pruned = True
            # `min_epochs` and `min_steps` are meant to delay early stopping only.
            trainer.fit_loop.min_epochs = trainer.fit_loop.epoch_loop.min_steps = None
            trainer.should_stop = True
            log.info("pruned after epoch %d: behind the other trials", trainer.current_epoch + 1)

    def _find_trial(self) -> "Trial | None":
        """The trial of this run; None if there is none, or it is finished or cannot be pruned."""
        sweep, name = self.directory.parent, self.directory.name
        if not name.isdecimal() or not (sweep / DATABASE).exists():
            return None
        from optuna.trial import Trial

        study = open_study(sweep)
        trials = study.get_trials(deepcopy=False)
        if len(study.directions) > 1 or int(name) >= len(trials) or trials[int(name)].state.is_finished():
            return None
        self.reported = set(trials[int(name)].intermediate_values)
        return Trial(study, trials[int(name)]._trial_id)
