"""What an epoch has gathered so far, kept for a resume in the middle of it."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric


class RunningEpoch(Callback):
    """Keep the metrics of an epoch under way, and gradients that wait for their step, in the checkpoints.

    Without them the metrics of an epoch that was stopped would be those of its later batches only, and what follows
    the metrics of the last validation would have none. And bring the loader to its place: Lightning does so only where
    nobody has asked for the length of the run before, as schedules do.
    """

    def __init__(self) -> None:
        self.latest: dict[str, Tensor] = {}
        self.resumed: dict[str, Any] | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["callback_metrics"] = dict(trainer.callback_metrics)
        progress: Any = trainer.fit_loop.epoch_progress.current
        if progress.processed == progress.started:
            return  # between two epochs
        metrics = {name: part.metric_state for name, part in pl_module.named_modules() if _in_use(part)}
        gradients = {}
        if trainer.fit_loop._should_accumulate():
            named = pl_module.named_parameters()
            gradients = {name: parameter.grad for name, parameter in named if parameter.grad is not None}
        loader: Any = trainer.train_dataloader
        place = loader.state_dict() if hasattr(loader, "state_dict") else None
        checkpoint["running_epoch"] = {"metrics": metrics, "gradients": gradients, "loader": place}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.latest = checkpoint.get("callback_metrics", {})
        self.resumed = checkpoint.get("running_epoch")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.callback_metrics.update(self.latest)
        if self.resumed is None:
            return
        for name, state in self.resumed["metrics"].items():
            metric = pl_module.get_submodule(name)
            for key, value in state.items():
                setattr(metric, key, _own(value, metric.device))
        for name, gradient in self.resumed["gradients"].items():
            pl_module.get_parameter(name).grad = _own(gradient, pl_module.device)
        if self.resumed["loader"] is not None:
            trainer.train_dataloader.load_state_dict(self.resumed["loader"])  # type: ignore[union-attr]
        self.resumed = None


def _in_use(part: Any) -> bool:
    return isinstance(part, Metric) and part.update_called


def _own(value: Any, device: Any) -> Any:
    """A copy on the device: metrics that are computed as one have one state, and add to it in place."""
    return value.to(device, copy=True) if isinstance(value, Tensor) else [_own(part, device) for part in value]
