"""Images: found in folders, decoded to 8-bit grey from any mode, and named in the error when damaged."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from tests.pictures import KINDS, PLACES, animated, lay, png, tiff, whole

from triptych.data import images as module
from triptych.data.errors import DataError
from triptych.data.images import decode, find_images


@pytest.fixture
def photo() -> Image.Image:
    """Noise, so that every part of the file is needed to decode it."""
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
    load_images = decode(tmp_path / f"image.{suffix}")
    assert load_images.dtype == np.uint8
    assert load_images.shape == (2, 3)
    np.testing.assert_allclose(load_images.astype(int), grey, atol=1 if suffix in ("jpeg", "jpg", "webp") else 0)


PAGE = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("band", [2**22, 40])
def test_every_grey_level_of_every_kind_of_file_is_decoded_correctly(kind: str, band: int, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "BAND", band)
    picture = whole(PAGE, kind)
    (tmp_path / "page.png").write_bytes(picture.content)
    load_images = decode(tmp_path / "page.png")
    assert load_images.dtype == np.uint8
    np.testing.assert_allclose(load_images.astype(int), picture.grey, rtol=0, atol=picture.error)


@pytest.mark.parametrize(
    ("content", "grey"),
    [
        # A transparent grey level becomes white paper at any bit depth; 4-bit levels are 17 apart.
        (png(2, 1, 4, rows=b"\0\x59", tRNS=b"\0\5"), [255, 153]),
        (png(4, 1, 2, rows=b"\0\x1b", tRNS=b"\0\2"), [0, 85, 255, 255]),
        (png(2, 1, 8, rows=b"\0\x05\x59", tRNS=b"\0\5"), [255, 0x59]),
        (png(2, 1, 16, rows=b"\0\x01\xf4\x80\x80", tRNS=b"\x01\xf4"), [255, 128]),
        (png(1, 1, 16, 2, rows=b"\0" + b"\x80" * 6), [128]),
        (png(3, 1, 16, 2, rows=b"\0" + bytes(6) + b"\x80\0" * 3 + b"\xff" * 6, tRNS=b"\x80\0" * 3), [0, 255, 255]),
        (tiff(2, 1, 12, 1, b"\x00\x0f\xff"), [0, 255]),
        (tiff(2, 1, 8, 0, b"\x00\xc8"), [255, 55]),
    ],
)
def test_bit_depths_are_scaled_and_transparent_levels_become_white(content: bytes, grey: list[int], tmp_path: Path):
    (tmp_path / "page.png").write_bytes(content)
    assert decode(tmp_path / "page.png").tolist() == [grey]


LIES = {
    1: lambda page: page,
    2: np.fliplr,
    3: lambda page: np.rot90(page, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda page: np.rot90(page, -1),
    7: lambda page: np.rot90(page, 2).T,
    8: np.rot90,
    9: lambda page: page,  # not a valid orientation
}
"""The transform that makes stored pixels upright, by EXIF orientation."""


@pytest.mark.parametrize("lies", LIES)
@pytest.mark.parametrize(
    ("suffix", "mode"),
    [("png", "L"), ("png", "RGBA"), ("png", "I;16"), ("tiff", "L"), ("tiff", "I;16"), ("webp", "RGB")],
)
def test_exif_orientation_is_applied(suffix: str, mode: str, lies: int, tmp_path: Path):
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    deep = mode == "I;16"
    image = Image.fromarray(pixels * np.uint16(257) if deep else pixels)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = lies
    path = tmp_path / f"page.{suffix}"
    (image if deep else image.convert(mode)).save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_allclose(decode(path).astype(int), LIES[lies](pixels), atol=1 if suffix == "webp" else 0)


def test_damaged_exif_data_are_ignored(tmp_path: Path, photo: Image.Image):
    photo.save(tmp_path / "photo.png", exif=b"Exif\0\0no header of a TIFF")
    assert np.array_equal(decode(tmp_path / "photo.png"), np.asarray(photo))


def test_lab_images_are_refused(tmp_path: Path):
    flat("LAB", (50, 0, 0)).save(tmp_path / "page.tif")
    with pytest.raises(DataError, match=r"page\.tif: not a readable image \(.*LAB"):
        decode(tmp_path / "page.tif")


def test_a_grey_png_is_read_exactly(tmp_path: Path, photo: Image.Image):
    photo.save(tmp_path / "photo.png")
    assert np.array_equal(decode(tmp_path / "photo.png"), np.asarray(photo))


@pytest.mark.parametrize("size", [(640, 480), (64, 500), (5, 7)])
@pytest.mark.parametrize("suffix", ["png", "jpeg"])
def test_a_size_gives_a_square_at_any_aspect_ratio(size: tuple[int, int], suffix: str, tmp_path: Path):
    """The black left half stays on the left."""
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
def test_a_file_that_is_not_an_image_is_named(content: bytes, tmp_path: Path):
    (tmp_path / "1.png").write_bytes(content)
    with pytest.raises(DataError, match=r"1\.png: not a readable image"):
        decode(tmp_path / "1.png", size=8)


def test_floating_point_pixels_are_refused_rather_than_guessed(tmp_path: Path):
    Image.fromarray(np.full((2, 3), 0.5, np.float32)).save(tmp_path / "image.tiff")
    with pytest.raises(DataError, match="expected 1 to 16 bits a pixel"):
        decode(tmp_path / "image.tiff")


@pytest.mark.parametrize(("bits", "sample_format"), [(16, 2), (32, 1), (32, 2)])
def test_signed_and_32_bit_pixels_are_refused(bits: int, sample_format: int, tmp_path: Path):
    (tmp_path / "page.tif").write_bytes(tiff(1, 1, bits, 1, bytes(bits // 8), sample_format))
    with pytest.raises(DataError, match=r"page\.tif: .*signed and 32-bit pixels have no known range"):
        decode(tmp_path / "page.tif")


@pytest.mark.parametrize("format", ["png", "tiff", "webp"])
def test_an_animation_is_refused_rather_than_cut_to_its_first_image(format: str, tmp_path: Path):
    (tmp_path / "page.png").write_bytes(animated(format))
    with pytest.raises(DataError, match=r"page\.png: .*several pages: expected one image a file"):
        decode(tmp_path / "page.png")


def test_a_photo_with_an_embedded_preview_is_one_image(tmp_path: Path):
    photo, preview = flat("L", 200, (8, 8)), flat("L", 0, (4, 4))
    photo.save(tmp_path / "photo.jpg", "MPO", save_all=True, append_images=[preview])
    assert decode(tmp_path / "photo.jpg").tolist() == [[200] * 8] * 8


@pytest.mark.parametrize(
    "content", [animated("gif"), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n", b"P5 1 1 255 x"]
)
def test_unsupported_formats_are_refused(content: bytes, tmp_path: Path):
    (tmp_path / "page.png").write_bytes(content)
    with pytest.raises(DataError, match=r"not a readable image \(no PNG, JPEG, TIFF, BMP, WEBP\)"):
        decode(tmp_path / "page.png")


@pytest.mark.parametrize("side", [13_400, 2**31 - 1])
@pytest.mark.parametrize("limit", [Image.MAX_IMAGE_PIXELS, None])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(
    limit: int | None, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    (tmp_path / "bomb.png").write_bytes(png(side, side, 1, rows=bytes(10_000)))
    with pytest.raises(
        DataError, match=r"bomb\.png: not a readable image \(.*decompression bomb.*\); replace or remove"
    ):
        decode(tmp_path / "bomb.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_page_of_10_000_by_10_000_is_read(tmp_path: Path):
    page = flat("1", 1, (10_000, 10_000))
    page.paste(0, (9_000, 9_999, 10_000, 10_000))
    page.save(tmp_path / "large.png")
    load_images = decode(tmp_path / "large.png")
    assert load_images.shape == (10_000, 10_000)
    assert (load_images[9_999, :9_000] == 255).all()
    assert np.count_nonzero(load_images == 0) == 1000


# Not getrusage, whose peak is inherited from the parent process.
MEASURE = """
import re, sys
from pathlib import Path
from triptych.data.images import decode
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = peak()
page = decode(Path(sys.argv[1]))
print(page.shape, page[0, 0], peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are told in /proc")
@pytest.mark.parametrize(("mode", "bytes_a_pixel"), [("L", 1), ("I;16", 2), ("RGB", 4), ("RGBA", 4)])
def test_decoding_a_large_page_takes_little_more_memory_than_its_pixels(mode: str, bytes_a_pixel: int, tmp_path: Path):
    Image.new(mode, (10_000, 10_000)).save(tmp_path / "large.png", compress_level=1)
    command = [sys.executable, "-W", "error", "-c", MEASURE, str(tmp_path / "large.png")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    shape, peak = said.rsplit(maxsplit=1)
    assert shape.startswith("(10000, 10000)")
    # The stored pixels plus the grey ones twice (Pillow's and NumPy's copy); the peak is in kB.
    assert 1e8 < int(peak) * 1024 < (bytes_a_pixel + 2) * 1e8 + 150e6
    print(f"10,000 x 10,000 {mode}: {int(peak) / 1024:.0f} MiB")


@pytest.mark.parametrize("name", ["with space", "größe", "страница", "页", "صفحة", "a'b\"c", "new\nline", "%s{}", "🙂"])
def test_file_names_in_any_script_are_accepted(name: str, tmp_path: Path):
    folder = tmp_path / name
    folder.mkdir()
    flat("L", 7).save(folder / f"{name}.png")
    (found,) = find_images(folder)
    assert found.name == f"{name}.png"
    assert decode(found).tolist() == [[7] * 3] * 2


def test_a_file_name_that_is_not_utf8_is_refused(tmp_path: Path):
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).touch()
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(DataError, match=r"the name 'caf\\udce9.png' is not in UTF-8; rename the file"):
        find_images(tmp_path)


def test_names_that_differ_in_case_or_suffix_are_two_images(tmp_path: Path):
    for index, name in enumerate(["a.png", "a.jpg", "A.png"]):
        flat("L", index).save(tmp_path / name)
    assert [path.name for path in find_images(tmp_path)] == sorted({path.name for path in tmp_path.iterdir()})


def test_a_symlinked_image_is_read_and_a_symlinked_folder_refused(tmp_path: Path):
    pages, elsewhere = tmp_path / "pages", tmp_path / "elsewhere"
    pages.mkdir()
    elsewhere.mkdir()
    flat("L", 7).save(elsewhere / "1.png")
    (pages / "1.png").symlink_to(elsewhere / "1.png")
    assert [int(decode(path)[0, 0]) for path in find_images(pages)] == [7]
    (tmp_path / "link").symlink_to(pages)
    assert find_images(tmp_path / "link") == [tmp_path / "link" / "1.png"]
    for target in (elsewhere, pages):
        (pages / "more").symlink_to(target)
        with pytest.raises(DataError, match=r"more is a link to a folder: put the folder itself there, or links to"):
            find_images(pages)
        (pages / "more").unlink()


@pytest.mark.parametrize("place", [place for place in sorted(set(PLACES)) if place not in ("file", "link")])
def test_a_pipe_or_device_is_refused_without_blocking(place: str, tmp_path: Path):
    lay(tmp_path / "1.png", b"", place)
    with pytest.raises(DataError, match=r"1\.png: not a readable image \(.*\); replace or remove it"):
        decode(tmp_path / "1.png")


def test_images_are_found_recursively_in_name_order(tmp_path: Path):
    names = ["10.png", "2.PNG", "a/1.jpeg", "a/b/3.Tif", "z.webp"]
    for name in [*reversed(names), "._2.png", ".ipynb_checkpoints/2.png", "Thumbs.db", "notes.txt", "png"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)] == names
    assert find_images(tmp_path / "10.png") == [tmp_path / "10.png"]


def test_an_unreadable_folder_is_named_rather_than_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The permission error is simulated, because the tests may run as root, to whom nothing is forbidden."""
    for name in ("1.png", "locked/2.png", ".locked/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name in ("locked", ".locked"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"/locked: the folder cannot be read \(Permission denied\); allow it, or move"):
        find_images(tmp_path)
    (tmp_path / "locked").rename(tmp_path / ".locked too")
    monkeypatch.setattr(os, "scandir", scandir)
    assert find_images(tmp_path) == [tmp_path / "1.png"]


def test_a_missing_or_empty_folder_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"no folder .*train: expected one with images \(\.png, "):
        find_images(tmp_path / "train")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "readme.txt").touch()
    with pytest.raises(DataError, match=r"no images \(\.png, .*\) in .*train: put some there"):
        find_images(tmp_path / "train")
