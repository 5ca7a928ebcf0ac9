"""The short base of all models: a network, its loss, its metrics, its optimizer."""

import sys
from abc import abstractmethod
from collections.abc import Sequence
from functools import cache, partial
from typing import Any, ClassVar

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import MetricCollection

from triptych.build import build
from triptych.models import schedules
from triptych.models.hyperparameters import refuse_others
from triptych.models.metric_buffer import MetricBuffer
from triptych.models.metrics import MeanLoss
from triptych.networks.ensemble import Ensemble

LOSSES = {"mse": nn.MSELoss, "mae": nn.L1Loss, "huber": nn.HuberLoss}


def regression_loss(name: str) -> nn.Module:
    """The loss ``mse``, ``mae`` or ``huber``, as a mean over all elements."""
    if name not in LOSSES:
        raise ValueError(f"model.loss={name}: choose one of {', '.join(LOSSES)}")
    return LOSSES[name]()


class Model(LightningModule):
    """One step for training, validation and test; metrics over whole splits; any optimizer and scheduler of torch.

    A subclass gives ``metrics_of_split``, ``loss`` and ``predict``. All arguments are plain numbers, strings, lists
    and dicts, so that a checkpoint loads with ``weights_only=True``.

    Args:
        network: config of the network, with its class at ``_target_``.
        optimizer: config of the optimizer.
        scheduler: config of the learning-rate scheduler, with ``interval`` (``step``, or ``epoch`` as where it is
            missing) beside its own arguments; ``auto`` for ``T_max``, ``total_steps`` and ``max_lr`` is filled from the
            run.
        knobs: further arguments of the network: ``activation``, ``norm``, ``dropout``, ``padding``.
        monitor: the metric that a plateau scheduler follows.
        l1: weight of the sum of absolute weights in the training loss.
        weight_decay: the optimizer's, on weights only.
        members: networks side by side, as an Ensemble where there are several.
    """

    CHANGEABLE: ClassVar[frozenset[str]] = frozenset({"optimizer", "scheduler", "dropout", "l1", "weight_decay"})
    """Hyperparameters that a resumed run may change: those of training alone. The others make or feed the network, or
    decide what is measured, of which the best epoch so far was chosen."""

    several: bool = False
    """Whether other processes train along; known once training starts."""

    def __init__(
        self,
        network: dict[str, Any],
        optimizer: dict[str, Any],
        scheduler: dict[str, Any],
        knobs: dict[str, Any],
        monitor: str | None,
        l1: float,
        weight_decay: float,
        members: int = 1,
    ) -> None:
        super().__init__()
        if l1 < 0 or weight_decay < 0:
            raise ValueError(f"model.l1={l1} model.weight_decay={weight_decay}: expected numbers from 0")
        if members < 1:
            raise ValueError(f"model.members={members}: expected a number from 1")
        self.optimizer_config = optimizer
        self.scheduler_config = scheduler
        self.monitor = monitor
        self.l1 = l1
        self.weight_decay = weight_decay
        networks = [build(network, kinds=(nn.Module,), **knobs) for _ in range(members)]
        self.network: Any = Ensemble(networks) if members > 1 else networks[0]
        # By name, for FSDP makes vectors of them.
        self.matrices = {name for name, parameter in self.network.named_parameters() if parameter.ndim > 1}
        metrics = self.metrics_of_split()
        # Attributes, for Lightning finds metrics to reset among a module's own attributes.
        self.train_loss, self.val_loss, self.test_loss = MeanLoss(), MeanLoss(), MeanLoss()
        self.train_metrics = metrics.clone(prefix="train/")
        self.val_metrics = metrics.clone(prefix="val/")
        self.test_metrics = metrics.clone(prefix="test/")
        self.metric_buffer = MetricBuffer(partial(self._measure, "train"))
        self.measured_epoch = -1
        """The epoch whose training metrics Lightning was told of."""
        self.step_rate: float | None = None
        """The learning rate of the last training step; None before the first."""
        for metric in (self.train_loss, *self.train_metrics.values()):
            metric.compute = self.metric_buffer.flushing(metric.compute)  # type: ignore[method-assign]

    @abstractmethod
    def metrics_of_split(self) -> MetricCollection:
        """What is measured on each split, named without it."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch, from what ``forward`` gave."""

    @abstractmethod
    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        """From a batch of inputs to named columns in the user's units, one entry a sample."""

    @abstractmethod
    def update_metrics(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> None:
        """Feed a batch to the metrics, in the user's units."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Set in each step, the first by Lightning for each hook; torch would ask each time whether that is a weight.
        if name in ("_current_fx_name", "step_loss", "step_rate"):
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    # Steps

    def shared_step(self, batch: tuple[Tensor, Tensor], split: str, first: bool) -> Tensor:
        """The mean loss of a batch, which is measured; ``first`` where a pass over the split begins."""
        inputs, targets = batch
        outputs = self(inputs)
        loss = self.loss(outputs, targets)
        if split == "train":
            self.metric_buffer.add(outputs.detach(), targets, loss.detach())
        else:
            self._measure(split, outputs.detach(), targets, loss.detach(), len(inputs))
        if first:
            self._log_metrics(split, len(inputs))
        return loss

    def _log_metrics(self, split: str, samples: int) -> None:
        """Let Lightning ask the split's metrics for their values at the epoch's end: to hear of them once is enough."""
        metrics: MetricCollection = getattr(self, f"{split}_metrics")
        logged = {f"{split}/loss": getattr(self, f"{split}_loss"), **dict(metrics.items(copy_state=False))}
        known: Any = getattr(self._trainer, "_results", None) or {}
        keys = [f"{self._current_fx_name}.{name}" for name in logged]
        if not all(key in known for key in keys):
            self.log_dict(logged, on_step=False, on_epoch=True, batch_size=samples)
            return
        # As `log` ends, which before that copies all that Lightning knows of each metric, in half a millisecond.
        for key, metric in zip(keys, logged.values(), strict=True):
            known.update_metrics(key, metric, samples)

    def _measure(self, split: str, outputs: Tensor, targets: Tensor, loss: Tensor, samples: int) -> None:
        self.update_metrics(getattr(self, f"{split}_metrics"), outputs, targets)
        # A metric, whose state a checkpoint can keep. A ragged last batch weighs by its samples.
        getattr(self, f"{split}_loss").update(loss, samples)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        epoch = self.current_epoch
        first = self.measured_epoch != epoch
        loss = self.shared_step(batch, "train", first)
        if first:
            self.measured_epoch = epoch
        if self.several:
            loss = loss * self._weight()
        self.step_loss, self.step_rate = loss.detach(), self._rate()
        if self.step_loss.is_cuda and not self.several and self._is_point():
            # The host waits for the GPU, which has less left to do now than behind the optimizer's step.
            self.step_loss = self.step_loss.cpu()
        if self.l1:
            loss = loss + self.l1 * sum(weight.abs().sum() for weight in self._weights())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        # Only where it is written, and past `log`, which costs as much as a small network's forward pass.
        if self._is_point():
            connector = self.trainer._logger_connector
            loss: Any = self.step_loss.clone()
            if self.several:
                loss = self.trainer.strategy.reduce(loss, reduce_op="mean")
            connector.log_metrics({"train/loss_step": loss})
            connector._callback_metrics["train/loss_step"] = loss
            connector._progress_bar_metrics["train/loss_step"] = loss.item()

    def _is_point(self) -> bool:
        """Whether the loss of the step under way is to be logged."""
        trainer = self._trainer
        if trainer is None or not trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return False
        # As Lightning's `should_update_logs`, which finds out anew that this is training.
        loop = trainer.fit_loop.epoch_loop
        due = (loop._batches_that_stepped + 1) % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        return (due or trainer.should_stop) and not loop._should_accumulate()

    def _rate(self) -> float | None:
        """The learning rate that a step has now; None where nothing is trained."""
        return None if self._trainer is None else self._trainer.optimizers[0].param_groups[0]["lr"]

    def _weight(self) -> float:
        """What this process's mean loss weighs: the gradient is the mean over processes, whatever samples each has."""
        loader: Any = self.trainer.train_dataloader
        return loader.weight() if hasattr(loader, "weight") else 1.0

    def on_train_epoch_end(self) -> None:
        # Of the last step, for the schedule has moved on since.
        rate: Any = self._rate() if self.step_rate is None else self.step_rate
        self.log("learning_rate", rate, sync_dist=True)
        for config in self.trainer.lr_scheduler_configs:
            metric = self.trainer.callback_metrics.get(str(config.monitor))
            moves = isinstance(config.scheduler, ReduceLROnPlateau) and schedules.was_validated(self.trainer)
            if moves and metric is not None:
                config.scheduler.step(metric)  # type: ignore[arg-type]

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.shared_step(batch, "val", first=batch_idx == 0)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.shared_step(batch, "test", first=batch_idx == 0)

    # Optimizer

    def _weights(self) -> list[nn.Parameter]:
        """Matrices and kernels: what L1 and weight decay pull at.

        Biases and norms are vectors, but where each feature has a layer of its own the biases are a matrix.
        """
        named = self.network.named_parameters()
        return [parameter for name, parameter in named if name in self.matrices and not name.endswith("bias")]

    def make_optimizer(self) -> Optimizer:
        """The configured optimizer over the network's parameters, weight decay on weights only."""
        weights = self._weights()
        ids = {id(weight) for weight in weights}
        others = [parameter for parameter in self.network.parameters() if id(parameter) not in ids]
        groups = [
            {"params": weights, "weight_decay": self.weight_decay},
            {"params": others, "weight_decay": 0.0, "matrices": False},  # which Muon asks for, and nobody else
        ]
        trainer, config = self._trainer, self.optimizer_config
        scales = trainer is not None and getattr(trainer.precision_plugin, "scaler", None) is not None
        if config.get("fused") and scales and trainer is not None and trainer.gradient_clip_val:
            # A fused kernel takes the loss's scale back itself, too late for gradients to be clipped.
            config = config | {"fused": False}
        if (betas := config.get("betas")) is not None and not _are_betas(betas):
            raise ValueError(f"optimizer.betas={betas}: expected two numbers from 0 to below 1")
        optimizer: Optimizer = build(config, groups, kinds=(Optimizer,))
        if not scales:
            # Lightning asks this, under bfloat16 too, where nothing is scaled and clipping is all right.
            optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        return optimizer

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.make_optimizer()
        scheduler, interval = self.make_scheduler(optimizer), schedules.interval(self.scheduler_config)
        frequency = 1
        if isinstance(scheduler, ReduceLROnPlateau):
            if not self.trainer.enable_validation:
                raise ValueError("scheduler=plateau follows a validation metric, and there is no validation split")
            if interval != "epoch":
                raise ValueError("scheduler.interval=step: a plateau is one of epochs; set scheduler.interval=epoch")
            # Never by Lightning, but in `on_train_epoch_end`: behind the epoch's checkpoint is too late for it to know.
            frequency = sys.maxsize
        moves = {"scheduler": scheduler, "interval": interval, "frequency": frequency, "monitor": self.monitor}
        return {"optimizer": optimizer, "lr_scheduler": moves}  # type: ignore[return-value]

    def schedule(self) -> dict[str, Any]:
        """All that decides how the learning rate moves.

        Returns:
            ``optimizer`` and ``scheduler`` as configured, the steps of an ``epoch``, and the ``length`` of the run
            where the schedule ends with it.
        """
        auto = "auto" in self.scheduler_config.values()
        return {
            "optimizer": self.optimizer_config | {"weight_decay": self.weight_decay},
            "scheduler": self.scheduler_config,
            "epoch": schedules.steps_an_epoch(self.trainer),
            "length": schedules.run_length(self.scheduler_config, self.trainer) if auto else None,
        }

    def make_scheduler(self, optimizer: Optimizer) -> LRScheduler:
        """The configured scheduler at its beginning."""
        return schedules.make_scheduler(self.scheduler_config, optimizer, self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._trainer is None:
            return  # as of load_from_checkpoint, where others may be given
        # What the data told it is for them to compare.
        told: dict[str, Any] = getattr(self.trainer.datamodule, "model_arguments", dict)()  # type: ignore[attr-defined]
        refuse_others(checkpoint.get("hyper_parameters", {}), self.hparams, self.CHANGEABLE | told.keys())

    def on_fit_start(self) -> None:
        self.metric_buffer.batches, self.measured_epoch, self.step_rate = [], -1, None
        # Lightning would find out for each batch whether its three hooks are the model's or the datamodule's.
        selector: Any = self.trainer._data_connector._datahook_selector
        selector.get_instance = cache(selector.get_instance)
        batch_size = getattr(self.trainer.datamodule, "batch_size", None)  # type: ignore[attr-defined]
        self.several = self.trainer.world_size > 1
        # Of a batch each process takes a part.
        alone = isinstance(batch_size, int) and batch_size < 2 * self.trainer.world_size
        if alone and any(isinstance(module, nn.BatchNorm1d) for module in self.network.modules()):
            raise ValueError(
                "batch norm has no variance to divide by in a batch of one: set model.norm=layer, or a larger "
                "data.batch_size"
            )

    @property
    def members(self) -> list[nn.Module]:
        """The networks side by side; one where there is no ensemble."""
        return list(self.network) if isinstance(self.network, Ensemble) else [self.network]

    def parameter_count(self) -> int:
        """Trainable numbers in the network."""
        return sum(parameter.numel() for parameter in self.network.parameters() if parameter.requires_grad)


def _are_betas(value: Any) -> bool:
    """Whether these are betas that Adam and its like take: what they say of others is nothing, or hard to read."""
    two = isinstance(value, Sequence) and len(value) == 2
    return two and all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in value)
