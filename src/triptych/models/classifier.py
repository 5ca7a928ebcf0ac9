"""X-ray in, probability out."""

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
    """Two classes from images, float32 (N, 1, side, side) in [0, 1]; the second class is the positive one.

    Each validation chooses a temperature and a bias for the logits, and a threshold (see ``Calibration``), which are
    logged and kept in the checkpoint. Its own metrics are then taken with them, as those of the test are and what
    ``predict`` answers; losses are of the logits as they are, and so are the metrics of the training split, whose
    weights change meanwhile. Without validation (``data.split=all``) temperature and bias stay at 1 and 0, and the
    threshold where it is told to be, or at 0.5.

    Args:
        network: an image network that gives (N, 1) logits.
        members: how many of it train side by side, each by a loss of its own; the mean of their logits decides.
        class_names: names of the two classes.
        class_counts: samples of each in the training split.
        drawn_evenly: whether an epoch shows as many of each class all the same, which leaves nothing to class_weights.
        standardize: give each image mean 0 and standard deviation 1 first; ``local``: the surroundings of each pixel.
        class_weights: ``balanced`` weighs each class by the inverse of its count, ``none`` weighs all alike.
        label_smoothing: how far targets are moved towards a half (Szegedy et al. 2016).
        calibrate: whether to choose temperature and bias; without, they stay at 1 and 0.
        prior: share of positives that the calibrated probabilities are for; None: that of the validation split.
        threshold: ``youden`` (see ``Calibration``), or the calibrated probability to call positive above.
        others: see Model and ``conf/model/_xrays.yaml``.
    """

    CHANGEABLE = Model.CHANGEABLE | {"label_smoothing"}

    temperature: Tensor
    """What logits are divided by; a buffer."""
    bias: Tensor
    """What is added to them then; a buffer."""
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
        # Channels last: a third faster in convolutions on CPUs, more on GPUs with tensor cores.
        self.network.to(memory_format=torch.channels_last)
        self.standardize = standardize
        self.label_smoothing = label_smoothing
        counts = torch.tensor(class_counts, dtype=torch.float32)
        balanced = counts.sum() / (len(counts) * counts)
        weighs = class_weights == "balanced" and not drawn_evenly
        self.register_buffer("weights", balanced if weighs else torch.ones_like(balanced))
        self.register_buffer("temperature", torch.tensor(1.0))
        # Class weights, as balanced sampling does, train for another share of positives than there is: all logits are
        # shifted by about the log of the weights' ratio. No temperature takes a shift back, a bias does.
        self.register_buffer("bias", torch.tensor(0.0))
        self.register_buffer("threshold", torch.tensor(0.5 if threshold == "youden" else float(threshold)))
        self.calibration = Calibration(prior, threshold, scaled=calibrate)

    def metrics_of_split(self) -> MetricCollection:
        # To look whether what comes is valid, some would make the host wait for a GPU.
        return MetricCollection(
            {
                "auroc": AUROC(validate_args=False),
                "accuracy": BinaryAccuracy(validate_args=False),
                "sensitivity": BinaryRecall(validate_args=False, zero_division=nan),
                "specificity": Specificity(validate_args=False),
                "brier": MeanSquaredError(),
                "ece": BinaryCalibrationError(n_bins=15, validate_args=False),
            },
            # Groups would be formed by comparing states, which a batch may make equal by chance.
            compute_groups=False,
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, side, side) -> logits (N, members)."""
        images = images.to(self.dtype)  # double under 64-true
        if self.standardize:
            images = locally_standardized(images) if self.standardize == "local" else standardized(images)
        return self.network(images)

    def logits(self, images: Tensor) -> Tensor:
        """(N, 1, side, side) -> logits (N,), the mean over the members."""
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
            self._judge(metrics, logits, targets)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits (N,) -> calibrated probabilities (N,) of the positive class."""
        return (logits.float() / self.temperature + self.bias).sigmoid()

    def _judge(self, metrics: MetricCollection, logits: Tensor, targets: Tensor) -> None:
        """Feed logits (N,) to the metrics, calibrated and by the threshold, as ``predict`` takes them."""
        for metric in metrics.values():
            if hasattr(metric, "threshold"):
                metric.threshold = self.threshold  # a tensor, so that no host waits for a GPU
        metrics.update(self.probabilities(logits), targets)

    def _log_metrics(self, split: str, samples: int) -> None:
        # Those of a validation have seen nothing before its end.
        if split != "val":
            super()._log_metrics(split, samples)

    def on_validation_epoch_end(self) -> None:
        chosen = self.calibration.compute()
        for name, value in chosen.items():
            getattr(self, name).copy_(value)
        logits, targets = dim_zero_cat(self.calibration.logits), dim_zero_cat(self.calibration.targets)
        self.calibration.reset()
        self._judge(self.val_metrics, logits, targets)
        super()._log_metrics("val", len(targets))
        for name, value in chosen.items():
            self.log(f"val/{name}", value, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Where weights are averaged these stand beside the mean, which was validated, and not beside what is here.
        for name in ("temperature", "bias", "threshold"):
            checkpoint["state_dict"][name] = getattr(self, name)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        # In a checkpoint from before there were these, the threshold is one for logits as they are.
        checkpoint["state_dict"].setdefault("temperature", torch.tensor(1.0))
        checkpoint["state_dict"].setdefault("bias", torch.tensor(0.0))

    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        """Calibrated ``probability`` of the positive class (N,), and ``label`` (N,), 0 or 1, by the threshold."""
        probabilities = self.probabilities(self.logits(inputs))
        return {"probability": probabilities, "label": (probabilities > self.threshold).long()}


def _mean_of_members(outputs: Tensor) -> Tensor:
    """Logits (N, members) -> (N,), at least in single precision: bfloat16 would round the mean of several again."""
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32)).mean(dim=1)
