"""Slices of the X-rays that differ from the rest, for hold-out tests."""

import numpy as np
import pytest

from triptych.data.slices import MEASURES, SLICES, brightness, contrast, margin, marker, select_atypical


def plain(*greys: int, side: int = 40) -> np.ndarray:
    """Images of a single grey level each, uint8 (N, side, side)."""
    return np.stack([np.full((side, side), grey, np.uint8) for grey in greys])


def test_brightness_is_the_mean_and_contrast_the_standard_deviation():
    images = plain(100, 100)
    images[1, :20] = 60
    assert brightness(images).tolist() == [100, 80]
    assert contrast(images).tolist() == [0, 20]


def test_the_margin_is_the_share_of_black_pixels():
    images = plain(100)
    images[0, :, :10] = 16
    assert margin(images).tolist() == [0.25]


def test_only_a_small_bright_spot_near_the_edge_is_a_marker():
    images = plain(100, 100, 100, 100)
    images[1, 3:6, 33:36] = 250
    images[2, :20] = 250
    images[3, 19:22, 18:21] = 250
    assert marker(images).tolist() == [0, 150, 0, 0]


@pytest.mark.parametrize("kind", MEASURES)
def test_the_most_extreme_fifth_of_each_class_is_held_out(kind: str):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (100, 20, 20), dtype=np.uint8) // rng.integers(1, 9, (100, 1, 1), dtype=np.uint8)
    labels = np.arange(100) % 4 % 2
    held_out = select_atypical(kind, [""] * 100, images, labels, [str(index) for index in range(100)])
    scores = MEASURES[kind](images)
    for label in (0, 1):
        own = labels == label
        assert held_out[own].sum() == 10
        assert scores[own & held_out].min() >= scores[own & ~held_out].max()


def test_x_rays_of_a_patient_are_held_out_together_by_their_mean():
    images = plain(10, 200, 90, 100, 120, 130)
    held_out = select_atypical("dark", [""] * 6, images, np.zeros(6, int), list("aabbcc"), share=0.3)
    # The darkest X-ray belongs to a patient whose mean is brighter than another's.
    assert held_out.tolist() == [False, False, True, True, False, False]


def test_patients_whose_file_names_are_all_unusual_are_held_out():
    names = [f"NORMAL2-IM-{n}-0001.jpeg" for n in (1, 2, 3)] + [f"IM-{n}-0001.jpeg" for n in (3, 4)]
    names += [f"person{n}_bacteria_9.jpeg" for n in (1, 2)] + ["person3_virus_9.jpeg"]
    patients = ["n1", "n2", "n3", "n3", "n4", "p1", "p2", "p3"]
    held_out = select_atypical("names", names, plain(*[9] * 8), np.array([0] * 5 + [1] * 3), patients)
    assert held_out.tolist() == [False] * 4 + [True, False, False, True]


def test_the_contrary_slice_looks_like_the_other_class():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    greys = np.where(labels, 150, 90) + rng.integers(-5, 6, 100)
    greys[:10] = 140
    greys[50:60] = 100
    held_out = select_atypical("contrary", [""] * 100, plain(*greys), labels, [str(index) for index in range(100)])
    assert np.flatnonzero(held_out).tolist() == [*range(10), *range(50, 60)]


def test_each_slice_is_documented():
    assert all(f"``{kind}``" in (select_atypical.__doc__ or "") for kind in SLICES)
