"""How sure an accuracy or a curve is: bootstrap over groups (Efron 1979, Field and Welsh 2007)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

GRID = np.linspace(0, 1, 201)
"""False positive rates and recalls at which curves are compared."""


@dataclass(frozen=True)
class Band:
    """A curve and the 95 % of its bootstrap replicates.

    Attributes:
        x: false positive rates or recalls of the curve, from 0 (points,).
        y: true positive rates or precisions of the curve (points,).
        low: 2.5 % of the replicates lie below, at each of GRID.
        high: 2.5 % lie above.
        area: the area under the curve, or the average precision.
        area_low: 2.5 % of the replicates' areas lie below.
        area_high: 2.5 % lie above.
    """

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray
    area: float
    area_low: float
    area_high: float


def resampled(groups: Sequence[str] | None, count: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of ``count`` samples is drawn (count,), in one bootstrap replicate after the other, without end.

    Args:
        groups: the group of each sample, drawn as a whole; None: each is one by itself.
        count: of samples.
        seed: of the drawing.
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
    """The ROC and the precision-recall curve, with what 95 % of the bootstrap replicates stay within.

    Args:
        labels: 0 or 1 (N,), both of them there.
        probabilities: of label 1 (N,).
        groups: of samples that are drawn together, such as a patient's; N or None.
        replicates: of the bootstrap, without those that have drawn a single class.
        seed: of the bootstrap.
    """
    drawn = (weights for weights in resampled(groups, len(labels), seed) if _both(labels, weights))
    roc, recall = [], []
    for weights in islice(drawn, replicates):
        x, y, _ = roc_curve(labels, probabilities, sample_weight=weights)
        roc.append((np.interp(GRID, x, y), auc(x, y)))
        x, y = _precision(labels, probabilities, weights)
        # Between two points the precision is that of the next: there is no such threshold in between.
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
    """What 95 % of the bootstrap replicates' accuracies lie within.

    Args:
        right: whether each label is right (N,).
        groups: as for ``bands``.
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """
    drawn = islice(resampled(groups, len(right), seed), replicates)
    low, high = np.quantile([np.average(right, weights=weights) for weights in drawn], (0.025, 0.975))
    return float(low), float(high)


def _both(labels: np.ndarray, weights: np.ndarray) -> bool:
    return bool(0 < (labels * weights).sum() < weights.sum())


def _precision(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Recall, rising, and precision."""
    precision, recall, _ = precision_recall_curve(labels, probabilities, sample_weight=weights)
    return recall[::-1], precision[::-1]


def _band(x: np.ndarray, y: np.ndarray, area: float, replicates: list[tuple[np.ndarray, float]]) -> Band:
    curves, areas = zip(*replicates, strict=True)
    low, high = np.quantile(curves, (0.025, 0.975), axis=0)
    area_low, area_high = np.quantile(areas, (0.025, 0.975))
    return Band(x, y, low, high, float(area), float(area_low), float(area_high))
