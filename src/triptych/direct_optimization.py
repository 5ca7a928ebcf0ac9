"""An optimizer's step at the price that a small network can pay."""

from collections import OrderedDict
from functools import lru_cache
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.optimization.automatic import Closure, _AutomaticOptimization
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.trainer.call import _call_callback_hooks, _call_lightning_module_hook, _call_strategy_hook
from torch import Tensor
from torch.optim import LBFGS, Optimizer

HOOKS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
"""Hooks of a callback or a module that are called between a batch's start and its end."""
OWN_WAYS = ("optimizer_step", "optimizer_zero_grad", "backward")
"""By which a module can replace a part of the step."""
PRECISIONS = (Precision, DoublePrecision, HalfPrecision, MixedPrecision)
"""Those that leave the step as it is, but for a scaled loss."""
OPTIMIZERS = ("torch.optim.", f"{__package__}.optimizers")
"""Modules of optimizers that need no closure, but for LBFGS; others may, whatever they declare."""


def write_out_steps(trainer: Trainer) -> None:
    """Let a Trainer's steps be made by DirectOptimization.

    What ``training_step`` takes is found out once: Lightning looks it up in each step.
    """
    loop = trainer.fit_loop.epoch_loop
    loop.automatic_optimization = DirectOptimization(trainer)
    whole = loop._build_kwargs

    @lru_cache(maxsize=1)
    def names(step: Any) -> tuple[str, ...]:
        return tuple(whole(OrderedDict(), None, 0))

    def arguments(kwargs: OrderedDict[str, Any], batch: Any, batch_idx: int) -> OrderedDict[str, Any]:
        known = {"batch": batch, "batch_idx": batch_idx}
        return OrderedDict([(name, known[name]) for name in names(trainer.lightning_module.training_step)])

    loop._build_kwargs = arguments  # type: ignore[method-assign]


class DirectOptimization(_AutomaticOptimization):
    """Lightning's automatic optimization, written out.

    Lightning hands the training step to the optimizer, within four closures, and looks through all callbacks for each
    of the hooks. Here the same things follow each other, and a hook is called where somebody has one. What is not the
    plain case is left to Lightning: several processes, accumulated gradients, a scaled loss, an optimizer that needs a
    closure or is unknown, a module that replaces a part of the step, a profiler that times the parts.
    """

    direct: bool = False
    """Whether steps are the plain case."""
    heard: set[str]
    """Those of HOOKS that somebody has."""
    clips: bool = False
    """Whether the module has a clipping of its own."""
    about: tuple[Any, Any] = (None, None)
    """The optimizer and the callbacks of which that is so."""

    def run(self, optimizer: Optimizer, batch_idx: int, kwargs: OrderedDict[str, Any]) -> dict[str, Any]:
        trainer, progress = self.trainer, self.optim_progress.optimizer
        callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]
        if self.about[0] is not optimizer or self.about[1] is not callbacks:
            self.about = (optimizer, callbacks)
            self._look(optimizer, callbacks)
        if not self.direct or self._skip_backward or trainer.accumulate_grad_batches != 1:
            return super().run(optimizer, batch_idx, kwargs)
        progress.step.increment_ready()
        output = _call_strategy_hook(trainer, "training_step", *kwargs.values())
        loss, more = (output, {}) if isinstance(output, Tensor) else self._unpacked(output)
        progress.zero_grad.increment_ready()
        self._tell("on_before_zero_grad", optimizer)
        progress.zero_grad.increment_started()
        optimizer.zero_grad()
        progress.zero_grad.increment_completed()
        if loss is None:
            Closure.warning_cache.warn("training_step gave None instead of a loss: its batch is skipped")
        else:
            self._tell("on_before_backward", loss)
            loss.backward()
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
        optimizer.step()
        progress.step.increment_completed()
        # A copy, for what is kept of it must not change with the next step.
        return {} if loss is None else {"loss": loss.detach().clone(), **more}

    def _unpacked(self, output: Any) -> tuple[Tensor | None, dict[str, Any]]:
        """The loss, None for a batch to be skipped, and what else a training step gave; Lightning refuses the rest."""
        result = self.output_result_cls.from_training_step_output(output)
        return result.closure_loss, result.extra

    def _tell(self, hook: str, *arguments: Any) -> None:
        if hook in self.heard:
            _call_callback_hooks(self.trainer, hook, *arguments)
            _call_lightning_module_hook(self.trainer, hook, *arguments)

    def _look(self, optimizer: Optimizer, callbacks: list[Callback]) -> None:
        """Find out what the steps of an optimizer are like."""
        trainer = self.trainer
        module, precision = trainer.lightning_module, trainer.precision_plugin
        self.direct = (
            type(trainer.strategy) is SingleDeviceStrategy
            and type(precision) in PRECISIONS
            and getattr(precision, "scaler", None) is None
            and isinstance(trainer.profiler, PassThroughProfiler)  # type: ignore[attr-defined]
            and type(optimizer).__module__.startswith(OPTIMIZERS)
            and type(optimizer) is not LBFGS
            and not any(_has_own(module, way) for way in OWN_WAYS)
        )
        self.heard = {
            hook
            for hook in HOOKS
            if _has_own(module, hook) or any(callable(getattr(callback, hook)) for callback in callbacks)
        }
        self.clips = _has_own(module, "configure_gradient_clipping")


def _has_own(module: LightningModule, name: str) -> bool:
    return getattr(type(module), name) is not getattr(LightningModule, name) or name in vars(module)
