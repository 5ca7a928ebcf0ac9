"""A chest phantom: how much X-ray each part of a child's chest absorbs, added up as on a film (more is whiter).

Body coordinates: ``x`` is 0 on the spine, +-1 at the chest wall, positive on the patient's left (the viewer's right);
``y`` is 0 at the clavicles and 2 below the diaphragm, downwards. All fields are float32, (height, width).
"""

import math
from dataclasses import dataclass

import numpy as np

from triptych.data.synthetic.noise import fractal_noise, smooth_noise, smoothstep


@dataclass(frozen=True)
class Patient:
    """One chest: sizes in body coordinates, densities in units of film brightness."""

    neck: float  # half width at the top edge: a bare neck, or arms raised beside the head
    girth: float
    apex: float
    domes: tuple[float, float]  # height of the diaphragm's right and left dome
    heart: tuple[float, float, float]  # x of the centre, half width, half height
    mediastinum: float
    thymus: float
    rib_spacing: float
    rib_slope: float
    rib_phase: float
    bone: float
    muscle: float
    markings: float
    jaw: float
    bubble: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Patient":
        """Draw a patient, from the same distribution whether healthy or ill."""
        dome = rng.normal(1.5, 0.09)
        return cls(
            neck=rng.uniform(0.35, 1.25),
            girth=rng.normal(1.05, 0.04),
            apex=rng.normal(0.06, 0.03),
            domes=(dome, dome + rng.uniform(0.02, 0.12)),
            heart=(rng.normal(0.1, 0.04), rng.normal(0.4, 0.05), rng.uniform(0.42, 0.55)),
            mediastinum=rng.normal(0.17, 0.02),
            thymus=max(rng.normal(0, 0.12), 0.0),
            rib_spacing=rng.uniform(0.17, 0.22),
            rib_slope=rng.uniform(0.2, 0.5),
            rib_phase=rng.uniform(0, 1),
            bone=rng.uniform(0.1, 0.18),
            muscle=rng.uniform(0.48, 0.6),
            markings=rng.uniform(0.02, 0.055),
            jaw=rng.uniform(-0.75, -0.28),
            bubble=max(rng.normal(0, 0.12), 0.0),
        )


def ellipse(
    x: np.ndarray, y: np.ndarray, centre: tuple[float, float], radii: tuple[float, float], edge: float
) -> np.ndarray:
    """1 inside an ellipse, 0 outside, with a soft rim of relative width ``edge``."""
    r = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2
    return smoothstep(1 - r, -edge, edge)


