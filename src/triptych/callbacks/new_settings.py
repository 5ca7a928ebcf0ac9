"""Apply settings that were changed for a resume, where the checkpoint would restore the old values."""

import logging
import warnings
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from torch.optim.lr_scheduler import ReduceLROnPlateau

log = logging.getLogger(__name__)


class NewSettings(Callback):
    """Use the optimizer, scheduler, patience and run length of the config, even after a resume.

    A checkpoint contains the learning rate and the schedule that it was written with. If the config has changed, the
    optimizer keeps its moments, and the schedule is rebuilt and advanced to the current step.
    """

    def __init__(self) -> None:
        self.saved: dict[str, Any] | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["schedule"] = pl_module.schedule()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.saved = checkpoint.get("schedule")
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            state = checkpoint["callbacks"].get(callback.state_key, {})
            if isinstance(callback, EarlyStopping) and state:
                state["patience"] = callback.patience

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        saved, self.saved = self.saved, None
        wanted = pl_module.schedule()
        if saved is None or saved == wanted:
            return
        (optimizer,), (config,) = trainer.optimizers, trainer.lr_scheduler_configs
        before = _learning_rate(optimizer)
        old = config.scheduler
        was_plateau = isinstance(old, ReduceLROnPlateau)
        if saved["optimizer"] != wanted["optimizer"] or not was_plateau:
            restored = {"params"}
            if (
                was_plateau
                and _is_plateau(wanted["scheduler"])
                and saved["optimizer"]["lr"] == wanted["optimizer"]["lr"]
            ):
                restored.add("lr")  # with its reductions so far
            for group, fresh in zip(optimizer.param_groups, pl_module.make_optimizer().param_groups, strict=True):
                group.pop("initial_lr", None)
                group.update({key: value for key, value in fresh.items() if key not in restored})
        config.scheduler = scheduler = pl_module.make_scheduler(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            kept = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")
            state = old.state_dict() if was_plateau else {}
            scheduler.load_state_dict({key: state[key] for key in kept if key in state})
        else:
            done = trainer.current_epoch
            if config.interval == "step" and wanted["length"] == trainer.max_steps:
                done = trainer.global_step
            elif config.interval == "step":
                # The same number of epochs, although an epoch may have another number of steps now, or had before.
                counts_steps = not was_plateau and saved["scheduler"].get("interval") == "step"
                past = old.last_epoch if counts_steps else trainer.current_epoch * saved["epoch"]
                done = round(past * wanted["epoch"] / saved["epoch"])
            done = min(done, wanted["length"] or done)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
                for _ in range(done):
                    scheduler.step()
        after = _learning_rate(optimizer)
        now, then = f"{after:.3g}", f"{before:.3g}"
        changed = f"stays {now}" if now == then else f"continues at {now}, not {then}"
        log.warning("The schedule is rebuilt: the learning rate %s.", changed)


def _is_plateau(scheduler: dict[str, Any]) -> bool:
    return str(scheduler["_target_"]).endswith(ReduceLROnPlateau.__name__)


def _learning_rate(optimizer: Any) -> float:
    return max(group["lr"] for group in optimizer.param_groups)
