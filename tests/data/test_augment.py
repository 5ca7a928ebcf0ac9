"""Augmentation: each sample is changed by its own amount, within the bounds, and not at all where none is chosen."""

import math

import pytest
import torch
from torch import Tensor

from triptych.data import augment
from triptych.data.augment import BatchAffine, BatchExposure, BatchNoise, BatchTurns, select_augmentations

KNOWN = ("rotation", "flip")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def alike() -> Tensor:
    """The same image 32 times (32, 1, 16, 16), smooth and without any symmetry."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 16), torch.linspace(0, 1, 16), indexing="ij")
    return (0.2 + 0.5 * x * x + 0.2 * y).expand(32, 1, 16, 16)


@pytest.fixture
def largest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every random draw return its upper bound."""
    monkeypatch.setattr(augment, "_uniform", lambda images, low, high: torch.full((len(images), 1, 1, 1), float(high)))


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (True, ["rotation", "flip"]),
        ("all", ["rotation", "flip"]),
        (["all"], ["rotation", "flip"]),
        (False, []),
        ("none", []),
        ([], []),
        ("flip", ["flip"]),
        (["flip", "rotation"], ["flip", "rotation"]),
    ],
)
def test_augment_takes_all_none_or_names(asked: bool | str | list[str], names: list[str]):
    assert select_augmentations(asked, KNOWN) == names


@pytest.mark.parametrize("asked", ["flp", ["flip", "flp"]])
def test_an_unknown_name_is_refused_with_the_known_ones(asked: str | list[str]):
    with pytest.raises(ValueError, match=r"data.augment=flp: choose all, none, or some of rotation, flip"):
        select_augmentations(asked, KNOWN)


@pytest.mark.parametrize(
    "transform",
    [
        BatchAffine(rotation=10),
        BatchAffine(scale=(0.8, 1.2)),
        BatchAffine(translation=0.1),
        BatchExposure(brightness=0.2),
        BatchExposure(contrast=0.3),
        BatchExposure(gamma=1.5),
    ],
    ids=["rotation", "scale", "translation", "brightness", "contrast", "gamma"],
)
def test_every_image_is_changed_by_its_own_amount(transform: torch.nn.Module, alike: Tensor):
    changed = transform(alike)
    assert changed.shape == alike.shape
    assert len(changed.flatten(1).unique(dim=0)) == len(alike)


@pytest.mark.parametrize("transform", [BatchAffine(), BatchExposure()], ids=["affine", "exposure"])
def test_amounts_of_zero_change_nothing(transform: torch.nn.Module, alike: Tensor):
    torch.testing.assert_close(transform(alike), alike)


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, -1)])
def test_rotation_turns_about_the_centre(degrees: float, turns: int, alike: Tensor, largest: None):
    torch.testing.assert_close(BatchAffine(rotation=degrees)(alike), alike.rot90(turns, (-2, -1)), atol=1e-5, rtol=0)


def test_scale_magnifies_the_centre(largest: None):
    ramp = torch.linspace(-15 / 16, 15 / 16, 16).expand(1, 1, 16, 16)  # each pixel holds its x coordinate in [-1, 1]
    torch.testing.assert_close(BatchAffine(scale=(1, 2))(ramp), ramp / 2)


def test_translation_moves_by_a_share_of_the_side(largest: None):
    image = torch.rand(1, 1, 16, 16)
    moved = BatchAffine(translation=0.25)(image)
    torch.testing.assert_close(moved[..., :12, :12], image[..., 4:, 4:])
    assert moved[..., 12:, :].abs().max() < 1e-5  # what moves into view is black


def test_flip_mirrors_half_of_the_images_left_to_right(alike: Tensor):
    flipped = BatchAffine(flip=True)(alike)
    mirrored = torch.isclose(flipped, alike.flip(-1), atol=1e-5).flatten(1).all(1)
    kept = torch.isclose(flipped, alike, atol=1e-5).flatten(1).all(1)
    assert torch.equal(mirrored, ~kept)
    assert 8 < mirrored.sum() < 24


def test_rotation_stays_within_the_angle_and_shears_nothing():
    theta = BatchAffine(rotation=12, flip=True).make_params([torch.empty(1000, 1, 8, 8)])["theta"][:, :, :2]
    angle = torch.atan2(-theta[:, 0, 1], theta[:, 1, 1]).rad2deg()
    assert -12 <= angle.min() < -11
    assert 11 < angle.max() <= 12
    torch.testing.assert_close(theta @ theta.mT, torch.eye(2).expand(1000, 2, 2))


@pytest.mark.parametrize(
    ("transform", "pixels", "expected"),
    [
        (BatchExposure(brightness=0.1), [0.2, 0.4, 0.95], [0.3, 0.5, 1.0]),
        (BatchExposure(contrast=0.5), [0.2, 0.4, 0.6], [0.1, 0.4, 0.7]),
        (BatchExposure(gamma=2.0), [0.0, 0.5, 1.0], [0.0, 0.25, 1.0]),
    ],
    ids=["brightness", "contrast", "gamma"],
)
def test_brightness_contrast_and_gamma_change_pixels_as_defined(
    transform: BatchExposure, pixels: list[float], expected: list[float], largest: None
):
    torch.testing.assert_close(transform(torch.tensor([[[pixels]]])), torch.tensor([[[expected]]]))


def test_exposure_clips_to_0_and_1():
    exposed = BatchExposure(brightness=0.5, contrast=0.9, gamma=3)(torch.rand(64, 1, 8, 8))
    assert exposed.min() >= 0
    assert exposed.max() <= 1


def test_turns_use_all_eight_orientations_of_a_square(alike: Tensor):
    ways = torch.stack([way.rot90(turns, (-2, -1)) for way in (alike[0], alike[0].mT) for turns in range(4)])
    matches = (BatchTurns()(alike)[:, None] == ways).flatten(2).all(2)
    assert matches.sum(1).tolist() == [1] * 32
    assert matches.any(0).all()


def test_turns_treat_both_channels_of_a_pair_alike():
    dirty = torch.rand(32, 1, 8, 8)
    turned = BatchTurns()(torch.cat((dirty, 1 - dirty), dim=1))
    assert not torch.equal(turned[:, :1], dirty)
    torch.testing.assert_close(turned[:, 1:], 1 - turned[:, :1])


def test_noise_has_each_columns_own_deviation():
    rows = torch.zeros(20_000, 3)
    noisy = BatchNoise(torch.tensor([0.0, 1.0, 50.0]))(rows)
    torch.testing.assert_close(noisy.std(dim=0), torch.tensor([0.0, 1.0, 50.0]), rtol=0.05, atol=0)
    assert rows.abs().max() == 0


def test_noise_leaves_missing_values_missing():
    assert math.isnan(BatchNoise(torch.ones(1))(torch.tensor([[math.nan]])).item())
