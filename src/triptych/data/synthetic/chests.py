"""A stand-in for Kaggle's Chest X-Ray Images (Pneumonia): phantom chests, some with opacities in the lungs."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from triptych.data.synthetic.fonts import load_font
from triptych.data.synthetic.noise import fractal_noise, smoothstep, to_uint8
from triptych.data.synthetic.phantom import Patient, film, lungs

PREVALENCE = {"train": 0.74, "test": 0.625}
"""Share of PNEUMONIA in each split of the original."""


def consolidation(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Share of air lost to bacterial pneumonia, (height, width): one lobe, sometimes two, filled with fluid."""
    shape = (y + x).shape
    cloud = 0.22 * fractal_noise(rng, shape, shape[0] / 7, octaves=4)
    lost = np.zeros(shape, np.float32)
    for _ in range(1 + (rng.random() < 0.3)):
        side, level = (-1 if rng.random() < 0.55 else 1), rng.choice([0.45, 0.85, 1.3], p=[0.25, 0.25, 0.5])
        centre = (side * rng.uniform(0.32, 0.65), float(level) + rng.normal(0, 0.08))
        radii = rng.uniform(0.2, 0.48), rng.uniform(0.17, 0.42)
        r = np.hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1]) + cloud
        lost = np.maximum(lost, rng.uniform(0.4, 0.95) * smoothstep(1.2 - r, 0, rng.uniform(0.5, 1.1)))
    return lost


