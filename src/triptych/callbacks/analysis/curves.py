"""Bootstrap over groups: intervals of the accuracy, bands of curves (Efron 1979, Field and Welsh 2007)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

GRID = np.linspace(0, 1, 201)
"""False positive rates or recalls at which the replicates' curves are evaluated."""


@dataclass(frozen=True)
class Band:
    """A curve with the band that contains 95 % of its bootstrap replicates at each point.

    Attributes:
        x: false positive rates or recalls of the curve, from 0 (points,).
        y: true positive rates or precisions of the curve (points,).
        low: 2.5 % quantile of the replicates at each point of GRID.
        high: 97.5 % quantile, likewise.
        area: the area under the curve, or the average precision.
        area_low: 2.5 % quantile of the replicates' areas.
        area_high: 97.5 % quantile of the replicates' areas.
    """

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray
    area: float
    area_low: float
    area_high: float


def resampled(groups: Sequence[str] | None, count: int, seed: int) -> Iterator[np.ndarray]:
    """Yield bootstrap replicates without end, each as the number of times that each sample is drawn (count,).

    Args:
        groups: the group of each sample, drawn as a whole; None: every sample is its own group.
        count: number of samples.
        seed: random seed.
    """
    members = np.arange(count) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    total = members.max() + 1
    rng = np.random.default_rng(seed)
    while True:
        yield np.bincount(rng.integers(total, size=total), minlength=total)[members]


def bands(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: Sequence[str] | None = None,
    replicates: int = 200,
    seed: int = 0,
) -> tuple[Band, Band]:
    """The ROC curve and the precision-recall curve, with the bands of 95 % of the bootstrap replicates.

    Args:
        labels: 0 or 1 (N,), with both classes present.
        probabilities: of label 1 (N,).
        groups: the group of each sample, such as its patient, drawn as a whole (N); None: see ``resampled``.
        replicates: number of replicates, not counting those with a single class.
        seed: seed of the bootstrap.
    """
    drawn = (weights for weights in resampled(groups, len(labels), seed) if _has_both_classes(labels, weights))
    roc, recall = [], []
    for weights in islice(drawn, replicates):
        x, y, _ = roc_curve(labels, probabilities, sample_weight=weights)
        roc.append((np.interp(GRID, x, y), auc(x, y)))
        x, y = _precision(labels, probabilities, weights)
        # A step function: between two points no threshold exists, and the precision is that of the next point.
        steps = y[np.minimum(np.searchsorted(x, GRID), len(y) - 1)]
        recall.append((steps, average_precision_score(labels, probabilities, sample_weight=weights)))
    x, y, _ = roc_curve(labels, probabilities)
    return (
        _band(x, y, auc(x, y), roc),
        _band(*_precision(labels, probabilities, None), average_precision_score(labels, probabilities), recall),
    )


def accuracy_interval(
    right: np.ndarray, groups: Sequence[str] | None = None, replicates: int = 200, seed: int = 0
) -> tuple[float, float]:
    """The interval that contains the accuracies of 95 % of the bootstrap replicates.

    Args:
        right: whether each predicted label is correct (N,).
        groups: as for ``bands``.
        replicates: number of replicates.
        seed: seed of the bootstrap.
    """
    drawn = islice(resampled(groups, len(right), seed), replicates)
    low, high = np.quantile([np.average(right, weights=weights) for weights in drawn], (0.025, 0.975))
    return float(low), float(high)


def _has_both_classes(labels: np.ndarray, weights: np.ndarray) -> bool:
    return bool(0 < (labels * weights).sum() < weights.sum())


def _precision(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Recall, in ascending order, and precision."""
    precision, recall, _ = precision_recall_curve(labels, probabilities, sample_weight=weights)
    return recall[::-1], precision[::-1]


def _band(x: np.ndarray, y: np.ndarray, area: float, replicates: list[tuple[np.ndarray, float]]) -> Band:
    curves, areas = zip(*replicates, strict=True)
    low, high = np.quantile(curves, (0.025, 0.975), axis=0)
    area_low, area_high = np.quantile(areas, (0.025, 0.975))
    return Band(x, y, low, high, float(area), float(area_low), float(area_high))