def body(patient: Patient, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Soft tissue of neck, shoulders, arms and trunk: thick in the middle, thin at the skin."""
    shoulders = 1.32 - 0.25 * smoothstep(y, 0.1, 0.7) + 0.06 * smoothstep(y, 1.2, 2.2)
    half = patient.girth * (patient.neck + (shoulders - patient.neck) * smoothstep(y, -0.45, 0.05))
    r = np.minimum(np.abs(x) / half, 1)
    return np.sqrt(1 - r * r) * (0.85 + 0.15 * r)


def wall(patient: Patient, y: np.ndarray) -> np.ndarray:
    """Half width of the rib cage at height ``y``: a dome over the apex of the lungs, then nearly straight."""
    t = np.clip((y - patient.apex) / 1.5, 0, 1)
    return patient.girth * (0.3 + 0.6 * (1 - (1 - t) ** 2.6) ** 0.55)


def lungs(patient: Patient, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Share of air, from 0 to 1: between chest wall and mediastinum, above the diaphragm, not where the heart is."""
    right = x < 0
    r = np.abs(x)
    t = np.clip((y - patient.apex) / 1.5, 0, 1)
    inner = patient.mediastinum + 0.18 * (1 - smoothstep(t, 0, 0.25)) + np.where(right, 0.05, 0.02) * t
    inner = inner + patient.thymus * np.exp(-(((y - 0.5) / 0.25) ** 2))
    diaphragm = np.where(right, patient.domes[0], patient.domes[1]) + 0.3 * ((r - 0.4) / 0.45) ** 2
    air = smoothstep(wall(patient, y) - r, 0, 0.16) * smoothstep(r - inner, 0, 0.1) * smoothstep(diaphragm - y, 0, 0.07)
    at, width, height = patient.heart
    heart = ellipse(x - 0.35 * (y - 1.15), y, (at, 1.2), (width, height), 0.3)
    vessels = ellipse(x, y, (0.05, 0.7), (patient.mediastinum + 0.1, 0.5), 0.4)
    return air * (t > 0) * (1 - 0.92 * np.maximum(heart, vessels))


def ribs(patient: Patient, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Posterior ribs (from the spine outwards and down) and, fainter, anterior (from the wall inwards and down)."""
    r = np.abs(x) / (wall(patient, y) + 0.02)
    bone = np.zeros_like(y + x)
    slope = patient.rib_slope
    for strength, curve, width in (
        (1.0, 0.1 * r + slope * (r**2.5 - 0.3), 0.2),
        (0.5, 0.55 * slope + 0.12 - 0.75 * slope * (r - 1) + 0.1 * (r - 1) ** 2, 0.24),
    ):
        phase = (y - curve) / patient.rib_spacing + patient.rib_phase
        offset = np.abs(phase - np.floor(phase) - 0.5)
        # A rib is a tube: its shell, seen edge-on, is denser than its marrow.
        tube = smoothstep(width - offset, 0, 0.1) * (0.7 + 0.3 * smoothstep(offset, 0.4 * width, width))
        inside = smoothstep(1.02 - r, 0, 0.1) * smoothstep(r, 0.12, 0.2) * smoothstep(y - curve, -0.02, 0.1)
        # Where it turns forward at the chest wall the beam runs along it.
        turned = 0.8 + 0.7 * smoothstep(r, 0.7, 0.95)
        bone += strength * tube * inside * turned * smoothstep(1.95 - y + 0.3 * r, 0, 0.4)
    return bone


def skeleton(patient: Patient, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Ribs, spine, clavicles and the heads of the upper arm bones."""
    r = np.abs(x)
    vertebra = (y / (0.72 * patient.rib_spacing) + patient.rib_phase) % 1.0
    spine = smoothstep(0.11 + 0.02 * np.cos(2 * math.pi * vertebra) - r, 0, 0.05)
    discs = 0.35 * smoothstep(np.abs(vertebra - 0.5), 0.25, 0.45)
    spine = spine * (0.55 + discs + 0.35 * np.exp(-(((r - 0.055) / 0.03) ** 2)))
    clavicle_y = 0.1 - 0.2 * r + 0.05 * np.sin(5 * r)
    clavicle = smoothstep(0.05 - np.abs(y - clavicle_y), 0, 0.03)
    clavicle = clavicle * smoothstep(r, 0.1, 0.18) * smoothstep(0.98 - r, 0, 0.08)
    humerus = ellipse(r, y, (1.2, 0.02), (0.14, 0.16), 0.4) + 0.6 * ellipse(r, y, (0.98, 0.12), (0.06, 0.3), 0.5)
    return ribs(patient, x, y) + 0.6 * spine + 0.8 * clavicle + 0.6 * humerus


def vessels(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Lung markings: streaks that leave the hila and thin out towards the chest wall."""
    shape = (y + x).shape
    dx, dy = np.abs(x) - 0.2, y - 0.8
    streaks = 1 - np.abs(fractal_noise(rng, shape, shape[0] / 14, octaves=3)) * 1.6
    return np.maximum(streaks, -0.6) * (0.35 + 1.6 * np.exp(-np.hypot(1.4 * dx, dy) / 0.22))


def film(patient: Patient, air: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness before exposure, about 0 (air around the body) to 1 (spine), given the ``air`` left in the lungs."""
    trunk = body(patient, x, y)
    soft = patient.muscle * trunk**0.8 * (1 + 0.03 * fractal_noise(rng, air.shape, air.shape[0] / 5))
    belly = smoothstep(y - 0.35 * (np.abs(x) - 0.4) ** 2, patient.domes[0], patient.domes[0] + 0.15)
    middle = 0.17 * smoothstep(0.3 - np.abs(x), 0, 0.2)
    trachea = 0.1 * smoothstep(0.07 - np.abs(x - 0.02), 0, 0.05) * smoothstep(0.55 - y, 0, 0.2)
    jaw = 0.3 * ellipse(x, y, (0, patient.jaw), (0.55, 0.4), 0.3)
    bubble = 0.22 * (patient.bubble > 0.05) * ellipse(x, y, (0.45, 1.78), (0.1 + patient.bubble, 0.1), 0.5)
    haze = 0.05 * smooth_noise(rng, air.shape, air.shape[0] / 3) * trunk
    image = soft + trunk * (0.13 * belly + middle - trachea - bubble) + jaw + haze * 0.3
    image = image + patient.bone * skeleton(patient, x, y) * trunk**0.3
    return image - air * (0.27 + 0.06 * trunk) + patient.markings * air * vessels(rng, x, y)
