"""Learning-rate schedules: PyTorch's schedulers, with arguments that depend on the length of the run filled in."""

import math
from typing import Any

from lightning.pytorch import Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from triptych.build import build


def interval(config: dict[str, Any]) -> str:
    """The unit by which the schedule advances: ``step``, or by default ``epoch``."""
    return str(config.get("interval", "epoch"))


def make_scheduler(config: dict[str, Any], optimizer: Optimizer, trainer: Trainer) -> LRScheduler:
    """Build the configured scheduler in its initial state, with ``auto`` filled in from the run.

    Raises:
        ValueError: the schedule depends on the length of a run that has no end, or ends before the run.
    """
    settings = {key: value for key, value in config.items() if key != "interval"}
    given = settings.get("total_steps")
    if isinstance(given, int) and given < (steps := run_length(config, trainer)):
        raise ValueError(f"scheduler.total_steps={given}: the run has {steps}; set as many at least, or auto")
    if "auto" in settings.values():
        steps = run_length(config, trainer)
        # A one-cycle schedule warms up for at least one step; a run of very few steps sees only its beginning.
        cycle = max(steps, math.ceil(2 / settings.get("pct_start", 1)))
        filled = {"T_max": steps, "total_steps": cycle, "max_lr": optimizer.defaults["lr"]}
        settings = {key: filled.get(key, value) if value == "auto" else value for key, value in settings.items()}
    return build(settings, optimizer, kinds=(LRScheduler,))


def run_length(config: dict[str, Any], trainer: Trainer) -> int:
    """The length of the run in steps or epochs, whichever the schedule counts.

    Raises:
        ValueError: the run has no end.
    """
    length: float = trainer.estimated_stepping_batches  # loads the data if need be
    if interval(config) == "epoch":
        epochs, steps, last = trainer.max_epochs, steps_an_epoch(trainer), trainer.max_steps
        length = math.inf if epochs in (None, -1) else int(epochs)
        if last != -1 and steps != math.inf:
            length = min(length, math.ceil(last / steps))
    if length in (-1, math.inf):
        raise ValueError(
            "this schedule ends with the run, and the run has no end: set trainer.max_epochs, or scheduler=constant"
        )
    return int(length)


def steps_an_epoch(trainer: Trainer) -> float:
    """Optimizer steps per epoch, the last of which may have fewer batches; infinite for data of unknown length."""
    steps = trainer.num_training_batches / trainer.accumulate_grad_batches
    return steps if steps == math.inf else math.ceil(steps)


def was_validated(trainer: Trainer) -> bool:
    """Whether the epoch that ends had a validation: without one, a plateau scheduler has nothing to follow."""
    if trainer.check_val_every_n_epoch is not None:
        return (trainer.current_epoch + 1) % trainer.check_val_every_n_epoch == 0
    batches, every = trainer.fit_loop.epoch_loop.batch_progress, trainer.val_check_batch
    before = batches.total.ready - batches.current.ready
    return every is None or batches.total.ready // every > before // every  # None: validated by wall-clock time
