"""Build the Trainer of a run with its callbacks and loggers, and end it cleanly on Ctrl-C and SIGTERM."""

import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, LambdaCallback, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.trainer.states import TrainerFn, TrainerStatus
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import nn

from triptych.build import build, resolve
from triptych.checkpoint_io import AtomicCheckpointIO
from triptych.device import training_device
from triptych.direct_steps import HOOKS, has_own, use_direct_loop
from triptych.precision import choose_precision
from triptych.processes import launched_externally, world_size
from triptych.progress_bar import ProgressBar
from triptych.sharding import check_sharding, patch_sharding

log = logging.getLogger(__name__)


@contextmanager
def exit_codes(trainer: Trainer) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the run at a consistent state, as SystemExit with the usual codes, 130 and 143.

    The current step is finished first, and so is a validation, since the epoch counts only after it: ``LastCheckpoint``
    saves there. A test has no state worth saving and stops at once, as does everything on a second Ctrl-C.
    """
    interrupt = _Interrupt(trainer)
    watch = LambdaCallback(on_validation_start=interrupt.defer, on_validation_end=interrupt.deliver)
    trainer.callbacks.append(watch)  # type: ignore[attr-defined]
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except (SIGTERMException, KeyboardInterrupt) as error:
        raise SystemExit(interrupt.code) from error
    except SystemExit as error:
        # Lightning raises this on KeyboardInterrupt, once the callbacks' hooks have run.
        raise SystemExit(interrupt.code if trainer.state.status == TrainerStatus.INTERRUPTED else error.code) from error
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class _Interrupt:
    """Handler of SIGINT and SIGTERM; Lightning calls it after its own SIGTERM handler, which lets a step end first."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.code = 130
        self.first_signal_time: float | None = None
        self.in_validation = self.signal_pending = False
        # A sweep signals its jobs repeatedly, and has its own way to end those that do not react.
        self.is_standalone = signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def __call__(self, number: int, _: Any) -> None:
        now = time.monotonic()
        if self.first_signal_time is None:
            self.first_signal_time, self.code = now, 128 + number
            lightning_listens = signal.getsignal(signal.SIGTERM) is not self
            if not (lightning_listens and self.trainer.state.fn == TrainerFn.FITTING):
                raise KeyboardInterrupt
            if number == signal.SIGINT:
                signal.raise_signal(signal.SIGTERM)
            if self.in_validation:
                again = self.is_standalone and number == signal.SIGINT
                more = "; Ctrl-C once more stops at once" if again else ""
                log.info("Stopping after this validation%s.", more)
        elif self.is_standalone and number == signal.SIGINT and now - self.first_signal_time > 1:
            raise KeyboardInterrupt  # another Ctrl-C, not the same key held down
        if self.in_validation:
            self.defer()

    def defer(self, *_: Any) -> None:
        """Hide a signal from Lightning, which would abandon the validation and could not resume within it."""
        signals = self.trainer._signal_connector
        self.in_validation = True
        self.signal_pending = self.signal_pending or signals.received_sigterm
        signals.received_sigterm = False

    def deliver(self, *_: Any) -> None:
        """Pass the signal on to Lightning, now that the validation is over."""
        self.in_validation = False
        if self.signal_pending:
            self.trainer._signal_connector.received_sigterm = True


class NoProfiler(PassThroughProfiler):
    """A no-op profiler with one shared context manager; Lightning's own creates thirty of them a step."""

    nothing = nullcontext("")

    def profile(self, action_name: str) -> AbstractContextManager[str]:  # type: ignore[override]
        return self.nothing


def check_devices(arguments: dict[str, Any]) -> None:
    """Refuse device settings that would otherwise hang for ever or fail inside Lightning.

    Raises:
        ValueError: several nodes of which only this one was started, or sharding without a GPU.
    """
    nodes, strategy = arguments.get("num_nodes", 1), str(arguments.get("strategy", "auto"))
    if nodes > 1 and not (launched_externally() or "NODE_RANK" in os.environ):
        raise ValueError(
            f"trainer.num_nodes={nodes}: the run must be started on each machine, by torchrun or srun; see "
            "docs/clusters.md"
        )
    if strategy.startswith("fsdp") and not torch.cuda.is_available():
        raise ValueError(
            f"trainer.strategy={strategy}: sharding needs GPUs, and there is no CUDA device here; trainer=ddp "
            "trainer.accelerator=cpu trains with several processes on the CPU"
        )


