"""Slices of the X-rays that are unlike the others: held out, they stand in for another hospital's data."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.ndimage import white_tophat
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from triptych.data.stored import StoredImages

BLACK = 16
"""Grey level up to which a pixel shows nothing of the patient."""
LETTER = 0.09
"""Largest width of a letter or other marker, as a share of the side."""
PART = 2**22
"""Pixels measured at a time: 32 MB as float64, of which a measure holds a few copies."""


def brightness(images: np.ndarray) -> np.ndarray:
    """Mean grey level of images, uint8 (N, side, side) -> (N,)."""
    return images.mean(axis=(1, 2))


def contrast(images: np.ndarray) -> np.ndarray:
    """Standard deviation of the grey levels, uint8 (N, side, side) -> (N,)."""
    return images.std(axis=(1, 2))


def margin(images: np.ndarray) -> np.ndarray:
    """Share of black pixels, large if the patient is small in the picture, uint8 (N, side, side) -> (N,)."""
    return (images <= BLACK).mean(axis=(1, 2))


def marker(images: np.ndarray) -> np.ndarray:
    """How far something no larger than a letter stands out from a corner, uint8 (N, side, side) -> (N,)."""
    side = images.shape[1]
    corner = max(1, side // 4)
    letter = max(2, round(LETTER * side))
    small = white_tophat(images, size=(1, letter, letter))
    # All four corners of an X-ray; the 99th percentile, because the brightest pixel may be noise.
    rows = np.concatenate([small[:, :corner], small[:, -corner:]], axis=1)
    corners = np.concatenate([rows[..., :corner], rows[..., -corner:]], axis=2)
    return np.percentile(corners.reshape(len(images), -1), 99, axis=1)


def other_class_probability(images: np.ndarray | StoredImages, labels: np.ndarray) -> np.ndarray:
    """How unlikely an X-ray's own class is, given the measures above: (N, side, side), (N,) -> (N,) in [0, 1]."""
    measures = np.stack([_measure_each(measure, images) for measure in (brightness, contrast, margin, marker)], axis=1)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced")).fit(measures, labels)
    return 1 - classifier.predict_proba(measures)[np.arange(len(labels)), labels]


MEASURES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "dark": lambda images: -brightness(images),
    "bright": brightness,
    "flat": lambda images: -contrast(images),
    "small": margin,
    "large": lambda images: -margin(images),
    "marked": marker,
}
SLICES = ("names", *MEASURES, "contrary")


def select_atypical(
    kind: str,
    names: Sequence[str],
    images: np.ndarray | StoredImages,
    labels: np.ndarray,
    patients: Sequence[str],
    share: float = 0.2,
) -> np.ndarray:
    """Select X-rays to hold out: those of the patients that differ most, as many as make up ``share`` of each class.

    - ``names``: patients without any file named like most of their class (viruses; ``IM`` instead of ``NORMAL2``).
    - ``dark``, ``bright``, ``flat`` (of low contrast): by the grey levels.
    - ``small``, ``large``: with much black around the patient, or little.
    - ``marked``: with a letter or another small bright object in a corner.
    - ``contrary``: those that look most like the other class by all these measures together.

    Args:
        kind: one of SLICES.
        names: file names, N.
        images: uint8 (N, side, side), read a few at a time if they are on disk.
        labels: 0 or 1, (N,).
        patients: patient of each X-ray, N; the X-rays of a patient stay together and are ranked by their mean.
        share: of each class; ignored by ``names``, which takes all that it finds.

    Returns:
        bool (N,), True for the X-rays to hold out.
    """
    labels = np.asarray(labels)
    _, owner = np.unique(np.asarray(patients), return_inverse=True)
    if kind == "names":
        return ~np.isin(owner, owner[_has_common_name(names, labels)])
    scores = other_class_probability(images, labels) if kind == "contrary" else _measure_each(MEASURES[kind], images)
    mean = np.bincount(owner, scores) / np.bincount(owner)
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        # By the patient's mean, the largest first; the X-rays of a patient are adjacent.
        order = own[np.lexsort((owner[own], -mean[owner[own]]))]
        enough = order[: round(share * len(own))]
        held_out |= np.isin(owner, owner[enough])
    return held_out


def _measure_each(measure: Callable[[np.ndarray], np.ndarray], images: np.ndarray | StoredImages) -> np.ndarray:
    """Measure the images, a few at a time; returns (N,)."""
    part = max(1, PART // math.prod(images[0].shape))
    starts = range(0, len(images), part)
    parts = ([images[index][...] for index in range(start, min(start + part, len(images)))] for start in starts)
    return np.concatenate([measure(np.stack(few)) for few in parts])


def _has_common_name(names: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """Whether the name of each file is of the commonest family in its class: bool (N,)."""
    families = np.array([_family(name) for name in names])
    is_common = np.zeros(len(names), bool)
    for label in np.unique(labels):
        own = labels == label
        found, counts = np.unique(families[own], return_counts=True)
        is_common |= own & (families == found[counts.argmax()])
    return is_common


def _family(name: str) -> str:
    """Return the family of a file name: one of four naming schemes, or ``other``.

    >>> _family("NORMAL2-IM-0959-0001.jpeg"), _family("train/NORMAL/IM-0115-0001.jpeg"), _family("person7_virus_9.jpeg")
    ('NORMAL2', 'IM', 'virus')
    """
    stem = name.rsplit("/", 1)[-1]
    kinds = ("NORMAL2", "IM", "bacteria", "virus")
    return next((kind for kind in kinds if kind in stem), "other")
