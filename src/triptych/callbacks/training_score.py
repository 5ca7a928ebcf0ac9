"""Evaluate the training split in the same way as the validation split, to show overfitting."""

from typing import Any

from lightning.pytorch import Trainer

from triptych.callbacks.measurement import Measurement, check_at_least_one, evaluate_batches


class TrainingScore(Measurement):
    """Log loss and metrics of the training split in evaluation mode: ``train_eval/loss``, ``train_eval/rmse``, ...

    ``train/loss`` cannot be compared with ``val/loss``: it is measured with augmentation and dropout, and with weights
    that change during the epoch. Here samples are whole (no crops), without augmentation or dropout, and all see the
    same weights as in validation. The remaining gap between the two splits is what the network has memorised.

    Args:
        every_n_epochs: see Measurement.
        samples: number of samples measured, spread evenly over the split; all if it has fewer.
    """

    key = "training_score"

    def __init__(self, every_n_epochs: int, samples: int = 2000) -> None:
        super().__init__(every_n_epochs)
        check_at_least_one("training_score.samples", samples)
        self.samples = samples

    def measure(self, trainer: Trainer, model: Any) -> dict[str, Any]:
        batches = trainer.datamodule.evaluation_batches("train", self.samples)  # type: ignore[attr-defined]
        return evaluate_batches(trainer, model, batches, "train_eval")
