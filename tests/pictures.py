"""Image files of every kind, intact and damaged, with the grey levels they should decode to."""

import os
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

MAGIC = (
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\x00\x10JFIF", b"II*\x00", b"MM\x00*", b"BM"),
    b"RIFF\x10\x00\x00\x00WEBPVP8 ",
)
"""Magic bytes of each format."""


@dataclass(frozen=True)
class Picture:
    """A file's content and what decoding must give: ``grey``, to within ``error`` levels, or a refusal if it is None.

    If ``torn``, the content is damaged: decoding may also refuse it, and ``grey`` is None if any result is allowed.
    """

    kind: str
    suffix: str
    content: bytes
    grey: np.ndarray | None
    error: int = 0
    torn: bool = False


def saved(image: Image.Image, suffix: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG" if suffix == "jpg" else suffix, **options)
    return file.getvalue()


def luma(rgb: np.ndarray) -> np.ndarray:
    """Convert colour to grey as in ITU-R BT.601."""
    return (rgb @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)


def png(width: int, height: int, depth: int = 8, colour: int = 0, rows: bytes = b"", **chunks: bytes) -> bytes:
    """Encode a PNG by hand; each of ``rows`` is a filter byte followed by the packed pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    more = b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    body = chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return MAGIC[0] + body


def tiff(width: int, height: int, bits: int, photometric: int, pixels: bytes, sample_format: int = 1) -> bytes:
    """Encode a TIFF of one uncompressed strip by hand; photometric 0 is white-is-zero, 1 black-is-zero."""
    size = len(pixels)
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: size}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in (tags | {339: sample_format}).items()]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\x00" + struct.pack("<I", 8 + size) + pixels + directory


def whole(page: np.ndarray, kind: str, suffix: str = "png") -> Picture:
    """Encode a page, uint8 (height, width), as a file of a kind (see KINDS); some kinds lose part of its levels."""
    image = Image.fromarray(page)
    height, width = page.shape
    if kind == "grey":
        return Picture(kind, suffix, saved(image, "png"), page)
    if kind == "jpeg":
        return Picture(kind, suffix, saved(image, "jpeg", quality=100), page, 4)
    if kind == "webp":
        return Picture(kind, suffix, saved(image.convert("RGB"), "webp", lossless=True), page, 1)
    if kind == "bilevel":
        return Picture(kind, suffix, saved(image.point(lambda grey: 255 * (grey > 99), "1"), "png"), 255 * (page > 99))
    if kind == "packed":
        bits = np.unpackbits(page[..., None] >> 4, axis=2)[..., 4:].reshape(height, -1)
        rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
        return Picture(kind, suffix, png(width, height, 4, rows=rows), 17 * (page >> 4))
    if kind == "16-bit png":
        return Picture(kind, suffix, saved(Image.fromarray(page * np.uint16(257)), "png"), page)
    if kind == "16-bit tiff":
        return Picture(kind, suffix, saved(Image.fromarray(page * np.uint16(257)), "tiff"), page)
    if kind == "16-bit white is zero":
        return Picture(kind, suffix, tiff(width, height, 16, 0, (~(page * np.uint16(257))).tobytes()), page)
    if kind == "palette":
        # The palette is permuted, so that indices are not grey levels.
        places = np.random.default_rng(0).permutation(256).astype(np.uint8)
        indexed = Image.frombytes("P", image.size, places[page].tobytes())
        indexed.putpalette(np.argsort(places).astype(np.uint8).repeat(3).tobytes())
        return Picture(kind, suffix, saved(indexed, "png"), page)
    if kind == "colour":
        rgb = np.stack([page, 255 - page, page // 2], axis=2)
        return Picture(kind, suffix, saved(Image.fromarray(rgb), "bmp"), luma(rgb), 1)
    if kind == "see-through":
        rgba = np.stack([page * 0] * 3 + [255 - page], axis=2)  # black ink over white paper
        return Picture(kind, suffix, saved(Image.fromarray(rgba), "png"), page, 1)
    assert kind == "cmyk", kind
    cmyk = np.stack([page * 0] * 3 + [255 - page], axis=2)
    return Picture(kind, suffix, saved(Image.frombytes("CMYK", image.size, cmyk.tobytes()), "tiff"), page, 1)


KINDS = (
    *("grey", "jpeg", "webp", "bilevel", "packed", "16-bit png", "16-bit tiff", "16-bit white is zero", "palette"),
    *("colour", "see-through", "cmyk"),
)


def animated(format: str) -> bytes:
    first, *others = (Image.new("RGB", (8, 8), (level,) * 3) for level in (0, 100, 255))
    return saved(first, format, save_all=True, append_images=others)


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    """Any file in the place of an image: intact (half of them), damaged, or no image at all."""
    page = draw(pages())
    # Suffix and content need not match: decoding goes by the content.
    suffix = draw(st.sampled_from(("png", "PNG", "jpg", "jpeg", "tif", "TIFF", "bmp", "webp")))
    picture = whole(page, draw(st.sampled_from(KINDS)), suffix)
    damage = draw(st.sampled_from(("none",) * 6 + ("cut", "changed", "noise", "frames", "bomb", "float")))
    content = picture.content
    if damage == "cut":
        content = content[: draw(st.integers(0, len(content) - 1))]
        # A truncated file may be read only if no pixels are missing, except for the last few of a JPEG.
        return Picture(damage, suffix, content, None if picture.kind == "jpeg" else picture.grey, picture.error, True)
    if damage == "changed":
        content = bytearray(content)
        for _ in range(draw(st.integers(1, 4))):
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
        return Picture(damage, suffix, bytes(content), None, torn=True)
    if damage == "noise":
        return Picture(damage, suffix, draw(st.sampled_from((b"", *MAGIC))) + draw(st.binary(max_size=64)), None)
    if damage == "frames":
        format = draw(st.sampled_from(("png", "gif", "webp", "tiff")))
        return Picture(damage, suffix, animated(format), None)
    if damage == "bomb":
        side = draw(st.integers(13_400, 2**31 - 1))
        return Picture(damage, suffix, png(side, side, rows=bytes(100)), None)
    if damage == "float":
        return Picture(damage, suffix, saved(Image.fromarray(page.astype(np.float32)), "tiff"), None)
    return picture


def pages() -> st.SearchStrategy[np.ndarray]:
    """Generate pages of a few pixels, uint8 (height, width)."""
    return arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def names() -> st.SearchStrategy[str]:
    """Generate file names without a suffix, in any script, with spaces, quotes and line breaks."""
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20)
    return text.filter(lambda name: not name.startswith("."))


PLACES = ("file",) * 6 + ("link", "broken link", "circle", "device", "pipe", "folder")
"""What may be found in the place of a file."""


def lay(path: Path, content: bytes, place: str) -> bool:
    """Put ``content`` at ``path``, or what ``place`` names instead; return whether the content can be read there."""
    if place == "file":
        path.write_bytes(content)
    elif place == "link":
        original = path.parents[1] / "original"
        original.write_bytes(content)
        path.symlink_to(original)
    elif place == "pipe":
        os.mkfifo(path)
    elif place == "folder":
        path.mkdir()
    else:
        path.symlink_to({"broken link": "nowhere", "circle": path.name, "device": "/dev/zero"}[place])
    return place in ("file", "link")
