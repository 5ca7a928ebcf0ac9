"""Checks of a run before its first step, for mistakes that would otherwise surface after an epoch or at its end."""

import math
from collections.abc import Mapping
from typing import Any

from triptych.data.base import DataModule
from triptych.hint import did_you_mean
from triptych.models.base import Model


def check_before_training(model: Model, datamodule: DataModule[Any], settings: Mapping[str, Any]) -> None:
    """Find mistakes in the settings of a run, given its model and its data.

    Raises:
        ValueError: the optimizer's arguments are wrong, a monitor is never logged or its mode would select the worst
            value, the best checkpoint would not be that of the monitor or have another name than ``best``, or there
            would be no validation or no test.
    """
    model.make_optimizer()
    _check_monitors(model, settings)
    _check_checkpoint(settings)
    _check_epochs_and_batches(datamodule, settings)


def _check_monitors(model: Model, settings: Mapping[str, Any]) -> None:
    logged: dict[str, Any] = {"val/loss": model.val_loss, **dict(model.val_metrics.items(copy_state=False))}
    logged |= {f"train{name.removeprefix('val')}": metric for name, metric in logged.items()}
    watched = {"": settings}
    for name, callback in settings["callbacks"].items():
        own = callback.get("monitor") if isinstance(callback, dict) else None
        # Other prefixes are those of metrics that callbacks measure and log themselves.
        if isinstance(own, str) and own.startswith(("val/", "train/")):
            watched[f"callbacks.{name}."] = callback
    for prefix, chosen in watched.items():
        monitor, mode = chosen["monitor"], chosen.get("mode")
        if monitor not in logged:
            hint = did_you_mean(monitor, logged)
            raise ValueError(f"{prefix}monitor={monitor} is never logged: choose one of {', '.join(logged)}{hint}")
        larger = logged[monitor].higher_is_better  # None if the metric does not declare it
        right = "max" if larger else "min"
        if None not in (larger, mode) and mode != right:
            raise ValueError(
                f"{prefix}monitor={monitor} {prefix}mode={mode}: that would prefer the worst epoch; set "
                f"{prefix}mode={right}"
            )


def _check_checkpoint(settings: Mapping[str, Any]) -> None:
    checkpoint = settings["callbacks"].get("checkpoint")
    if not isinstance(checkpoint, dict):
        return
    if (name := checkpoint.get("filename", "best")) != "best":
        raise ValueError(
            f"callbacks.checkpoint.filename={name}: expected best, the name by which every command finds the "
            "checkpoint; for others, add a callback of your own"
        )
    own = checkpoint.get("monitor")
    if own not in (None, settings["monitor"]):
        raise ValueError(
            f"callbacks.checkpoint.monitor={own}: best.ckpt is the best epoch by monitor={settings['monitor']}, which "
            f"the results name; set monitor={own} instead, or add a callback of your own"
        )


def _check_epochs_and_batches(datamodule: DataModule[Any], settings: Mapping[str, Any]) -> None:
    trainer, sizes = settings["trainer"], datamodule.description.sizes
    every, epochs = trainer.get("check_val_every_n_epoch"), trainer["max_epochs"]
    if sizes["val"] and trainer["limit_val_batches"] and every and epochs and 0 < epochs < every:
        raise ValueError(
            f"trainer.check_val_every_n_epoch={every}: the run has {epochs} epochs, and no validation would choose "
            "the best one; set a smaller number"
        )
    limit = trainer.get("limit_test_batches", 1.0)
    batches = math.ceil(sizes["test"] / datamodule.eval_batch_size)
    if settings["test"] and batches and isinstance(limit, float) and 0 < limit < 1 and int(limit * batches) == 0:
        raise ValueError(
            f"trainer.limit_test_batches={limit}: less than one of the {batches} batches of the test; give a larger "
            "share or a whole number, or test=false"
        )
