"""What becomes of a run that is stopped."""

import logging
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

log = logging.getLogger(__name__)


class SaveOnInterruption(Callback):
    """On Ctrl-C or SIGTERM, save ``checkpoints/last.ckpt`` where training stands, so that it can go on from there.

    After a crash the state may be the very thing that is wrong: then the last checkpoint stays as it is.
    """

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        fitting = trainer.state.fn == TrainerFn.FITTING
        if not fitting or not isinstance(exception, KeyboardInterrupt | SIGTERMException):
            return
        checkpoint = trainer.checkpoint_callback
        if checkpoint is None or not checkpoint.dirpath:  # type: ignore[attr-defined]
            return
        path = Path(checkpoint.dirpath) / "last.ckpt"  # type: ignore[attr-defined]
        if trainer.validating and path.exists():
            # Lightning would go on behind this validation, which then is missing; the epoch before it is whole.
            return
        # Written aside and renamed, so that a second signal leaves the checkpoint before this one whole.
        aside = path.with_suffix(".aside")
        trainer.save_checkpoint(aside)
        if trainer.is_global_zero:
            aside.replace(path)
        log.info("Saved %s at step %d.", path, trainer.global_step)
