"""Training steps with less around each than Lightning's, which is what a small network spends most of its time on."""

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
"""Hooks of a callback that are called in every step."""
BATCH_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
"""Hooks of a module or its data that make of a loader's batch what ``training_step`` is given."""
OWN_WAYS = ("optimizer_step", "optimizer_zero_grad", "backward")
"""Hooks by which a module replaces a part of the step."""
PRECISIONS = (Precision, DoublePrecision, HalfPrecision, MixedPrecision)
"""Those that leave the step as it is, but for a scaled loss."""
OPTIMIZERS = ("torch.optim.", f"{__package__}.optimizers")
"""Modules of optimizers that need no closure, but for LBFGS; others may, whatever they declare."""


def write_out_steps(trainer: Trainer) -> None:
    """Let a Trainer's steps be made by DirectLoop."""
    loop = trainer.fit_loop.epoch_loop
    trainer.fit_loop.epoch_loop = DirectLoop(trainer, loop.min_steps, loop.max_steps)


class DirectLoop(_TrainingEpochLoop):
    """Lightning's loop over the batches of an epoch, its steps written out.

    Lightning looks through all callbacks for each hook of a step, finds out anew whose hooks a batch goes through and
    what ``training_step`` takes, wraps the step in four closures for the optimizer, and asks behind each whether to
    validate, to stop or to log. Here the same things follow each other, a hook is called where somebody has one, and
    steps follow each other for as long as Lightning has nothing to do in between.

    What is not the plain case is left to Lightning: several processes, accumulated gradients, a scaled loss, an
    optimizer that needs a closure or is unknown, a schedule by steps that follows a metric, a module that replaces a
    part of the step, a profiler that times the parts, the first step of an epoch that is resumed in its middle.
    """

    about: tuple[Any, ...] = ()
    """What the attributes below were derived from; they are anew where it changes."""
    module: LightningModule
    """The Trainer's."""
    direct: bool = False
    """Whether steps are the plain case."""
    listeners: dict[str, list[Callable[..., None]]]
    """Who has which of HOOKS."""
    batch_hooks: list[tuple[Callable[..., Any], tuple[Any, ...]]]
    """What a batch goes through, the precision's conversion and those of BATCH_HOOKS, with their further arguments."""
    logged: int
    """How many results Lightning keeps, of which the following is known."""
    logs: bool
    """Whether one of them has a value for each step."""
    takes: int
    """How much of a batch and its number ``training_step`` takes."""
    context: Callable[[], AbstractContextManager[Any]]
    """The precision's, for ``training_step``."""
    can_end: bool
    """Whether the module has a say in the start of a batch, where it can end the epoch."""
    clips: bool
    """Whether the module has a clipping of its own."""

    @property
    def global_step(self) -> int:
        # Lightning asks the module first how it is optimized, and several callbacks ask this in each step.
        steps = self.automatic_optimization.optim_progress
        return steps.optimizer_steps if self.direct else super().global_step

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        super().on_run_start(data_fetcher)
        self.about, self.direct = (), False  # for the module may be another one

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Make a step, and those behind it up to the next at which Lightning may have something to do.

        Raises:
            StopIteration: there are no more batches, or a module ends the epoch.
        """
        trainer = self.trainer
        if self.about != (seen := self._seen()):
            self.about = seen
            self._look()
        if not self.direct or self.restarting or isinstance(data_fetcher, _DataLoaderIterDataFetcher):
            super().advance(data_fetcher)
            return
        self.val_loop.restarting = False
        validates_within = self._validates_within()
        source = single_source(data_fetcher)  # not to be kept, for workers live as long as it does
        while True:
            self._step(data_fetcher, source, trainer.optimizers[0])
            if validates_within or self._is_training_done or trainer.should_stop or trainer.received_sigterm:
                return
            if self.about != self._seen():
                return  # and is looked at anew
            self._batches_that_stepped += 1  # which Lightning would do now, and nothing else

    def _seen(self) -> tuple[Any, ...]:
        """What may change within an epoch, and with it the steps."""
        trainer, skips = self.trainer, self.automatic_optimization._skip_backward
        return (trainer.accumulate_grad_batches, skips, *trainer.optimizers, *trainer.callbacks)

    def _validates_within(self) -> bool:
        """Whether this epoch may have a validation before its last step."""
        trainer = self.trainer
        at_the_end = trainer.val_check_batch in (float("inf"), trainer.num_training_batches)  # None: by the clock
        counts_on = trainer.check_val_every_n_epoch is None  # steps of earlier epochs too
        return self._should_check_val_epoch() and (counts_on or not at_the_end)

    def _step(self, data_fetcher: _DataFetcher, source: Iterator[Any] | None, optimizer: Optimizer) -> None:
        progress, results, connector = self.batch_progress, self._results, self.trainer._logger_connector
        if source is None:
            batch, _, _ = next(data_fetcher)
        else:
            # Past what Lightning makes one of several loaders with.
            batch = next(source)
            data_fetcher.fetched += 1
            data_fetcher.done = data_fetcher.fetched >= data_fetcher.length  # type: ignore[operator]
        batch_idx = progress.current.ready
        progress.is_last_batch = data_fetcher.done
        for function, arguments in self.batch_hooks:
            batch = function(batch, *arguments)
        progress.increment_ready()
        # As the connector's `on_batch_start`, which finds out anew whose results they are.
        connector._first_loop_iter = connector._first_loop_iter is None
        results.batch, results.batch_size, results.dataloader_idx = batch, None, None
        output, ends = None, False
        if batch is None:
            self._warning_cache.warn("a batch is None, and is skipped")
        else:
            ends = self._tell("on_train_batch_start", batch, batch_idx) == -1 and self.can_end
            if ends:
                progress.increment_by(0, is_last_batch=True)
            else:
                progress.increment_started()
                output = self._optimize(optimizer, batch, batch_idx)
        progress.increment_processed()
        self._step_schedules()
        if ends:
            raise StopIteration
        self._tell("on_train_batch_end", output, batch, batch_idx)
        if len(results) != self.logged:
            # What was logged for the epoch alone has no value of this step.
            self.logged, self.logs = len(results), any(result.meta.on_step for result in results.values())
        if self.logs:
            connector.on_batch_end()
        results.batch = results.batch_size = None
        progress.increment_completed()
        if self.logs:
            connector.update_train_step_metrics()

    def _optimize(self, optimizer: Optimizer, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Lightning's automatic optimization; returns what callbacks are given of the step."""
        trainer, module = self.trainer, self.module
        progress = self.automatic_optimization.optim_progress.optimizer
        progress.step.increment_ready()
        with self.context():
            output = self._call("training_step", module.training_step, *(batch, batch_idx)[: self.takes])
        loss, more = (output, {}) if isinstance(output, Tensor) else self._unpacked(output)
        progress.zero_grad.increment_ready()
        self._tell("on_before_zero_grad", optimizer)
        progress.zero_grad.increment_started()
        self._call("optimizer_zero_grad", optimizer.zero_grad)
        progress.zero_grad.increment_completed()
        if loss is None:
            Closure.warning_cache.warn("training_step gave None instead of a loss: its batch is skipped")
        else:
            self._tell("on_before_backward", loss)
            self._call("backward", loss.backward)
            self._tell("on_after_backward")
        self._tell("on_before_optimizer_step", optimizer)
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
        # A copy, for what is kept of it must not change with the next step.
        return {} if loss is None else {"loss": loss.detach().clone(), **more}

    def _unpacked(self, output: Any) -> tuple[Tensor | None, dict[str, Any]]:
        """The loss, None for a batch to be skipped, and what else a training step gave; Lightning refuses the rest."""
        result = self.automatic_optimization.output_result_cls.from_training_step_output(output)
        return result.closure_loss, result.extra

    def _step_schedules(self) -> None:
        """Move the learning rates, but for those that follow a metric: Lightning moves them behind the validation."""
        for config in self.trainer.strategy.lr_scheduler_configs:
            if config.interval == "step" and (self.batch_idx + 1) % config.frequency == 0:
                self.scheduler_progress.increment_ready()
                self.module.lr_scheduler_step(config.scheduler, None)
                self.scheduler_progress.increment_completed()
        if self._num_ready_batches_reached():
            self.update_lr_schedulers("epoch", update_plateau_schedulers=False)

    def _tell(self, hook: str, *arguments: Any) -> Any:
        """Call the listeners of a hook; what the last one answered, which is the module if it has the hook."""
        answer = None
        for listener in self.listeners[hook]:
            answer = self._call(hook, listener, *arguments)
        return answer

    def _call(self, hook: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function as this hook of Lightning's, by which it knows what may be logged there."""
        state = vars(self.module)  # past torch, which asks at each that is set whether it is a weight
        outside, state["_current_fx_name"] = state["_current_fx_name"], hook
        answer = function(*arguments)
        state["_current_fx_name"] = outside
        return answer

    def _look(self) -> None:
        """Find out what the steps are like."""
        trainer, module = self.trainer, self.trainer.lightning_module
        precision, optimizers = trainer.precision_plugin, trainer.optimizers
        self.module, self.context, self.logged = module, precision.forward_context, -1
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
            and not any(has_own(module, LightningModule, way) for way in OWN_WAYS)
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
            elif has_own(owner(hook), DataHooks, hook):  # Lightning's own give the batch back as it is
                self.batch_hooks.append((function, (0,)))
        self.takes = len(self._build_kwargs(OrderedDict(), None, 0))
        self.can_end = has_own(module, LightningModule, "on_train_batch_start")
        self.clips = has_own(module, LightningModule, "configure_gradient_clipping")


def single_source(data_fetcher: _DataFetcher) -> Iterator[Any] | None:
    """The iterator over the batches, if they are those of one loader and what is behind them need not be known."""
    combined = data_fetcher.combined_loader
    iterators = getattr(combined._iterator, "iterators", [])
    plain = type(data_fetcher) is _PrefetchDataFetcher and data_fetcher.length is not None and not data_fetcher.batches
    return iterators[0] if plain and len(iterators) == 1 and combined.flattened == [combined.iterables] else None


def is_idle(callback: Callback, hook: str) -> bool:
    """Whether a hook is that of a checkpoint which is written by epochs, and finds so in each step."""
    return (
        isinstance(callback, ModelCheckpoint)
        and hook == "on_train_batch_end"
        and not has_own(callback, ModelCheckpoint, hook)
        and not callback._every_n_train_steps
        and callback._train_time_interval is None
    )


def has_own(owner: Any, base: type, hook: str) -> bool:
    """Whether an object does something at a hook that its base class has as well."""
    own = getattr(owner, hook)
    return callable(own) and own != getattr(base, hook).__get__(owner)