def interstitial(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Share of air lost to viral pneumonia, (height, width): patches and streaks in both lungs, most near the hila."""
    shape = (y + x).shape
    near = 0.35 + 0.8 * np.exp(-np.hypot(np.abs(x) - 0.3, 0.8 * (y - 0.9)) / rng.uniform(0.2, 0.5))
    patches = smoothstep(fractal_noise(rng, shape, shape[0] / rng.uniform(6, 10), octaves=3), -0.7, 1.3)
    streaks = smoothstep(0.45 - np.abs(fractal_noise(rng, shape, shape[0] / 16, octaves=2)), 0, 0.45)
    return np.minimum(rng.uniform(0.3, 0.85) * near * (patches + rng.uniform(0.2, 0.6) * streaks), 0.9)


def body_coordinates(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Body coordinates (x, y) of every pixel of a film of ``shape``; the chest is a bit shifted, turned or scaled."""
    height, width = shape
    scale, angle = 2.2 / (height * rng.uniform(0.95, 1.15)), rng.normal(0, 0.035)
    rows = (np.arange(height, dtype=np.float32)[:, None] - height / 2) * scale + rng.normal(0, 0.05)
    columns = (np.arange(width, dtype=np.float32) - width / 2) * scale + rng.normal(0, 0.06)
    x, y = columns * math.cos(angle) - rows * math.sin(angle), columns * math.sin(angle) + rows * math.cos(angle)
    # A chest turned about its own axis shows one half wider than the other.
    return x * (1 + rng.normal(0, 0.05) * x), y + 0.86


def expose(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Develop the film: exposure, contrast, gamma, scatter, shutters, grain. None of it depends on the label."""
    height, width = image.shape
    image = np.clip((image - 0.42) * rng.uniform(0.9, 1.3) + rng.normal(0.46, 0.045), 0, None)
    image = np.minimum(image, 0.9 + 0.1 * np.tanh((image - 0.9) * 5)) ** rng.uniform(0.85, 1.25)
    image = image * rng.uniform(0.88, 1.0) + rng.uniform(0, 0.06)
    grain = 0.6 * rng.standard_normal(image.shape, np.float32) + fractal_noise(rng, image.shape, 3, octaves=2)
    image = image + rng.uniform(0.003, 0.011) * grain
    if rng.random() < 0.2:
        top, side = int(rng.uniform(0, 0.04) * height), int(rng.uniform(0, 0.05) * width)
        image[:top], image[:, width - side :] = 0.02, 0.02
    return image


def stamp_marker(picture: Image.Image, rng: np.random.Generator) -> None:
    """Stamp the lead letter R that marks the patient's right, at the left edge."""
    width, height = picture.size
    font = load_font("DejaVuSans-Bold", height * rng.uniform(0.045, 0.075))
    at = (width * rng.uniform(0.01, 0.1), height * rng.uniform(0.02, 0.5))
    ImageDraw.Draw(picture).text(at, "R", font=font, fill=int(rng.uniform(190, 255)))


def radiograph(seed: tuple[int, ...], disease: str | None, size: int, take: int) -> Image.Image:
    """Take picture number ``take`` of the patient of ``seed``, healthy (None) or with ``bacteria`` or ``virus``.

    Grayscale, about ``size`` pixels high, up to 1.4 times as wide. Pictures of one patient share anatomy and disease,
    not pose or exposure.
    """
    patient, rng = Patient.draw(np.random.default_rng((*seed, 0))), np.random.default_rng((*seed, 2, take))
    height = round(size * rng.uniform(0.9, 1.1))
    x, y = body_coordinates(rng, (height, round(height * rng.uniform(1.0, 1.4))))
    air = lungs(patient, x, y)
    if disease is not None:
        opacity = consolidation if disease == "bacteria" else interstitial
        air = air * (1 - opacity(np.random.default_rng((*seed, 1)), x, y))
    picture = Image.fromarray(to_uint8(expose(film(patient, air, x, y, rng), rng)))
    if rng.random() < 0.8:
        stamp_marker(picture, rng)
    return picture


def split_sizes(images: int) -> dict[tuple[str, str], int]:
    """Number of images in every (split, class) folder; they add up to ``images``."""
    val = 4 if images >= 100 else 1
    test = max(round(0.2 * images), 5)
    sizes = {}
    for split, total in (("train", images - test - 2 * val), ("test", test)):
        sizes[split, "NORMAL"] = max(round(total * (1 - PREVALENCE[split])), 2)
        sizes[split, "PNEUMONIA"] = total - sizes[split, "NORMAL"]
    return sizes | {("val", "NORMAL"): val, ("val", "PNEUMONIA"): val}


def patient_pictures(count: int, rng: np.random.Generator) -> Iterator[int]:
    """Yield the number of pictures of each patient, ``count`` in all: mostly one, at most four."""
    while count > 0:
        pictures = min(int(rng.choice([1, 2, 3, 4], p=[0.65, 0.2, 0.1, 0.05])), count)
        count -= pictures
        yield pictures


def file_name(patient: int, disease: str | None, take: int, number: int, second_series: bool) -> str:
    """Name as on Kaggle; ``take`` counts a patient's pictures, ``number`` all pictures so far, both from 0."""
    if disease is None:
        again = f"-{take:04d}" if take else ""
        return f"{'NORMAL2-' if second_series else ''}IM-{patient + 115:04d}-0001{again}.jpeg"
    return f"person{patient + 1}_{disease}_{number + 1}.jpeg"


def write_chests(folder: Path, *, images: int = 600, size: int = 160, seed: int = 0) -> None:
    """Write ``folder/chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg``: ``images`` grayscale pictures in all.

    Pictures are about ``size`` pixels high and up to 1.4 times as wide. A fifth is test; val holds 4 + 4, or 1 + 1
    below 100 images. 74 % of train and 62.5 % of test show pneumonia: consolidated lobes (``bacteria`` in the name) or
    diffuse patches (``virus``). A patient has one to four pictures, all in one folder. The same arguments give the
    same bytes.
    """
    if images < 12:
        raise ValueError(f"images must be at least 12, to fill every split and class, not {images}")
    if size < 32:
        raise ValueError(f"size must be at least 32 pixels, not {size}")
    patient, number = 0, 0
    for (split, label), count in split_sizes(images).items():
        target = Path(folder, "chest_xray", split, label)
        target.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng((seed, len(split), len(label)))
        for pictures in patient_pictures(count, rng):
            disease = None if label == "NORMAL" else str(rng.choice(["bacteria", "virus"], p=[0.65, 0.35]))
            second_series = rng.random() < 0.55
            for take in range(pictures):
                picture = radiograph((seed, patient), disease, size, take)
                name = file_name(patient, disease, take, number, second_series)
                picture.save(target / name, quality=90)
                number += 1
            patient += 1
