"""The state to resume from."""

import logging
import shutil
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from triptych.callbacks.bookkeeping import Start
from triptych.results.checkpoints import is_whole

log = logging.getLogger(__name__)

KEPT = ".kept"
"""Suffix of a best checkpoint that ``last.ckpt`` knows of, while a later one may take its name."""


def restore_best(folder: Path, step: int) -> None:
    """Let that checkpoint be the best one again which was so at ``step``, where a later one is of steps that are lost.

    A run that goes on with other settings, or on a GPU, makes other steps of them.

    Args:
        folder: of the checkpoints.
        step: that the run goes on from.

    Raises:
        ValueError: a file of that name is no checkpoint.
    """
    for kept in folder.glob(f"*{KEPT}"):
        best = kept.with_suffix("")
        if is_whole(kept) and Start.read(kept).step <= step and not (is_whole(best) and Start.read(best).step <= step):
            kept.replace(best)


class LastCheckpoint(Checkpoint):
    """Keep ``last.ckpt``: the end of the last epoch, or the step at which Ctrl-C or SIGTERM stopped the run.

    It is written aside, and renamed when the epoch's metrics have been logged too: what a kill at any other moment
    leaves is the checkpoint before, and the metrics from there on come again. While the run lasts, ``previous.ckpt`` is
    the one before that, for a disk may lose the middle of a file, and the best checkpoint that ``last.ckpt`` knows of
    is kept too. After a crash the state may be the very thing that is wrong: the last checkpoint stays as it is.

    Args:
        dirpath: the folder of the checkpoints.
    """

    def __init__(self, dirpath: str) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        self.previous = Path(dirpath) / "previous.ckpt"
        self.aside = Path(dirpath) / "next.ckpt"
        self.saved = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._keep_best(trainer)  # of a run that goes on

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.aside, weights_only=False)
            self.saved = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._rename(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._rename(trainer)
        if trainer.is_global_zero:
            self.previous.unlink(missing_ok=True)
            for kept in self.path.parent.glob(f"*{KEPT}"):
                kept.unlink()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        # Lightning raises it where a step, or an epoch, is complete. It would not go on with a validation that was
        # stopped, but behind it: the epoch before is whole.
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.validating and not trainer.fast_dev_run  # type: ignore[attr-defined]
        if fitting and isinstance(exception, SIGTERMException):
            trainer.save_checkpoint(self.aside, weights_only=False)
            self.saved = True
            self._rename(trainer)
            log.info("Saved %s at step %d.", self.path, trainer.global_step)

    def _rename(self, trainer: Trainer) -> None:
        if self.saved and trainer.is_global_zero:
            if self.path.exists():
                self.path.replace(self.previous)
            self.aside.replace(self.path)
            self._keep_best(trainer)
        self.saved = False

    def _keep_best(self, trainer: Trainer) -> None:
        best = Path(getattr(trainer.checkpoint_callback, "best_model_path", ""))
        if not (trainer.is_global_zero and best.is_file()):
            return
        kept = best.with_name(best.name + KEPT)
        kept.unlink(missing_ok=True)
        try:
            kept.hardlink_to(best)
        except OSError:  # a disk that knows no such links
            shutil.copyfile(best, kept)
