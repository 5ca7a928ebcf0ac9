"""The validation split as another machine would have taken it."""

from typing import Any

from lightning.pytorch import Trainer

from triptych.callbacks.measurement import Measurement, judged


class ShiftedValidation(Measurement):
    """Log loss and metrics of the validation split under a shift: ``shifted/auroc``, ``shifted/accuracy``, ...

    The data set says what the shift is (``shifted_batches`` of the DataModule); it is the same at each measurement and
    in each run. A network that has learnt how the pictures of one hospital look, and not what is on them, loses here.

    Args:
        every_n_epochs: see Measurement.
    """

    key = "shifted_validation"
    of_validation = True

    def __init__(self, every_n_epochs: int) -> None:
        super().__init__(every_n_epochs)

    def measure(self, trainer: Trainer, model: Any) -> dict[str, Any]:
        return judged(trainer, model, trainer.datamodule.shifted_batches(), "shifted")  # type: ignore[attr-defined]