def build_trainer(settings: dict[str, Any], directory: Path, loggers: list[Logger], validates: bool) -> Trainer:
    """Build the Trainer with its callbacks, except those that are to run every 0 epochs or steps.

    Without validation there is no early stopping, and the last state counts as the best.

    Raises:
        ValueError: a callback cannot be built, Lightning refuses the arguments, they do not match the devices or the
            processes started, or a compiler is missing.
    """
    arguments = dict(settings["trainer"])
    compiles = arguments.pop("compile", False)  # not an argument of Lightning's: see ``compiled``
    check_devices(arguments)
    arguments["precision"] = choose_precision(arguments["precision"], arguments["accelerator"])
    if arguments.get("deterministic") == "auto":
        arguments["deterministic"] = training_device(arguments["accelerator"]).type == "cpu"
    validates = validates and arguments["limit_val_batches"] != 0
    if not validates:
        arguments["limit_val_batches"] = 0
    callbacks = _build_callbacks(settings["callbacks"], directory, validates)
    if arguments.get("max_steps", -1) != -1:
        callbacks.append(LambdaCallback(on_train_batch_end=end_with_a_validation))
    arguments["profiler"] = arguments.get("profiler") or NoProfiler()
    bar = arguments["enable_progress_bar"] and sys.stdout.isatty()
    arguments["enable_progress_bar"] = bar
    if bar:
        callbacks.append(ProgressBar())
    try:
        trainer = Trainer(
            **arguments,
            callbacks=callbacks,
            logger=loggers,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=str(directory),
            use_distributed_sampler=False,  # it would repeat samples to pad the shards; see DistributedBatchSampler
        )
    except (MisconfigurationException, TypeError) as error:
        of_devices = re.search("accelerator|device|gpu|cuda", str(error), re.IGNORECASE)
        raise ValueError(f"trainer: {error}{' (trainer=cpu always works)' if of_devices else ''}") from error
    if not validates:
        trainer.limit_val_batches = 0  # which `overfit_batches` sets anew
    _check_processes(trainer)
    compilers = (os.environ.get("CXX", "g++"), "g++", "clang++", "cl")
    if compiles and trainer.strategy.root_device.type == "cpu" and not any(map(shutil.which, compilers)):
        raise ValueError("trainer.compile needs a C++ compiler on a CPU: install g++, or leave it false")
    use_direct_loop(trainer)
    if isinstance(trainer.strategy, FSDPStrategy):
        check_sharding(trainer, settings["optimizer"]["_target_"])
        patch_sharding(trainer.strategy)
    # With max_steps Lightning would take a checkpoint between two epochs for one in the middle of the earlier epoch.
    trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]
    return trainer


def _build_callbacks(configs: dict[str, Any], directory: Path, validates: bool) -> list[Callback]:
    """Build the configured callbacks, with the run's folders for those that take them."""
    callbacks: list[Callback] = []
    for config in filter(None, configs.values()):
        if 0 in (config.get("every_n_epochs"), config.get("every_n_steps")):
            continue  # disabled; even an idle callback costs some microseconds a step
        target = resolve(config["_target_"], (Callback,))
        if issubclass(target, EarlyStopping) and not validates:
            continue
        parameters = signature(target).parameters
        more: dict[str, Any] = {}
        if issubclass(target, ModelCheckpoint) and "monitor" in parameters and not validates:
            more["monitor"] = None
        if "dirpath" in parameters:
            more["dirpath"] = str(directory / "checkpoints")
        if "directory" in parameters:
            more["directory"] = str(directory)
        callbacks.append(build(config, kinds=(Callback,), **more))
    return callbacks


def _check_processes(trainer: Trainer) -> None:
    """Raise a ValueError if torchrun or SLURM launched another number of processes than the Trainer is to have."""
    if not launched_externally():
        return
    started = world_size()
    if started != trainer.world_size:
        raise ValueError(
            f"{started} processes were started, and trainer.devices and trainer.num_nodes make {trainer.world_size}: "
            "set trainer=ddp, trainer.num_nodes to the number of machines and trainer.devices to the processes on each"
        )


@contextmanager
def compiled(network: nn.Module, mode: bool | str) -> Iterator[None]:
    """Compile the network with torch.compile within this context; its parameters keep their names.

    Args:
        network: compiled in place, at its first batch.
        mode: False to leave it as it is, True for torch.compile's default mode, or the name of one of its modes.
    """
    if not mode:
        yield
        return
    network.compile(mode="default" if mode is True else str(mode))
    try:
        yield
    finally:
        network._compiled_call_impl = None


def end_with_a_validation(trainer: Trainer, *_: Any) -> None:
    """Validate after ``trainer.max_steps``, where Lightning leaves the steps since the last validation unmeasured.

    Early stopping and the best checkpoint would miss them, and without an earlier validation have no metric at all.
    """
    if trainer.global_step == trainer.max_steps:
        if trainer.check_val_every_n_epoch is not None:
            trainer.check_val_every_n_epoch = 1
        # They are meant to delay early stopping only.
        trainer.fit_loop.min_epochs = trainer.fit_loop.epoch_loop.min_steps = None
        trainer.should_stop = True


def disable_idle_hooks(trainer: Trainer) -> None:
    """Disable the per-step hooks that callbacks inherit as no-ops, which Lightning would call six times a step.

    Where Lightning runs the steps, a dozen callbacks would cost a small network a third of its step rate. Lightning
    skips a hook that is not callable.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for hook in HOOKS:
            if not has_own(callback, Callback, hook):
                setattr(callback, hook, None)
