"""The binary image classifier: X-rays in, calibrated probabilities out."""

from math import nan
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanSquaredError, MetricCollection
from torchmetrics.classification import BinaryAccuracy, BinaryCalibrationError, BinaryRecall
from torchmetrics.utilities import dim_zero_cat

from triptych.models.base import Model
from triptych.models.calibration import Calibration
from triptych.models.metrics import AUROC, Specificity
from triptych.networks.contrast import locally_standardized, standardized


class Classifier(Model):
    """Binary classifier of images, float32 (N, 1, side, side) in [0, 1]; the second class is the positive one.

    Each validation chooses a temperature and a bias for the logits, and a threshold (see ``Calibration``), which are
    logged and stored in the checkpoint. They apply to the metrics of that validation and of the test, and to
    ``predict``. Losses use the uncalibrated logits, and so do the metrics of the training split, as the weights change
    during an epoch. Without validation (``data.split=all``) temperature and bias stay at 1 and 0, and the threshold at
    the configured value, or at 0.5 for ``youden``.

    Args:
        network: an image network that returns logits (N, 1).
        members: number of networks trained side by side, each by its own loss; the mean of their logits decides.
        class_names: names of the two classes.
        class_counts: number of training samples of each class.
        drawn_evenly: whether an epoch already shows both classes equally often; ``class_weights`` then has no effect.
        standardize: first give each image mean 0 and standard deviation 1; ``local``: the surroundings of each pixel.
        class_weights: ``balanced`` weights each class by the inverse of its count, ``none`` weights both equally.
        label_smoothing: how far targets are moved towards 0.5 (Szegedy et al. 2016).
        calibrate: whether to choose temperature and bias; if not, they stay at 1 and 0.
        prior: share of positives that the probabilities are calibrated for; None: that of the validation split.
        threshold: ``youden`` (see ``Calibration``), or the calibrated probability above which a sample is positive.
        others: see Model and ``conf/model/_xrays.yaml``.

    Raises:
        ValueError: an argument is out of its range, or a ``prior`` is given without ``calibrate``.
    """

    CHANGEABLE = Model.CHANGEABLE | {"label_smoothing"}

    temperature: Tensor
    """Divisor of the logits; a buffer."""
    bias: Tensor
    """Added to the logits after the division; a buffer."""
    threshold: Tensor
    """Calibrated probability above which a sample is called positive; a buffer."""
    weights: Tensor
    """Weight of each class in the loss; a buffer."""

    def __init__(
        self,
        network: dict[str, Any],
        optimizer: dict[str, Any],
        scheduler: dict[str, Any],
        class_names: list[str],
        class_counts: list[int],
        drawn_evenly: bool = False,
        monitor: str | None = None,
        activation: str = "relu",
        norm: str = "batch",
        dropout: float = 0.0,
        padding: str = "same",
        l1: float = 0.0,
        weight_decay: float = 0.0,
        standardize: bool | str = True,
        class_weights: str = "balanced",
        label_smoothing: float = 0.0,
        calibrate: bool = True,
        prior: float | None = None,
        threshold: str | float = "youden",
        members: int = 1,
    ) -> None:
        if class_weights not in ("none", "balanced"):
            raise ValueError(f"model.class_weights={class_weights}: choose none or balanced")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"model.label_smoothing={label_smoothing}: expected a number from 0 to below 1")
        if standardize not in (True, False, "local"):
            raise ValueError(f"model.standardize={standardize}: choose true, false or local")
        if prior is not None and not 0 < prior < 1:
            raise ValueError(f"model.prior={prior}: expected null, or a number above 0 and below 1")
        if prior is not None and not calibrate:
            wanted = "set model.calibrate=true or model.prior=null"
            raise ValueError(f"model.prior={prior} is for calibrated probabilities: {wanted}")
        if threshold != "youden" and not (isinstance(threshold, int | float) and 0 <= threshold <= 1):
            raise ValueError(f"model.threshold={threshold}: expected youden, or a number from 0 to 1")
        knobs = {"activation": activation, "norm": norm, "dropout": dropout, "padding": padding}
        super().__init__(network, optimizer, scheduler, knobs, monitor, l1, weight_decay, members)
        self.save_hyperparameters()
        # With channels last, convolutions are a third faster on CPUs, and more on GPUs with tensor cores.
        self.network.to(memory_format=torch.channels_last)
        self.standardize = standardize
        self.label_smoothing = label_smoothing
        counts = torch.tensor(class_counts, dtype=torch.float32)
        balanced = counts.sum() / (len(counts) * counts)
        weighs = class_weights == "balanced" and not drawn_evenly
        self.register_buffer("weights", balanced if weighs else torch.ones_like(balanced))
        self.register_buffer("temperature", torch.tensor(1.0))
        # Like balanced sampling, class weights train for another share of positives than the data have, which shifts
        # all logits by about the log of the weights' ratio. A bias can undo the shift, a temperature cannot.
        self.register_buffer("bias", torch.tensor(0.0))
        self.register_buffer("threshold", torch.tensor(0.5 if threshold == "youden" else float(threshold)))
        self.calibration = Calibration(prior, threshold, scaled=calibrate)

    def metrics_of_split(self) -> MetricCollection:
        # Validating the arguments would make the host wait for the GPU in some of them.
        return MetricCollection(
            {
                "auroc": AUROC(validate_args=False),
                "accuracy": BinaryAccuracy(validate_args=False),
                "sensitivity": BinaryRecall(validate_args=False, zero_division=nan),
                "specificity": Specificity(validate_args=False),
                "brier": MeanSquaredError(),
                "ece": BinaryCalibrationError(n_bins=15, validate_args=False),
            },
            # Compute groups are formed by comparing states, which may be equal by chance after one batch.
            compute_groups=False,
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, side, side) -> logits (N, members)."""
        images = images.to(self.dtype)  # float64 under trainer.precision=64-true
        if self.standardize:
            images = locally_standardized(images) if self.standardize == "local" else standardized(images)
        return self.network(images)

    def logits(self, images: Tensor) -> Tensor:
        """(N, 1, side, side) -> uncalibrated logits (N,), the mean over the members."""
        return _mean_of_members(self(images))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        weights = self.weights[targets][:, None]
        return F.binary_cross_entropy_with_logits(outputs, smooth[:, None].expand_as(outputs), weight=weights)

    def update_metrics(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> None:
        logits = _mean_of_members(outputs)
        if metrics is self.val_metrics:
            self.calibration.update(logits, targets)
        elif metrics is self.train_metrics:
            metrics.update(logits.sigmoid(), targets)
        else:
            self._update_calibrated(metrics, logits, targets)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits (N,) -> calibrated probabilities (N,) of the positive class."""
        return (logits.float() / self.temperature + self.bias).sigmoid()

    def _update_calibrated(self, metrics: MetricCollection, logits: Tensor, targets: Tensor) -> None:
        """Update the metrics with logits (N,), calibrated and thresholded as in ``predict``."""
        for metric in metrics.values():
            if hasattr(metric, "threshold"):
                metric.threshold = self.threshold  # kept a tensor, so that the host does not wait for the GPU
        metrics.update(self.probabilities(logits), targets)

    def _log_metrics(self, split: str, samples: int) -> None:
        # Validation metrics are updated only in `on_validation_epoch_end`, once the calibration is known.
        if split != "val":
            super()._log_metrics(split, samples)

    def on_validation_epoch_end(self) -> None:
        chosen = self.calibration.compute()
        for name, value in chosen.items():
            getattr(self, name).copy_(value)
        logits, targets = dim_zero_cat(self.calibration.logits), dim_zero_cat(self.calibration.targets)
        self.calibration.reset()
        self._update_calibrated(self.val_metrics, logits, targets)
        super()._log_metrics("val", len(targets))
        for name, value in chosen.items():
            self.log(f"val/{name}", value, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # With weight averaging, `state_dict` is the average, which was validated; what validation chose is stored here.
        for name in ("temperature", "bias", "threshold"):
            checkpoint["state_dict"][name] = getattr(self, name)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        # Older checkpoints lack these buffers; their threshold is meant for uncalibrated logits.
        checkpoint["state_dict"].setdefault("temperature", torch.tensor(1.0))
        checkpoint["state_dict"].setdefault("bias", torch.tensor(0.0))

    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return the calibrated ``probability`` of the positive class (N,) and the ``label`` (N,), 0 or 1."""
        probabilities = self.probabilities(self.logits(inputs))
        return {"probability": probabilities, "label": (probabilities > self.threshold).long()}


def _mean_of_members(outputs: Tensor) -> Tensor:
    """Logits (N, members) -> (N,), at least in float32: bfloat16 would round the mean of several once more."""
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32)).mean(dim=1)
