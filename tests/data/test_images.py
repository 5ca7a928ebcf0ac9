"""Images found in folders and decoded to grey, whatever their mode; damaged ones named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from triptych.data.errors import DataError
from triptych.data.images import decode, find_images


@pytest.fixture
def photo() -> Image.Image:
    """Noise, so that no half of the file can do without the other."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64), dtype=np.uint8))


def flat(mode: str, colour: float | tuple[int, ...], size: tuple[int, int] = (3, 2)) -> Image.Image:
    return Image.new(mode, size, colour)


def sixteen_bit(value: int) -> Image.Image:
    return Image.fromarray(np.full((2, 3), value, np.uint16))


def palette() -> Image.Image:
    image = Image.new("P", (3, 2), 1)
    image.putpalette([0, 0, 0, 0, 255, 0])
    return image


def see_through_palette() -> Image.Image:
    image = palette()
    image.info["transparency"] = 1
    return image


@pytest.mark.parametrize(
    ("suffix", "image", "grey"),
    [
        ("png", flat("L", 37), 37),
        ("png", flat("1", 1), 255),
        ("png", flat("1", 0), 0),
        ("png", flat("RGB", (255, 0, 0)), 76),
        ("png", palette(), 150),
        ("png", see_through_palette(), 255),
        ("png", flat("LA", (40, 255)), 40),
        ("png", flat("LA", (40, 0)), 255),
        ("png", flat("RGBA", (0, 0, 0, 128)), 127),
        ("png", sixteen_bit(65_535), 255),
        ("png", sixteen_bit(32_896), 128),
        ("png", sixteen_bit(200 * 257), 200),
        ("tiff", sixteen_bit(32_896), 128),
        ("jpeg", flat("L", 37), 37),
        ("jpg", flat("RGB", (120, 120, 120)), 120),
        ("jpeg", flat("CMYK", (0, 0, 0, 0)), 255),
        ("jpeg", flat("CMYK", (0, 0, 0, 155)), 100),
        ("webp", flat("RGB", (255, 255, 255)), 255),
        ("bmp", flat("L", 37), 37),
    ],
)
def test_every_mode_becomes_8_bit_grey_on_white_paper(suffix: str, image: Image.Image, grey: int, tmp_path: Path):
    image.save(tmp_path / f"image.{suffix}")
    decoded = decode(tmp_path / f"image.{suffix}")
    assert decoded.dtype == np.uint8
    assert decoded.shape == (2, 3)
    np.testing.assert_allclose(decoded.astype(int), grey, atol=1 if suffix in ("jpeg", "jpg", "webp") else 0)


def test_a_grey_png_is_read_to_the_bit(tmp_path: Path, photo: Image.Image):
    photo.save(tmp_path / "photo.png")
    assert np.array_equal(decode(tmp_path / "photo.png"), np.asarray(photo))


@pytest.mark.parametrize("size", [(640, 480), (64, 500), (5, 7)])
@pytest.mark.parametrize("suffix", ["png", "jpeg"])
def test_a_size_gives_a_square_whatever_the_aspect(size: tuple[int, int], suffix: str, tmp_path: Path):
    """The left half is black: it stays the left half."""
    image = flat("L", 255, size)
    image.paste(0, (0, 0, size[0] // 2, size[1]))
    image.save(tmp_path / f"image.{suffix}")
    small = decode(tmp_path / f"image.{suffix}", size=20)
    assert small.shape == (20, 20)
    assert small[:, :5].max() < 30
    assert small[:, 15:].min() > 225


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("suffix", ["png", "jpeg", "tiff", "bmp", "webp"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9])
def test_a_truncated_image_is_named(suffix: str, share: float, tmp_path: Path, photo: Image.Image):
    path = tmp_path / f"photo.{suffix}"
    photo.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=rf"photo\.{suffix}: not a readable image \(.*\); replace or remove it"):
        decode(path)


@pytest.mark.parametrize("content", [b"", b"not an image", bytes(range(256)) * 40, b"\x89PNG\r\n\x1a\n" + b"x" * 100])
def test_what_is_no_image_is_named(content: bytes, tmp_path: Path):
    (tmp_path / "1.png").write_bytes(content)
    with pytest.raises(DataError, match=r"1\.png: not a readable image"):
        decode(tmp_path / "1.png", size=8)


def test_floating_point_pixels_are_refused_rather_than_guessed(tmp_path: Path):
    Image.fromarray(np.full((2, 3), 0.5, np.float32)).save(tmp_path / "image.tiff")
    with pytest.raises(DataError, match="expected 1, 8 or 16 bits a pixel"):
        decode(tmp_path / "image.tiff")


def test_images_are_found_in_all_subfolders_in_order_of_their_names(tmp_path: Path):
    names = ["10.png", "2.PNG", "a/1.jpeg", "a/b/3.Tif", "z.webp"]
    for name in [*reversed(names), "._2.png", ".ipynb_checkpoints/2.png", "Thumbs.db", "notes.txt", "png"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)] == names
    assert [path.name for path in find_images(tmp_path, ".png")] == ["10.png", "2.PNG"]
    assert find_images(tmp_path / "10.png") == [tmp_path / "10.png"]


def test_a_missing_or_empty_folder_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"no folder .*train: expected one with images \(\.png\)"):
        find_images(tmp_path / "train", ".png")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "readme.txt").touch()
    with pytest.raises(DataError, match=r"no images \(\.png\) in .*train: put some there"):
        find_images(tmp_path / "train", ".png")
