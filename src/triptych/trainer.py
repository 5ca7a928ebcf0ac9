"""The Trainer of a run, with its callbacks and loggers."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities.exceptions import SIGTERMException

from triptych.build import build, resolve


@contextmanager
def exit_codes(trainer: Trainer) -> Iterator[None]:
    """Turn interruptions into SystemExit with the usual codes, 130 after Ctrl-C and 143 after SIGTERM."""
    try:
        yield
    except SIGTERMException as error:
        raise SystemExit(143) from error
    except SystemExit as error:
        # Lightning's answer to Ctrl-C, after the callbacks have saved what they had.
        raise SystemExit(130 if trainer.state.status == TrainerStatus.INTERRUPTED else error.code) from error


def build_loggers(configs: dict[str, Any], directory: Path, first_step: int) -> list[Logger]:
    """The loggers of the config, writing into the run directory.

    Raises:
        ValueError: a logger's package is not installed.
    """
    loggers = []
    for name, config in (configs or {}).items():
        more: dict[str, Any] = {"save_dir": str(directory)}
        if issubclass(resolve(config["_target_"]), TensorBoardLogger) and first_step:
            more["purge_step"] = first_step
        try:
            loggers.append(build(config, **more))
        except ModuleNotFoundError as error:
            raise ValueError(
                f"logger={name} needs a package that is not installed ({error}): `make setup EXTRAS={name}` adds it"
            ) from error
    return loggers


def build_trainer(settings: dict[str, Any], directory: Path, loggers: list[Logger], validates: bool) -> Trainer:
    """The Trainer with its callbacks, those left out that are to come every 0 epochs or steps.

    Without validation nothing stops early and the last state is the best.
    """
    arguments = dict(settings["trainer"])
    validates = validates and arguments["limit_val_batches"] != 0
    if not validates:
        arguments["limit_val_batches"] = 0
    callbacks: list[Callback] = []
    for config in filter(None, settings["callbacks"].values()):
        if 0 in (config.get("every_n_epochs"), config.get("every_n_steps")):
            continue  # off; a callback that looks away still costs some microseconds a step
        target = resolve(config["_target_"])
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
        callbacks.append(build(config, **more))
    bar = arguments["enable_progress_bar"] and sys.stdout.isatty()
    arguments["enable_progress_bar"] = bar
    if bar:
        callbacks.append(RichProgressBar())
    try:
        return Trainer(**arguments, callbacks=callbacks, logger=loggers, default_root_dir=str(directory))
    except (MisconfigurationException, TypeError) as error:
        raise ValueError(f"trainer: {error} (trainer=cpu always works)") from error
