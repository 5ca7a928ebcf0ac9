"""The training split, measured as the validation split is."""

from typing import Any

from lightning.pytorch import Trainer

from triptych.callbacks.measurement import Measurement, check_from_one, judged


class TrainingScore(Measurement):
    """Log loss and metrics of the training split in evaluation mode: ``train_eval/loss``, ``train_eval/rmse``, ...

    ``train/loss`` is no match for ``val/loss``: it is taken with augmentation and dropout, from weights that change
    during the epoch. Here samples are whole (no crops), nothing is augmented or dropped, and all samples meet the
    weights that validation meets. What is left between the two splits is what the network has learnt by heart.

    Args:
        every_n_epochs: see Measurement.
        samples: measured samples, spread evenly over the split; all where it has no more.
    """

    key = "training_score"

    def __init__(self, every_n_epochs: int, samples: int = 2000) -> None:
        super().__init__(every_n_epochs)
        check_from_one("training_score.samples", samples)
        self.samples = samples

    def measure(self, trainer: Trainer, model: Any) -> dict[str, Any]:
        batches = trainer.datamodule.evaluation_batches("train", self.samples)  # type: ignore[attr-defined]
        return judged(trainer, model, batches, "train_eval")
