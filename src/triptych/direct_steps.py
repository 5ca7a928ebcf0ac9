"""A training loop with less overhead per step than Lightning's, on which a small network spends most of its time."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.core.hooks import DataHooks
from lightning.pytorch.loops.fetchers import _DataFetcher, _DataLoaderIterDataFetcher, _PrefetchDataFetcher
from lightning.pytorch.loops.optimization.automatic import Closure
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.trainer.call import _call_lightning_module_hook
from torch import Tensor
from torch.optim import LBFGS, Optimizer

HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
"""The callback hooks that are called in every step."""
BATCH_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
"""Hooks of a module or datamodule that turn a loader's batch into the argument of ``training_step``."""
STEP_OVERRIDES = ("optimizer_step", "optimizer_zero_grad", "backward")
"""Hooks with which a module overrides part of the step."""
PRECISIONS = (Precision, DoublePrecision, HalfPrecision, MixedPrecision)
"""Precision plugins that leave the step as it is, except for scaling the loss."""
OPTIMIZERS = ("torch.optim.", f"{__package__}.optimizers")
"""Modules (or their prefix) of optimizers that need no closure, except LBFGS; others may, whatever they declare."""


def use_direct_loop(trainer: Trainer) -> None:
    """Replace a Trainer's loop over batches by a DirectLoop."""
    loop = trainer.fit_loop.epoch_loop
    trainer.fit_loop.epoch_loop = DirectLoop(trainer, loop.min_steps, loop.max_steps)


