"""The base LightningModule of all models: training, validation and test steps, metrics, optimizer and scheduler."""

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
    """Return the loss ``mse``, ``mae`` or ``huber``, averaged over all elements; ValueError for any other name."""
    if name not in LOSSES:
        raise ValueError(f"model.loss={name}: choose one of {', '.join(LOSSES)}")
    return LOSSES[name]()


class Model(LightningModule):
    """Base of the models: one shared step, metrics over whole splits, any PyTorch optimizer and scheduler.

    A subclass implements ``metrics_of_split``, ``loss``, ``update_metrics``, ``predict`` and ``forward``. All arguments
    are plain numbers, strings, lists and dicts, so that a checkpoint loads with ``weights_only=True``.

    Args:
        network: config of the network, with its class under ``_target_``.
        optimizer: config of the optimizer.
        scheduler: config of the learning-rate scheduler: its own arguments and ``interval`` (``step`` or ``epoch``, the
            default). The value ``auto`` for ``T_max``, ``total_steps`` and ``max_lr`` is filled in from the run.
        knobs: further arguments of the network, such as ``activation``, ``norm``, ``dropout`` and ``padding``.
        monitor: the metric that a plateau scheduler follows.
        l1: factor of the sum of absolute weights, which is added to the minimised loss but not to the logged one.
        weight_decay: weight decay of the optimizer, applied to weights only, not to biases and norms.
        members: number of networks trained side by side; several are wrapped in an Ensemble.

    Raises:
        ValueError: ``l1`` or ``weight_decay`` is negative, or ``members`` is below 1.
    """

    CHANGEABLE: ClassVar[frozenset[str]] = frozenset({"optimizer", "scheduler", "dropout", "l1", "weight_decay"})
    """Hyperparameters that a resumed run may change: those that affect training alone. The others define the network or
    its inputs, or what is measured, and the best epoch so far was chosen by that."""

    distributed: bool = False
    """Whether the run is distributed over several processes; set when training starts."""

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
        # By name, because FSDP flattens the parameters into vectors.
        self.matrices = {name for name, parameter in self.network.named_parameters() if parameter.ndim > 1}
        metrics = self.metrics_of_split()
        # As attributes, because Lightning looks for the metrics to reset among a module's own attributes.
        self.train_loss, self.val_loss, self.test_loss = MeanLoss(), MeanLoss(), MeanLoss()
        self.train_metrics = metrics.clone(prefix="train/")
        self.val_metrics = metrics.clone(prefix="val/")
        self.test_metrics = metrics.clone(prefix="test/")
        self.metric_buffer = MetricBuffer(partial(self._update_split_metrics, "train"))
        self.measured_epoch = -1
        """The epoch whose training metrics have been logged; -1 before the first."""
        self.step_learning_rate: float | None = None
        """The learning rate of the last training step; None before the first."""
        for metric in (self.train_loss, *self.train_metrics.values()):
            metric.compute = self.metric_buffer.flushing(metric.compute)  # type: ignore[method-assign]

    @abstractmethod
    def metrics_of_split(self) -> MetricCollection:
        """Return the metrics measured on each split, named without its prefix."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch, given the outputs of ``forward``."""

    @abstractmethod
    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        """Map a batch of inputs to named columns in the user's units, with one entry per sample."""

    @abstractmethod
    def update_metrics(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> None:
        """Update the metrics with a batch, converted to the user's units."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Set at every step, the first around every hook: skip nn.Module's check for parameters and submodules.
        if name in ("_current_fx_name", "step_loss", "step_learning_rate"):
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    # Steps

    def shared_step(self, batch: tuple[Tensor, Tensor], split: str, first: bool) -> Tensor:
        """Return the mean loss of a batch and update the metrics; ``first``: whether a pass over the split begins."""
        inputs, targets = batch
        outputs = self(inputs)
        loss = self.loss(outputs, targets)
        if split == "train":
            self.metric_buffer.add(outputs.detach(), targets, loss.detach())
        else:
            self._update_split_metrics(split, outputs.detach(), targets, loss.detach(), len(inputs))
        if first:
            self._log_metrics(split, len(inputs))
        return loss

    def _log_metrics(self, split: str, samples: int) -> None:
        """Register the split's metrics with Lightning, once per pass; it computes them when the epoch ends."""
        metrics: MetricCollection = getattr(self, f"{split}_metrics")
        logged = {f"{split}/loss": getattr(self, f"{split}_loss"), **dict(metrics.items(copy_state=False))}
        known: Any = getattr(self._trainer, "_results", None) or {}
        keys = [f"{self._current_fx_name}.{name}" for name in logged]
        if not all(key in known for key in keys):
            self.log_dict(logged, on_step=False, on_epoch=True, batch_size=samples)
            return
        # The last part of `log`, which would first copy all that Lightning stores for each metric: half a millisecond.
        for key, metric in zip(keys, logged.values(), strict=True):
            known.update_metrics(key, metric, samples)

    def _update_split_metrics(self, split: str, outputs: Tensor, targets: Tensor, loss: Tensor, samples: int) -> None:
        self.update_metrics(getattr(self, f"{split}_metrics"), outputs, targets)
        # The mean loss is a metric so that a checkpoint can store its state; a ragged last batch counts by its samples.
        getattr(self, f"{split}_loss").update(loss, samples)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        epoch = self.current_epoch
        first = self.measured_epoch != epoch
        loss = self.shared_step(batch, "train", first)
        if first:
            self.measured_epoch = epoch
        if self.distributed:
            loss = loss * self._loss_weight()
        self.step_loss, self.step_learning_rate = loss.detach(), self._learning_rate()
        if self.step_loss.is_cuda and not self.distributed and self._is_logged_step():
            # Synchronise with the GPU here, where less work is queued than after the optimizer's step.
            self.step_loss = self.step_loss.cpu()
        if self._trainer is not None and self._trainer.accumulate_grad_batches > 1:
            loss = loss * self._group_weight(batch_idx)
        if self.l1:
            loss = loss + self.l1 * sum(weight.abs().sum() for weight in self._decayed_parameters())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        # Only at logged steps, and bypassing `log`, which costs as much as a small network's forward pass.
        if self._is_logged_step():
            connector = self.trainer._logger_connector
            loss: Any = self.step_loss.clone()
            if self.distributed:
                loss = self.trainer.strategy.reduce(loss, reduce_op="mean")
            connector.log_metrics({"train/loss_step": loss})
            connector._callback_metrics["train/loss_step"] = loss
            connector._progress_bar_metrics["train/loss_step"] = loss.item()

    def _is_logged_step(self) -> bool:
        """Whether the loss of the current step is to be logged."""
        trainer = self._trainer
        if trainer is None or not trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return False
        # Lightning's `should_update_logs`, without looking up again that the active loop is the training loop.
        loop = trainer.fit_loop.epoch_loop
        due = (loop._batches_that_stepped + 1) % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        return (due or trainer.should_stop) and not loop._should_accumulate()

    def _learning_rate(self) -> float | None:
        """The current learning rate; None without a Trainer."""
        return None if self._trainer is None else self._trainer.optimizers[0].param_groups[0]["lr"]

    def _loss_weight(self) -> float:
        """Weight of this process's mean loss: gradients are averaged over processes, however many samples each has."""
        loader: Any = self.trainer.train_dataloader
        return loader.weight() if hasattr(loader, "weight") else 1.0

    def _group_weight(self, batch_idx: int) -> float:
        """Weight of a batch whose gradient is accumulated: Lightning divides by the size of a complete group.

        The last group of an epoch may have fewer batches.
        """
        size, batches = self.trainer.accumulate_grad_batches, self.trainer.num_training_batches
        if batches == float("inf") or batch_idx < batches - batches % size:
            return 1.0
        return size / (batches % size)

    def on_train_epoch_end(self) -> None:
        # That of the last step: the scheduler has moved on since.
        rate: Any = self._learning_rate() if self.step_learning_rate is None else self.step_learning_rate
        self.log("learning_rate", rate, sync_dist=True)
        for config in self.trainer.lr_scheduler_configs:
            metric = self.trainer.callback_metrics.get(str(config.monitor))
            steps_on_metric = isinstance(config.scheduler, ReduceLROnPlateau) and schedules.was_validated(self.trainer)
            if steps_on_metric and metric is not None:
                config.scheduler.step(metric)  # type: ignore[arg-type]

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.shared_step(batch, "val", first=batch_idx == 0)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.shared_step(batch, "test", first=batch_idx == 0)

    # Optimizer

    def _decayed_parameters(self) -> list[nn.Parameter]:
        """Matrices and kernels: the parameters that L1 and weight decay apply to.

        Biases and norm parameters are vectors, except where each feature or member has its own layer, whose biases form
        a matrix.
        """
        named = self.network.named_parameters()
        return [parameter for name, parameter in named if name in self.matrices and not name.endswith("bias")]

    def make_optimizer(self) -> Optimizer:
        """Build the configured optimizer, with weight decay on weights only; ValueError for invalid ``betas``."""
        weights = self._decayed_parameters()
        ids = {id(weight) for weight in weights}
        others = [parameter for parameter in self.network.parameters() if id(parameter) not in ids]
        groups = [
            {"params": weights, "weight_decay": self.weight_decay},
            {"params": others, "weight_decay": 0.0, "matrices": False},  # read by Muon only
        ]
        trainer, config = self._trainer, self.optimizer_config
        scales = trainer is not None and getattr(trainer.precision_plugin, "scaler", None) is not None
        if config.get("fused") and scales and trainer is not None and trainer.gradient_clip_val:
            # A fused kernel unscales the gradients itself, which is too late for clipping.
            config = config | {"fused": False}
        if (betas := config.get("betas")) is not None and not _are_betas(betas):
            raise ValueError(f"optimizer.betas={betas}: expected two numbers from 0 to below 1")
        optimizer: Optimizer = build(config, groups, kinds=(Optimizer,))
        if not scales:
            # If set, Lightning refuses to clip gradients, even under bfloat16, where nothing is scaled.
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
            # Stepped in `on_train_epoch_end`: Lightning would do so only after writing the epoch's checkpoint.
            frequency = sys.maxsize
        lr_scheduler = {"scheduler": scheduler, "interval": interval, "frequency": frequency, "monitor": self.monitor}
        return {"optimizer": optimizer, "lr_scheduler": lr_scheduler}  # type: ignore[return-value]

    def schedule(self) -> dict[str, Any]:
        """Return everything that determines the learning rate over the run, for comparison on a resume.

        Returns:
            ``optimizer`` and ``scheduler`` as configured, the optimizer steps per ``epoch``, and the ``length`` of the
            run if the schedule depends on it, otherwise None.
        """
        auto = "auto" in self.scheduler_config.values()
        return {
            "optimizer": self.optimizer_config | {"weight_decay": self.weight_decay},
            "scheduler": self.scheduler_config,
            "epoch": schedules.steps_an_epoch(self.trainer),
            "length": schedules.run_length(self.scheduler_config, self.trainer) if auto else None,
        }

    def make_scheduler(self, optimizer: Optimizer) -> LRScheduler:
        """Build the configured scheduler in its initial state."""
        return schedules.make_scheduler(self.scheduler_config, optimizer, self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._trainer is None:
            return  # load_from_checkpoint, where hyperparameters may be overridden
        # Arguments derived from the data are left for the datamodule to compare.
        arguments: dict[str, Any] = getattr(self.trainer.datamodule, "model_arguments", dict)()  # type: ignore[attr-defined]
        refuse_others(checkpoint.get("hyper_parameters", {}), self.hparams, self.CHANGEABLE | arguments.keys())
        # Lightning would do so only once the weights are loaded, and by that rounded to single precision.
        self.trainer.precision_plugin.convert_module(self)

    def on_train_start(self) -> None:
        every, size = self.trainer.val_check_batch, self.trainer.accumulate_grad_batches
        splits_a_step = isinstance(every, int) and every % size and every != self.trainer.num_training_batches
        if splits_a_step and self.trainer.enable_validation:
            # Two validations could belong to one step, of which only the second would be recorded.
            raise ValueError(
                f"trainer.val_check_interval: a validation after every {every} batches would come between optimizer "
                f"steps, which take {size} (trainer.accumulate_grad_batches); make it a multiple of these"
            )

    def on_fit_start(self) -> None:
        self.metric_buffer.batches, self.measured_epoch, self.step_learning_rate = [], -1, None
        # For every batch, Lightning looks up whether its three transfer hooks are the model's or the datamodule's.
        selector: Any = self.trainer._data_connector._datahook_selector
        selector.get_instance = cache(selector.get_instance)
        batch_size = getattr(self.trainer.datamodule, "batch_size", None)  # type: ignore[attr-defined]
        self.distributed = self.trainer.world_size > 1
        # Each process gets a part of every batch.
        may_have_batch_of_one = isinstance(batch_size, int) and batch_size < 2 * self.trainer.world_size
        if may_have_batch_of_one and any(isinstance(module, nn.BatchNorm1d) for module in self.network.modules()):
            raise ValueError(
                "batch norm has no variance to divide by in a batch of one: set model.norm=layer, or a larger "
                "data.batch_size"
            )

    @property
    def members(self) -> list[nn.Module]:
        """The networks of the ensemble; a single one if there is none."""
        return list(self.network) if isinstance(self.network, Ensemble) else [self.network]

    def parameter_count(self) -> int:
        """Number of trainable parameters of the network."""
        return sum(parameter.numel() for parameter in self.network.parameters() if parameter.requires_grad)


def _are_betas(value: Any) -> bool:
    """Whether Adam and its variants accept the value; their own errors for others are missing or hard to read."""
    two = isinstance(value, Sequence) and len(value) == 2
    return two and all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in value)
