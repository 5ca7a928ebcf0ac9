"""Synthetic dirt on scanned pages: coffee, creases, footprints, crumpling, and the scanner's own marks.

Every stain is a field of the page's shape (height, width), in paper brightness (1 is white), to be added to the paper.
"""

import math
from collections.abc import Callable

import numpy as np

from triptych.data.synthetic.noise import blur, fractal_noise, smooth_noise, smoothstep

Stain = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def coordinates(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of every pixel, as float32 fields that broadcast to ``shape``."""
    rows, columns = (np.arange(side, dtype=np.float32) for side in shape)
    return rows[:, None], columns


def random_point(rng: np.random.Generator, shape: tuple[int, int], margin: float = 0.0) -> tuple[float, float]:
    """Draw a point (row, column) at least ``margin`` of a side off the edges; plain floats, to keep fields float32."""
    return shape[0] * rng.uniform(margin, 1 - margin), shape[1] * rng.uniform(margin, 1 - margin)


def turn(y: np.ndarray, x: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates across and along a line through the origin that rises at ``angle`` radians."""
    sine, cosine = math.sin(angle), math.cos(angle)
    return y * cosine - x * sine, y * sine + x * cosine


def coffee(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Rings of a cup, broken where the cup did not touch, and some drops; the drying edge is darkest."""
    y, x = coordinates(shape)
    wobble = fractal_noise(rng, shape, 40, octaves=3)
    mottle = 0.85 + 0.2 * fractal_noise(rng, shape, 14, octaves=4)
    stain = np.zeros(shape, np.float32)
    for _ in range(rng.integers(2, 5)):
        radius, (row, column) = rng.uniform(60, 120), random_point(rng, shape)
        r = np.hypot(y - row, x - column)
        # The rim is widest where the cup stood in a puddle and vanishes on the far side.
        cosine = turn(y - row, x - column, rng.uniform(0, 2 * math.pi))[0] / (r + 1)
        wet = cosine * rng.uniform(0.6, 1) + rng.uniform(-0.3, 0.4)
        rim = rng.uniform(12, 60) * np.maximum(wet, 0.05) + 2
        inside = radius - r - 1.5 * wobble
        body = smoothstep(inside, 0, 2.5) * smoothstep(rim - inside, 0, 6)
        edge = np.exp(-np.abs(inside - 1.5) / 1.6) + 0.2 * np.exp(-np.abs(inside - rim + 4) / 3)
        strength = rng.uniform(0.15, 0.45) * smoothstep(wet, -0.3, 0.5)
        stain += strength * body * (0.8 + 0.6 * edge) * mottle + 0.015 * smoothstep(inside, 0, 3)
    for _ in range(rng.integers(2, 7)):
        radius, (row, column) = rng.uniform(1.5, 8), random_point(rng, shape)
        inside = radius - np.hypot(y - row, x - column) - 0.2 * radius * wobble
        stain += rng.uniform(0.1, 0.3) * smoothstep(inside, 0, 1.5) * (0.7 + 0.5 * np.exp(-np.abs(inside - 1) / 1.2))
    return -np.minimum(stain, 0.5)


def footprints(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Shoe treads: rows of square blocks, printed unevenly, over blotches of dust."""
    y, x = coordinates(shape)
    stain = 0.03 * smoothstep(fractal_noise(rng, shape, 70, octaves=4), 0.2, 1.6)
    warp = smooth_noise(rng, shape, 60) * 3
    for _ in range(rng.integers(1, 4)):
        (row, column), cell = random_point(rng, shape), rng.uniform(45, 85)
        v, u = (field + warp for field in turn(y - row, x - column, rng.uniform(-0.5, 0.5)))
        sole = 1 - smoothstep((u / rng.uniform(90, 140)) ** 2 + (v / rng.uniform(200, 280)) ** 2, 0.6, 1.0)
        to_centre = np.maximum(np.abs(u % cell - cell / 2) * 1.1, np.abs(v % cell - cell / 2)) / cell
        # A block prints its rim darker than its middle, where the rubber is worn hollow.
        block = smoothstep(0.42 - to_centre, 0, 0.05) * (0.55 + 0.9 * smoothstep(to_centre, 0.2, 0.34))
        patchy = smoothstep(fractal_noise(rng, shape, 50, octaves=5), -0.9, 1.4)
        stain += rng.uniform(0.06, 0.17) * sole * block * patchy + 0.025 * sole * patchy
    return -stain


def folds(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A sheet that was folded and flattened: straight creases, light on the ridge, dark beside it, panels tilted."""
    y, x = coordinates(shape)
    wobble = smooth_noise(rng, shape, 30) * 0.8
    wear = smoothstep(fractal_noise(rng, shape, 25), -1.2, 1.0)
    light = np.zeros(shape, np.float32)
    for number in range(rng.integers(4, 9)):
        # The first crease runs straight across; later ones at the slants of a paper plane or an envelope.
        angle = rng.normal(0, 0.02) if number == 0 else rng.uniform(0, math.pi)
        row, column = random_point(rng, shape, margin=0.1)
        distance, along = turn(y - row, x - column, angle)
        distance = distance + wobble
        strength, side, end = rng.uniform(0.5, 1.0), 1 if rng.random() < 0.5 else -1, rng.uniform(-500, -100)
        reach = smoothstep(along, end, end + 80) if number else 1.0
        ridge = 0.11 * np.exp(-((distance / 1.1) ** 2)) - 0.14 * np.exp(-(((distance - 2.4 * side) / 1.5) ** 2))
        tilt = 0.035 * side * distance / (np.abs(distance) + 1.5) * np.exp(-np.abs(distance) / 70)
        light += strength * reach * (ridge * wear - tilt)
    return light


def crumple(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A sheet crumpled into a ball and smoothed out: bent creases, bright on one side and dark on the other."""
    rows, columns = coordinates(shape)
    bend = fractal_noise(rng, shape, 30, octaves=4) * 2.2
    lamp = rng.uniform(0, 2 * math.pi)
    light = 0.3 * fractal_noise(rng, shape, 60, octaves=3)
    for number in range(max(shape[0] * shape[1] // 1200, 1)):
        # One crease in seven is long; each is drawn in its own window, for speed.
        length = rng.uniform(80, 220) if number % 7 == 0 else rng.uniform(12, 65)
        facet, angle, strength = length * rng.uniform(0.12, 0.4), rng.uniform(0, 2 * math.pi), rng.gamma(2.5, 0.3)
        row, column = random_point(rng, shape)
        window = tuple(slice(max(int(c - length), 0), int(c + length) + 1) for c in (row, column))
        across, along = turn(rows[window[0]] - row, columns[window[1]] - column, angle)
        across = across + bend[window]
        # A ridge lit from the lamp: flat facets that fade away from the crease and jump in brightness at it.
        near = np.maximum(1 - (across * across + along * along) / length**2, 0) ** 1.5
        facing = math.cos(angle - lamp)
        jump = facing * across / (np.abs(across) + 0.7) / (1 + (across / facet) ** 2)
        cleft = -abs(facing) * np.exp(-((across + math.copysign(1.2, facing)) ** 2))
        light[window] += strength * near * (jump + cleft)
    # Facets that face the lamp saturate; those that turn away go on getting darker.
    return np.where(light > 0, 0.1 * np.tanh(light), np.maximum(0.095 * light, -0.45))


STAINS: tuple[Stain, ...] = (coffee, folds, footprints, crumple)


def scan(clean: np.ndarray, stain: Stain, rng: np.random.Generator) -> np.ndarray:
    """Scan a clean page (height, width; 0 ink, 1 white) with ``stain``, greyed paper, uneven light, faded ink."""
    shape = clean.shape
    y, x = coordinates(shape)
    slope_y, slope_x = rng.normal(0, 0.025), rng.normal(0, 0.025)
    paper = rng.uniform(0.84, 0.89) + slope_y * (y / shape[0] - 0.5) + slope_x * (x / shape[1] - 0.5)
    paper = paper + 0.009 * fractal_noise(rng, shape, 120, octaves=2) + stain(rng, shape)
    fibres = 0.011 * fractal_noise(rng, shape, 4, octaves=3)
    # Ink bleeds a little into the paper and fades in places; it lies under the stain, so both darken the page together.
    ink = blur(1 - clean, rng.uniform(0.2, 0.5))
    ink *= rng.uniform(0.92, 1.0) - 0.04 * np.abs(fractal_noise(rng, shape, 35))
    noisy = (paper + fibres) * (1 - np.clip(ink, 0, 1)) + 0.012 * rng.standard_normal(shape, np.float32)
    specks = rng.random(shape, np.float32) < rng.uniform(0.5e-4, 3e-4)
    return noisy - rng.uniform(0.2, 0.5) * blur(specks.astype(np.float32), 0.6)