class DirectLoop(_TrainingEpochLoop):
    """Lightning's loop over the batches of an epoch, with the steps written out.

    In every step Lightning searches all callbacks for each hook, determines again whose hooks a batch passes through
    and what ``training_step`` takes, wraps the step in four closures for the optimizer, and afterwards asks whether to
    validate, to stop or to log. Here the operations and their order are the same, but only hooks that somebody
    overrides are called, and steps follow each other for as long as Lightning has nothing to do in between.

    All but the plain case is left to Lightning: several processes, accumulated gradients, a scaled loss, an optimizer
    that needs a closure or is unknown, a step-wise schedule that follows a metric, a module that overrides part of the
    step, a profiler that times the parts, the first step of an epoch that is resumed midway.
    """

    dependencies: tuple[Any, ...] = ()
    """The state from which the attributes below were derived; they are derived again when it changes."""
    module: LightningModule
    """The Trainer's module."""
    direct: bool = False
    """Whether the steps are the plain case."""
    listeners: dict[str, list[Callable[..., None]]]
    """For each of HOOKS, those of the callbacks and then the module that override it."""
    batch_hooks: list[tuple[Callable[..., Any], tuple[Any, ...]]]
    """What a batch passes through (the precision's conversion, BATCH_HOOKS), each with its further arguments."""
    num_results: int
    """The number of results that Lightning kept when ``logs_steps`` was determined."""
    logs_steps: bool
    """Whether one of these results has a value for each step."""
    num_arguments: int
    """How many of ``(batch, batch_idx)`` ``training_step`` takes."""
    context: Callable[[], AbstractContextManager[Any]]
    """The precision plugin's context for ``training_step``."""
    can_end: bool
    """Whether the module overrides ``on_train_batch_start``, by which it can end the epoch."""
    clips: bool
    """Whether the module overrides ``configure_gradient_clipping``."""

    @property
    def global_step(self) -> int:
        # Lightning first asks the module whether it optimises manually, and several callbacks read this in each step.
        steps = self.automatic_optimization.optim_progress
        return steps.optimizer_steps if self.direct else super().global_step

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        super().on_run_start(data_fetcher)
        self.dependencies, self.direct = (), False  # the module may be another one

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Run a step and those that follow, up to the next after which Lightning may have something to do.

        Raises:
            StopIteration: there are no more batches, or the module ends the epoch.
        """
        trainer = self.trainer
        if self.dependencies != (current := self._dependencies()):
            self.dependencies = current
            self._derive_attributes()
        if not self.direct or self.restarting or isinstance(data_fetcher, _DataLoaderIterDataFetcher):
            super().advance(data_fetcher)
            return
        self.val_loop.restarting = False
        validates_within = self._validates_within()
        source = single_source(data_fetcher)  # not stored: its workers live as long as it does
        while True:
            self._step(data_fetcher, source, trainer.optimizers[0])
            if validates_within or self._is_training_done or trainer.should_stop or trainer.received_sigterm:
                return
            if self.dependencies != self._dependencies():
                return  # the next call derives the attributes again
            self._batches_that_stepped += 1  # all that Lightning would do now

    def _dependencies(self) -> tuple[Any, ...]:
        """The state that may change within an epoch and that the steps depend on."""
        trainer, skips = self.trainer, self.automatic_optimization._skip_backward
        return (trainer.accumulate_grad_batches, skips, *trainer.optimizers, *trainer.callbacks)

    def _validates_within(self) -> bool:
        """Whether this epoch may have a validation before its last step."""
        trainer = self.trainer
        at_the_end = trainer.val_check_batch in (float("inf"), trainer.num_training_batches)  # None: time-based
        counts_on = trainer.check_val_every_n_epoch is None  # counts steps across epochs
        return self._should_check_val_epoch() and (counts_on or not at_the_end)

    def _step(self, data_fetcher: _DataFetcher, source: Iterator[Any] | None, optimizer: Optimizer) -> None:
        progress, results, connector = self.batch_progress, self._results, self.trainer._logger_connector
        if source is None:
            batch, _, _ = next(data_fetcher)
        else:
            # Bypasses the machinery with which Lightning combines several loaders.
            batch = next(source)
            data_fetcher.fetched += 1
            data_fetcher.done = data_fetcher.fetched >= data_fetcher.length  # type: ignore[operator]
        batch_idx = progress.current.ready
        progress.is_last_batch = data_fetcher.done
        for function, arguments in self.batch_hooks:
            batch = function(batch, *arguments)
        progress.increment_ready()
        # As in the connector's `on_batch_start`, which would look up the current results again.
        connector._first_loop_iter = connector._first_loop_iter is None
        results.batch, results.batch_size, results.dataloader_idx = batch, None, None
        output, ends = None, False
        if batch is None:
            self._warning_cache.warn("a batch is None, and is skipped")
        else:
            ends = self._call_listeners("on_train_batch_start", batch, batch_idx) == -1 and self.can_end
            if ends:
                progress.increment_by(0, is_last_batch=True)
            else:
                progress.increment_started()
                output = self._optimize(optimizer, batch, batch_idx)
        progress.increment_processed()
        self._step_schedules()
        if ends:
            raise StopIteration
        self._call_listeners("on_train_batch_end", output, batch, batch_idx)
        if len(results) != self.num_results:
            # Values logged per epoch only have none for this step.
            self.num_results, self.logs_steps = len(results), any(result.meta.on_step for result in results.values())
        if self.logs_steps:
            connector.on_batch_end()
        results.batch = results.batch_size = None
        progress.increment_completed()
        if self.logs_steps:
            connector.update_train_step_metrics()

    def _optimize(self, optimizer: Optimizer, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Lightning's automatic optimization; returns the step's outputs as callbacks receive them."""
        trainer, module = self.trainer, self.module
        progress = self.automatic_optimization.optim_progress.optimizer
        progress.step.increment_ready()
        with self.context():
            output = self._call("training_step", module.training_step, *(batch, batch_idx)[: self.num_arguments])
        loss, more = (output, {}) if isinstance(output, Tensor) else self._unpacked(output)
        progress.zero_grad.increment_ready()
        self._call_listeners("on_before_zero_grad", optimizer)
        progress.zero_grad.increment_started()
        self._call("optimizer_zero_grad", optimizer.zero_grad)
        progress.zero_grad.increment_completed()
        if loss is None:
            Closure.warning_cache.warn("training_step gave None instead of a loss: its batch is skipped")
        else:
            self._call_listeners("on_before_backward", loss)
            self._call("backward", loss.backward)
            self._call_listeners("on_after_backward")
        self._call_listeners("on_before_optimizer_step", optimizer)
        if self.clips or trainer.gradient_clip_val is not None:
            _call_lightning_module_hook(
                trainer,
                "configure_gradient_clipping",
                optimizer,
                gradient_clip_val=trainer.gradient_clip_val,
                gradient_clip_algorithm=trainer.gradient_clip_algorithm,
            )
        self._call("optimizer_step", optimizer.step)
        progress.step.increment_completed()
        # A copy: whoever keeps it must not see it change with the next step.
        return {} if loss is None else {"loss": loss.detach().clone(), **more}

    def _unpacked(self, output: Any) -> tuple[Tensor | None, dict[str, Any]]:
        """The loss (None skips the batch) and the other outputs of a training step; Lightning refuses invalid ones."""
        result = self.automatic_optimization.output_result_cls.from_training_step_output(output)
        return result.closure_loss, result.extra

    def _step_schedules(self) -> None:
        """Step the schedulers, except those that follow a metric: Lightning steps these after the validation."""
        for config in self.trainer.strategy.lr_scheduler_configs:
            if config.interval == "step" and (self.batch_idx + 1) % config.frequency == 0:
                self.scheduler_progress.increment_ready()
                self.module.lr_scheduler_step(config.scheduler, None)
                self.scheduler_progress.increment_completed()
        if self._num_ready_batches_reached():
            self.update_lr_schedulers("epoch", update_plateau_schedulers=False)

    def _call_listeners(self, hook: str, *arguments: Any) -> Any:
        """Call the listeners of a hook; returns what the last one returned, the module if it overrides the hook."""
        answer = None
        for listener in self.listeners[hook]:
            answer = self._call(hook, listener, *arguments)
        return answer

    def _call(self, hook: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function as the named hook, from which Lightning knows what may be logged there."""
        state = vars(self.module)  # bypasses nn.Module.__setattr__, which checks each value for a parameter
        outside, state["_current_fx_name"] = state["_current_fx_name"], hook
        answer = function(*arguments)
        state["_current_fx_name"] = outside
        return answer

    def _derive_attributes(self) -> None:
        """Derive the attributes of this class from the Trainer and its module."""
        trainer, module = self.trainer, self.trainer.lightning_module
        precision, optimizers = trainer.precision_plugin, trainer.optimizers
        self.module, self.context, self.num_results = module, precision.forward_context, -1
        self.direct = (
            type(trainer.strategy) is SingleDeviceStrategy
            and module.automatic_optimization
            and trainer.accumulate_grad_batches == 1
            and not self.automatic_optimization._skip_backward
            and type(precision) in PRECISIONS
            and getattr(precision, "scaler", None) is None
            and isinstance(trainer.profiler, PassThroughProfiler)
            and len(optimizers) == 1
            and type(optimizers[0]).__module__.startswith(OPTIMIZERS)
            and type(optimizers[0]) is not LBFGS
            and ("step", True) not in [(each.interval, each.reduce_on_plateau) for each in trainer.lr_scheduler_configs]
            and not any(has_own(module, LightningModule, way) for way in STEP_OVERRIDES)
        )
        self.listeners = {
            hook: [
                partial(getattr(callback, hook), trainer, module)
                for callback in trainer.callbacks
                if has_own(callback, Callback, hook) and not is_idle(callback, hook)
            ]
            + ([getattr(module, hook)] if has_own(module, LightningModule, hook) else [])
            for hook in HOOKS
        }
        owner = trainer._data_connector._datahook_selector.get_instance
        self.batch_hooks = [(precision.convert_input, ())] if has_own(precision, Precision, "convert_input") else []
        for hook in BATCH_HOOKS:
            function = getattr(owner(hook), hook)
            if hook == "transfer_batch_to_device":
                self.batch_hooks.append((function, (trainer.strategy.root_device, 0)))
            elif has_own(owner(hook), DataHooks, hook):  # Lightning's own return the batch as it is
                self.batch_hooks.append((function, (0,)))
        self.num_arguments = len(self._build_kwargs(OrderedDict(), None, 0))
        self.can_end = has_own(module, LightningModule, "on_train_batch_start")
        self.clips = has_own(module, LightningModule, "configure_gradient_clipping")


def single_source(data_fetcher: _DataFetcher) -> Iterator[Any] | None:
    """The iterator of the loader, if it is the only one, of known length, and none of its batches was prefetched."""
    combined = data_fetcher.combined_loader
    iterators = getattr(combined._iterator, "iterators", [])
    plain = type(data_fetcher) is _PrefetchDataFetcher and data_fetcher.length is not None and not data_fetcher.batches
    return iterators[0] if plain and len(iterators) == 1 and combined.flattened == [combined.iterables] else None


def is_idle(callback: Callback, hook: str) -> bool:
    """Whether a hook is that of a checkpoint callback which saves per epoch only, and so does nothing in a step."""
    return (
        isinstance(callback, ModelCheckpoint)
        and hook == "on_train_batch_end"
        and not has_own(callback, ModelCheckpoint, hook)
        and not callback._every_n_train_steps
        and callback._train_time_interval is None
    )


def has_own(owner: Any, base: type, hook: str) -> bool:
    """Whether an object overrides a hook of its base class, with something callable."""
    own = getattr(owner, hook)
    return callable(own) and own != getattr(base, hook).__get__(owner)
