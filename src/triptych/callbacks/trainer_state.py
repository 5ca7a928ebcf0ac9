"""Save and restore the state of a run that Lightning's checkpoints leave out, for exact resuming."""

import logging
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from torch import Tensor
from torchmetrics import Metric

from triptych.callbacks.gathering import gather_states

log = logging.getLogger(__name__)


class TrainerState(Callback):
    """Save in the checkpoints what a run needs to be resumed as if it had not been stopped.

    Otherwise the metrics of an unfinished epoch would cover its later batches only, and accumulated gradients would be
    lost. The position of the loader is restored too: Lightning does so only if nobody has asked for the length of the
    run before, as schedules do. The metrics of the last validation are available to the callbacks that monitor them,
    and a run that had been told to stop ends.
    """

    def __init__(self) -> None:
        self.resumed: dict[str, Any] = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        epoch = _epoch(trainer, pl_module)
        checkpoint["trainer_state"] = {
            "metrics": dict(trainer.callback_metrics),
            "should_stop": trainer.should_stop and not _out_of_time(trainer),
            "limits": _limits(trainer),
            "epoch": None if epoch is None else gather_states(epoch),
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.resumed = checkpoint.get("trainer_state", {})

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.resumed.get("should_stop"):
            return
        # A run that was given new limits trains on, unless early stopping had ended it and its patience is still
        # exhausted. With a patience of 0, the first epoch without an improvement ends the run.
        early = trainer.early_stopping_callbacks
        impatient = any(stopping.wait_count >= max(1, stopping.patience) for stopping in early)
        if impatient:
            log.warning("Early stopping ended this run; a higher callbacks.early_stopping.patience trains it further.")
        if impatient or self.resumed["limits"] == _limits(trainer):
            trainer.should_stop = True

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        # The property returns Lightning's own dict, which can be updated in place.
        trainer.callback_metrics.update(self.resumed.get("metrics", {}))
        epoch = self.resumed.get("epoch")
        if epoch is None:
            return
        parts = [epoch, *epoch.get("others", [])]
        if len(parts) != trainer.world_size:
            raise ValueError(
                f"the run was stopped in the middle of an epoch that {len(parts)} processes shared, and now there are "
                f"{trainer.world_size}: resume with as many (trainer.devices, trainer.num_nodes)"
            )
        epoch = parts[trainer.global_rank]
        for name, state in epoch["metrics"].items():
            metric = pl_module.get_submodule(name)
            for key, value in state.items():
                setattr(metric, key, _copy_to_device(value, metric.device))
        device = pl_module.device
        pl_module.metric_buffer.batches = [tuple(_copy_to_device(batch, device)) for batch in epoch.get("waiting", [])]
        for name, gradient in epoch["gradients"].items():
            pl_module.get_parameter(name).grad = _copy_to_device(gradient, device)
        loop = trainer.fit_loop.epoch_loop
        if trainer.enable_validation and loop._should_check_val_fx(trainer.fit_loop._data_fetcher):  # type: ignore[arg-type]
            # Stopped right after a validation within the epoch: a resume skips it, but Lightning counts a step for it.
            loop._batches_that_stepped -= 1
        if epoch["loader"] is not None:
            trainer.train_dataloader.load_state_dict(epoch["loader"])  # type: ignore[union-attr]


def _epoch(trainer: Trainer, module: Any) -> dict[str, Any] | None:
    """The state accumulated in the current epoch: metrics, gradients, loader position; None between two epochs."""
    progress: Any = trainer.fit_loop.epoch_progress.current
    if progress.processed == progress.started:
        return None
    metrics = {name: part.metric_state for name, part in module.named_modules() if _in_use(part)}
    gradients = {}
    if trainer.fit_loop._should_accumulate():
        named = module.named_parameters()
        gradients = {name: parameter.grad for name, parameter in named if parameter.grad is not None}
    loader: Any = trainer.train_dataloader
    place = loader.state_dict() if hasattr(loader, "state_dict") else None
    waiting = [list(batch) for batch in module.metric_buffer.batches]
    return {"metrics": metrics, "waiting": waiting, "gradients": gradients, "loader": place}


def _limits(trainer: Trainer) -> list[Any]:
    """The settings that limit the length of a run: epochs, steps and early stopping."""
    names = ("patience", "min_delta", "stopping_threshold", "divergence_threshold")
    stopping = [[getattr(callback, name) for name in names] for callback in trainer.early_stopping_callbacks]
    return [trainer.max_epochs, trainer.max_steps, trainer.min_epochs, trainer.min_steps, stopping]


def _out_of_time(trainer: Trainer) -> bool:
    """Whether ``max_time`` ends the run: its Timer decides anew on a resume, which may be given more time."""
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    return any((timer.time_remaining() or 1) <= 0 for timer in timers)


def _in_use(part: Any) -> bool:
    return isinstance(part, Metric) and part.update_called


def _copy_to_device(value: Any, device: Any) -> Any:
    """Copy to the device: metrics of a compute group share one saved state, and would all update it in place."""
    if isinstance(value, Tensor):
        return value.to(device, copy=True)
    return [_copy_to_device(part, device) for part in value]
