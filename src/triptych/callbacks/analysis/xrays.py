"""Error analysis of the X-ray classifier: confusion, ROC and calibration, confident errors, Grad-CAM."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from matplotlib.figure import Figure
from torch import Tensor

from triptych.callbacks.analysis import xray_plots as plots
from triptych.callbacks.analysis.base import Analysis, batches_of_split
from triptych.callbacks.analysis.curves import Band, accuracy_interval, bands
from triptych.callbacks.analysis.gradcam import grad_cam
from triptych.callbacks.measurement import check_at_least_one


@dataclass(frozen=True)
class Predictions:
    """The predictions for the test split.

    Attributes:
        labels: 0 or 1 (N,).
        probabilities: of label 1 (N,).
        predicted: 0 or 1, by the model's threshold (N,).
        groups: the patient of each X-ray; None if unknown.
        curves: ROC and precision-recall; None if a class is missing or a probability is not finite.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
    groups: Sequence[str] | None
    curves: tuple[Band, Band] | None


class XrayAnalysis(Analysis):
    """Analyse the test X-rays: confusion matrix, curves, calibration, the most confident errors, Grad-CAM.

    Besides the test's metrics, it logs ``test/auroc_low``, ``test/auroc_high``, ``test/accuracy_low`` and
    ``test/accuracy_high``, between which 95 % of the bootstrap replicates lie. Labels are predicted with the threshold
    of the model, chosen on the validation split unless configured. Curves, intervals and bands need both classes;
    Grad-CAM needs a network with convolutions.

    Args:
        directory: the run directory.
        enabled: see Analysis.
        errors: number of the most confident errors shown.
        maps: number of X-rays of each outcome (right or wrong, of either class) shown with Grad-CAM.
        replicates: number of bootstrap replicates, over patients if known, for the curves' bands and the intervals.
    """

    def __init__(
        self, directory: str, enabled: bool = True, errors: int = 20, maps: int = 2, replicates: int = 200
    ) -> None:
        super().__init__(directory, enabled)
        for name, value in (("errors", errors), ("maps", maps), ("replicates", replicates)):
            check_at_least_one(f"analysis.{name}", value)
        self.errors = errors
        self.maps = maps
        self.replicates = replicates

    def compute_predictions(self, trainer: Trainer, model: Any) -> Predictions:
        found, labels = super().compute_predictions(trainer, model)
        probabilities = found["probability"]
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        groups = data.groups(data.samples)
        if groups is not None:
            groups = [groups[row] for row in data.split.test[: len(labels)]]
        curves = None
        if len(np.unique(labels)) == 2 and np.isfinite(probabilities).all():
            curves = bands(labels, probabilities, groups, self.replicates)
        return Predictions(labels, probabilities, found["label"].astype(int), groups, curves)

    def measure(self, predictions: Predictions) -> dict[str, float]:
        if predictions.curves is None:
            return {}
        roc, _ = predictions.curves
        low, high = accuracy_interval(predictions.predicted == predictions.labels, predictions.groups, self.replicates)
        return {
            "test/auroc_low": roc.area_low,
            "test/auroc_high": roc.area_high,
            "test/accuracy_low": low,
            "test/accuracy_high": high,
        }

    def figures(self, trainer: Trainer, model: Any, predictions: Predictions) -> Iterator[tuple[str, Figure]]:
        labels, probabilities, predicted = predictions.labels, predictions.probabilities, predictions.predicted
        if not np.isfinite(probabilities).all():
            return  # the network diverged, as its metrics show
        names: list[str] = model.hparams["class_names"]
        threshold = float(model.threshold)

        yield "confusion", plots.confusion(labels, predicted, names, threshold)
        if predictions.curves is not None:
            roc, recall = predictions.curves
            unit = "images" if predictions.groups is None else "patients"
            point = operating_point(labels, predicted)
            yield "curves", plots.curves(roc, recall, point, float(labels.mean()), names[1], unit)
        yield "calibration", plots.calibration(labels, probabilities, names[1])

        worst = most_confident_errors(labels, probabilities, predicted, self.errors)
        files = trainer.datamodule.sample_names(worst, "test")  # type: ignore[attr-defined]
        wrong = int((predicted != labels).sum())
        images = select_images(trainer, worst)
        shown = images.numpy(), files, labels[worst], probabilities[worst]
        yield "errors", plots.errors(*shown, names, wrong, threshold)

        rows = rows_of_each_outcome(labels, probabilities, predicted, self.maps)
        images = select_images(trainer, rows)
        given = trainer.precision_plugin.convert_input(images[:, None].to(model.device))
        maps = grad_cam(model.logits, model.members, given)
        if maps is not None:
            answered = probabilities[rows], predicted[rows]
            yield "grad-cam", plots.grad_cam(images.numpy(), maps.numpy(), labels[rows], *answered, names)


def operating_point(labels: np.ndarray, predicted: np.ndarray) -> tuple[float, float, float]:
    """False positive rate, recall and precision of predicted labels (N,), 0 or 1; NaN where undefined."""
    hits = ((labels == 1) & (predicted == 1)).sum()
    with np.errstate(invalid="ignore"):
        false_positives = ((labels == 0) & (predicted == 1)).sum() / (labels == 0).sum()
        return float(false_positives), float(hits / (labels == 1).sum()), float(hits / (predicted == 1).sum())


def most_confident_errors(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, count: int
) -> np.ndarray:
    """At most ``count`` rows with a wrong label, in ascending order of the probability of their true class."""
    truth = np.where(labels == 1, probabilities, 1 - probabilities)
    order = np.argsort(truth, kind="stable")
    return order[(predicted != labels)[order]][:count]


def rows_of_each_outcome(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, count: int
) -> np.ndarray:
    """The most confident rows of each outcome, at most ``count`` each.

    In the order true positives, false negatives, true negatives, false positives.
    """
    rows: list[int] = []
    for label, predicted_label in ((1, 1), (1, 0), (0, 0), (0, 1)):
        order = np.argsort(-probabilities if predicted_label else probabilities, kind="stable")
        rows += order[((labels == label) & (predicted == predicted_label))[order]][:count].tolist()
    return np.array(rows, int)


def select_images(trainer: Trainer, rows: Sequence[int] | np.ndarray) -> Tensor:
    """The test images with these indices, float32 (len(rows), height, width), in [0, 1]; no others stay in memory."""
    found: dict[int, Tensor] = {}
    start = 0
    for images, _ in batches_of_split(trainer, "test"):
        found |= {row: images[row - start, 0] for row in rows if start <= row < start + len(images)}
        start += len(images)
    return torch.stack([found[row] for row in rows]) if len(rows) else torch.empty(0, 1, 1)
