"""Cleaning of a user's pages: they are read, cleaned, saved as PNGs, and collected into Kaggle's submission."""

import errno
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from triptych.data.errors import DataError, reason
from triptych.data.images import decode
from triptych.files import atomic_write, plain

MADE_FROM = "triptych:made_from"
"""PNG text key in a cleaned page, under which is a digest of the dirty page and the weights it was made from."""
OF_ONE_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
"""Errors caused by one page's name or location; any other, such as a full disk, affects all pages."""


@dataclass(frozen=True)
class Page:
    """A page on its way through ``load``, ``clean`` and ``save``.

    Attributes:
        path: the dirty page's file.
        target: the file of the cleaned one.
        made_from: a digest of what the cleaned page is made from.
        pixels: uint8 (height, width), dirty and later clean; None if there is nothing to do.
        error: why the page is skipped.
    """

    path: Path
    target: Path
    made_from: str = ""
    pixels: np.ndarray | None = None
    error: str | None = None


def load(path: Path, target: Path, weights: str, resume: bool) -> Page:
    """Decode a page, unless ``resume`` finds it intact at ``target``, made from the same page by the same weights."""
    try:
        made_from = _digest(path, weights)
        if resume and _made_from(target) == made_from:
            return Page(path, target)
        return Page(path, target, made_from, decode(path))
    except DataError as error:
        return Page(path, target, error=str(error))


def _digest(path: Path, weights: str) -> str:
    digest = hashlib.sha256(weights.encode())
    try:
        with plain(path).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise DataError(f"{path}: not a readable image ({reason(error)}); replace or remove it") from error
    return digest.hexdigest()


def _made_from(target: Path) -> str | None:
    """Return the digest recorded in a cleaned page; None if the file is missing or damaged."""
    try:
        with Image.open(target) as image:
            image.verify()  # verifies the checksums without decoding
            return image.info.get(MADE_FROM)
    except (OSError, ValueError, SyntaxError):
        return None


def clean(model: Any, page: Page, tile: int) -> Page:
    """Clean a page: at once, or in tiles of side ``tile`` if one of its own sides is longer and ``tile`` > 0.

    Raises:
        ValueError: the tiles are too small for the network.
    """
    if page.pixels is None:
        return page
    dirty = torch.from_numpy(page.pixels)
    if tile == 0 or max(dirty.shape) <= tile:
        return replace(page, pixels=_to_bytes(model.predict(dirty[None, None].float() / 255)["page"][0, 0]))
    pixels = np.empty_like(page.pixels)
    try:
        for rows, columns, part in model.predict_in_tiles(dirty, tile):
            pixels[rows, columns] = _to_bytes(part)
    except MemoryError as error:
        return replace(page, pixels=None, error=f"{page.path}: {error}")
    return replace(page, pixels=pixels)


def _to_bytes(page: torch.Tensor) -> np.ndarray:
    return (page * 255).round().byte().numpy()


def save(page: Page) -> Page:
    """Save the cleaned page atomically; returns it, with ``error`` set if its name or location is impossible.

    Raises:
        OSError: no page can be written, as on a full disk.
    """
    if page.pixels is None:
        return page
    text = PngInfo()
    text.add_text(MADE_FROM, page.made_from)
    try:
        page.target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(page.target) as aside:
            Image.fromarray(page.pixels).save(aside, pnginfo=text)
    except OSError as error:
        if error.errno not in OF_ONE_NAME:
            raise
        why = f"the cleaned page cannot be saved as {page.target} ({reason(error)})"
        return replace(page, pixels=None, error=f"{page.path}: {why}; rename one, or choose another folder")
    return page


def write_submission(pages: Iterable[Path], output: Path) -> None:
    """Write Kaggle's ``submission.csv``: for each pixel ``image_row_column``, counted from 1, and its value in [0, 1].

    The values are those of the PNGs, in steps of 1/255; that adds less than 0.0001 to an RMSE of 0.025.
    """
    with atomic_write(output / "submission.csv") as aside, aside.open("w", encoding="utf-8", newline="\n") as file:
        file.write("id,value\n")
        for path in pages:
            file.writelines(_submission_rows(path.stem, decode(path)))


def _submission_rows(stem: str, page: np.ndarray) -> Iterator[str]:
    """Yield the lines of each row of pixels, joined from precomputed strings: a page has 200,000 lines."""
    quote = '"' if re.search(r'[,"\r\n]', stem) else ""
    page_id = quote + (stem.replace('"', '""') if quote else stem)
    values = [f"{value / 255:.4f}\n" for value in range(256)]
    columns = [f"_{column}{quote}," for column in range(1, page.shape[1] + 1)]
    for number, row in enumerate(page.tolist(), start=1):
        start = f"{page_id}_{number}"
        yield "".join([start + column + values[value] for column, value in zip(columns, row, strict=True)])
