"""Validation under distribution shift, as if another hospital's machine had taken the images."""

from typing import Any

from lightning.pytorch import Trainer

from triptych.callbacks.measurement import Measurement, evaluate_batches


class ShiftedValidation(Measurement):
    """Log loss and metrics of the validation split under a shift: ``shifted/auroc``, ``shifted/accuracy``, ...

    The shift is defined by the data set (``shifted_batches`` of the DataModule) and is the same at each measurement and
    in each run. A network that has learnt what the images of one hospital look like, and not what they show, does worse
    here.

    Args:
        every_n_epochs: see Measurement.
    """

    key = "shifted_validation"
    of_validation = True

    def __init__(self, every_n_epochs: int) -> None:
        super().__init__(every_n_epochs)

    def measure(self, trainer: Trainer, model: Any) -> dict[str, Any]:
        return evaluate_batches(trainer, model, trainer.datamodule.shifted_batches(), "shifted")  # type: ignore[attr-defined]
