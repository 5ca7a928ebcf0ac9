"""Smooth random fields, the raw material of paper, stains and tissue."""

import math

import numpy as np
from PIL import Image


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    """Gaussian noise of about unit variance whose bumps are ``scale`` pixels wide; float32, ``shape``."""
    # The grid is shifted by a random part of a cell, so that bumps do not sit at the same places in all fields.
    height, width = shape
    rows, columns = int(np.ceil(height / scale)) + 3, int(np.ceil(width / scale)) + 3
    top, left = rng.uniform(1, 2, size=2)
    grid = Image.fromarray(rng.standard_normal((rows, columns), dtype=np.float32) * 1.4)
    box = (left, top, left + width / scale, top + height / scale)
    return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC, box=box))


def fractal_noise(rng: np.random.Generator, shape: tuple[int, int], scale: float, octaves: int = 3) -> np.ndarray:
    """Sum of smooth noise at ``scale``, ``scale / 2``, ... pixels, each octave half as strong; about unit variance."""
    octave_noise = [smooth_noise(rng, shape, max(scale / 2**k, 1.0)) / 2**k for k in range(octaves)]
    return sum(octave_noise) / math.sqrt(sum(4.0**-k for k in range(octaves)))


def blur(field: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of a 2-d float32 field by ``sigma`` pixels, edges repeated."""
    radius = math.ceil(3 * sigma)
    weights = [math.exp(-((k / sigma) ** 2) / 2) for k in range(-radius, radius + 1)]
    for axis in (0, 1):
        padded = np.pad(field, [(radius, radius) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        side, field = field.shape[axis], np.zeros_like(field)
        for k, weight in enumerate(weights):
            field += weight / sum(weights) * np.take(padded, range(k, k + side), axis)
    return field


def smoothstep(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Ramp smoothly from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Image in [0, 1] (clipped) to 8 bits."""
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
