"""Write ``last.ckpt``, the state to resume from, so that no kill or crash can damage it."""

import logging
import shutil
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from triptych.callbacks.bookkeeping import Start
from triptych.results.checkpoints import is_intact

log = logging.getLogger(__name__)

KEPT = ".kept"
"""Suffix of the copy of the best checkpoint that ``last.ckpt`` refers to: a later one may overwrite that file."""


def restore_best(folder: Path, step: int) -> None:
    """Restore the checkpoint that was best at ``step``, if it was overwritten at a later step, which is now lost.

    A run that is resumed with other settings, or on a GPU, does not reproduce the lost steps.

    Args:
        folder: the checkpoint folder.
        step: the step that the run is resumed from.

    Raises:
        ValueError: a best checkpoint or its copy is an intact archive but not a checkpoint.
    """
    for kept in folder.glob(f"*{KEPT}"):
        best = kept.with_suffix("")
        if not (is_intact(kept) and Start.read(kept).step <= step):
            continue
        if not (is_intact(best) and Start.read(best).step <= step):
            kept.replace(best)


class LastCheckpoint(Checkpoint):
    """Keep ``last.ckpt``: the end of the last epoch, or the step at which Ctrl-C or SIGTERM stopped the run.

    It is written to ``next.ckpt``, and renamed once the epoch's metrics have been logged too: a kill before that leaves
    the earlier checkpoint, and the metrics from there on are logged again. While the run lasts, the one before is
    kept as ``previous.ckpt``, because a disk may lose the middle of a file, and so is the best checkpoint that
    ``last.ckpt`` refers to. A crash saves nothing, because the state itself may be what is wrong.

    Args:
        dirpath: the checkpoint folder.
    """

    def __init__(self, dirpath: str) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        self.previous = Path(dirpath) / "previous.ckpt"
        self.aside = Path(dirpath) / "next.ckpt"
        self.saved = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._keep_best(trainer)  # that of a resumed run

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
        # Lightning raises SIGTERMException once a step, or an epoch, is complete. Nothing is saved during validation:
        # Lightning would resume after it, not repeat it, and the checkpoint of the epoch before is complete.
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
        except OSError:  # a file system without hard links
            shutil.copyfile(best, kept)
