"""Cleaning a user's own pages: whole or in tiles, resumed or from scratch, and the Kaggle submission."""

import csv
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.pictures import lay
from torch import Tensor

from triptych.data.documents import DocumentDataModule
from triptych.data.errors import DataError
from triptych.data.images import decode


class Negative:
    """A model that inverts pages and records the size of each input."""

    hparams = SimpleNamespace()

    def __init__(self) -> None:
        self.shown: list[tuple[int, ...]] = []

    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        self.shown.append(tuple(inputs.shape[-2:]))
        return {"page": 1 - inputs}

    def predict_in_tiles(self, page: Tensor, side: int) -> Iterator[tuple[slice, slice, Tensor]]:
        assert page.dtype == torch.uint8
        if page.shape[0] == 99:
            raise MemoryError("too many at once")
        for top in range(0, page.shape[0], side):
            for left in range(0, page.shape[1], side):
                part = page[top : top + side, left : left + side]
                self.shown.append(tuple(part.shape))
                yield slice(top, top + part.shape[0]), slice(left, left + part.shape[1]), 1 - part / 255


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Three pages of noise of different sizes, one of them in a subfolder."""
    folder = tmp_path / "pages"
    generator = np.random.default_rng(0)
    for name, size in {"1.png": (3, 5), "2.png": (40, 30), "more/3.png": (7, 64)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(256, size=size, dtype=np.uint8)).save(folder / name)
    return folder


def cleaned(model: Any, source: Path, output: Path, **options: Any) -> list[str]:
    output.mkdir(exist_ok=True)
    return list(DocumentDataModule().predict_files(model, source, output, **options))


def check(pages: Path, output: Path) -> None:
    for path in pages.rglob("*.png"):
        assert np.array_equal(decode(output / path.relative_to(pages)), 255 - decode(path))


@pytest.mark.parametrize(
    ("tile", "shown"),
    [
        (None, [(3, 5), (40, 30), (7, 64)]),
        (0, [(3, 5), (40, 30), (7, 64)]),
        (40, [(3, 5), (40, 30), (7, 40), (7, 24)]),
        (32, [(3, 5), (32, 30), (8, 30), (7, 32), (7, 32)]),
    ],
)
def test_pages_longer_than_a_tile_are_cleaned_in_tiles(tile: int | None, shown: list[Any], pages: Path, tmp_path: Path):
    model = Negative()
    assert cleaned(model, pages, tmp_path / "out", tile=tile) == []
    assert model.shown == shown
    check(pages, tmp_path / "out")


def test_by_default_pages_above_1024_pixels_are_cleaned_in_tiles(tmp_path: Path):
    Image.new("L", (1025, 2), 7).save(tmp_path / "wide.png")
    model = Negative()
    cleaned(model, tmp_path / "wide.png", tmp_path / "out")
    assert model.shown == [(2, 1024), (2, 1)]


def test_a_page_that_exhausts_memory_is_skipped(pages: Path, tmp_path: Path):
    Image.new("L", (50, 99)).save(pages / "0.png")
    (line,) = cleaned(Negative(), pages, tmp_path / "out", tile=64)
    assert line == f"{pages / '0.png'}: too many at once"
    assert not (tmp_path / "out" / "0.png").exists()
    assert (tmp_path / "out" / "1.png").exists()


@pytest.mark.parametrize("place", ["pipe", "device", "folder", "broken link"])
def test_a_pipe_or_device_is_skipped_without_blocking(place: str, pages: Path, tmp_path: Path):
    lay(pages / "0.png", b"", place)
    (line,) = cleaned(Negative(), pages, tmp_path / "out")
    assert line.startswith(f"{pages / '0.png'}: not a readable image (")
    assert line.endswith("); replace or remove it")
    assert (tmp_path / "out" / "1.png").exists()


def test_a_page_with_a_name_of_maximal_length_is_cleaned(pages: Path, tmp_path: Path):
    (pages / "1.png").rename(pages / f"{'n' * 251}.png")
    assert cleaned(Negative(), pages, tmp_path / "out") == []
    check(pages, tmp_path / "out")


def test_a_page_that_cannot_be_saved_is_skipped(pages: Path, tmp_path: Path):
    (tmp_path / "out" / "2.png").mkdir(parents=True)
    (tmp_path / "out" / "more").touch()
    told: list[tuple[int, int]] = []
    options: dict[str, Any] = {"submission": True, "progress": lambda *count: told.append(count)}
    lines = cleaned(Negative(), pages, tmp_path / "out", **options)
    for line, name in zip(lines, ("2.png", "more/3.png"), strict=True):
        said = rf"{pages / name}: the cleaned page cannot be saved as {tmp_path / 'out' / name} \(.*\); rename one, or"
        assert re.match(said, line)
    assert told[-1] == (3, 3)
    assert (tmp_path / "out" / "submission.csv").read_text().count("\n") == 1 + 3 * 5
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.png", "2.png", "more", "submission.csv"]


def test_any_page_name_is_one_cell_of_the_submission(pages: Path, tmp_path: Path):
    (pages / "1.png").rename(pages / 'a, "b".png')
    assert cleaned(Negative(), pages, tmp_path / "out", submission=True) == []
    with (tmp_path / "out" / "submission.csv").open(newline="") as file:
        ids, values = zip(*csv.reader(file), strict=True)
    assert {'a, "b"_1_1', 'a, "b"_3_5', "2_40_30"} <= set(ids)
    assert len(ids) == 1 + 3 * 5 + 40 * 30 + 7 * 64
    assert all(0 <= float(value) <= 1 for value in values[1:])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_error_ends_the_prediction(number: int, pages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        cleaned(Negative(), pages, tmp_path / "out")


def test_resume_keeps_outputs_of_the_same_page_and_weights(pages: Path, tmp_path: Path):
    out = tmp_path / "out"
    cleaned(Negative(), pages, out, weights="a")
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    model = Negative()
    cleaned(model, pages, out, weights="a", resume=True)
    assert model.shown == []
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == times

    (out / "1.png").unlink()  # missing, truncated, and made from another page
    (out / "2.png").write_bytes((out / "2.png").read_bytes()[:-30])
    Image.new("L", (8, 8), 9).save(pages / "more" / "3.png")
    cleaned(model, pages, out, weights="a", resume=True)
    assert model.shown == [(3, 5), (40, 30), (8, 8)]
    check(pages, out)

    model.shown.clear()
    Image.new("L", (3, 5)).save(out / "1.png")  # not written by a prediction
    cleaned(model, pages, out, weights="a", resume=True)
    assert model.shown == [(3, 5)]
    cleaned(model, pages, out, weights="b", resume=True)
    assert len(model.shown) == 4
    cleaned(model, pages, out, weights="b")
    assert len(model.shown) == 7


def test_an_interruption_leaves_only_whole_pages(pages: Path, tmp_path: Path):
    class Tired(Negative):
        def predict(self, inputs: Tensor) -> dict[str, Tensor]:
            if len(self.shown) == 2:
                raise KeyboardInterrupt
            return super().predict(inputs)

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        cleaned(Tired(), pages, out, submission=True, weights="a")
    left = {path.relative_to(out).as_posix() for path in out.rglob("*.*")}
    assert left <= {"1.png", "2.png"}
    model = Negative()
    cleaned(model, pages, out, submission=True, weights="a", resume=True)
    assert len(model.shown) == 3 - len(left)
    check(pages, out)


def test_a_resumed_submission_equals_an_uninterrupted_one(pages: Path, tmp_path: Path):
    cleaned(Negative(), pages, tmp_path / "whole", submission=True, weights="a")
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    (tmp_path / "half" / "2.png").unlink()
    (tmp_path / "half" / "submission.csv").unlink()
    cleaned(Negative(), pages, tmp_path / "half", submission=True, weights="a", resume=True)
    expected = (tmp_path / "whole" / "submission.csv").read_bytes()
    assert (tmp_path / "half" / "submission.csv").read_bytes() == expected

    with (tmp_path / "whole" / "submission.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "value"]
    by_hand = [
        [f"{path.stem}_{row}_{column}", f"{value / 255:.4f}"]
        for path in sorted((tmp_path / "whole").rglob("*.png"))
        for row, values in enumerate(decode(path).tolist(), start=1)
        for column, value in enumerate(values, start=1)
    ]
    assert rows == by_hand


def test_two_pages_with_the_same_output_name_are_refused(pages: Path, tmp_path: Path):
    Image.new("L", (4, 4)).save(pages / "2.jpg")
    with pytest.raises(DataError, match=r"2\.jpg and .*2\.png would both become 2\.png: rename one"):
        cleaned(Negative(), pages, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_two_pages_with_the_same_id_are_refused_for_a_submission(pages: Path, tmp_path: Path):
    shutil.copy(pages / "1.png", pages / "more" / "1.png")
    with pytest.raises(DataError, match="would both become image 1 of the submission: rename one"):
        cleaned(Negative(), pages, tmp_path / "out", submission=True)
    cleaned(Negative(), pages, tmp_path / "out")
    check(pages, tmp_path / "out")


def test_an_output_folder_inside_the_input_is_not_an_input(pages: Path):
    for _ in range(2):
        cleaned(Negative(), pages, pages / "clean")
    written = {path.relative_to(pages / "clean").as_posix() for path in (pages / "clean").rglob("*.png")}
    assert written == {"1.png", "2.png", "more/3.png"}


def test_an_output_folder_around_the_input_never_overwrites_it(pages: Path, tmp_path: Path):
    (pages / "pages").mkdir()
    shutil.copy(pages / "1.png", pages / "pages" / "1.png")  # would become pages/1.png
    with pytest.raises(DataError, match="would replace the dirty ones: choose another folder"):
        cleaned(Negative(), pages, tmp_path)


def test_progress_counts_pages(pages: Path, tmp_path: Path):
    told: list[tuple[int, int]] = []
    (pages / "0.png").write_text("no image")
    assert len(cleaned(Negative(), pages, tmp_path / "out", progress=lambda *count: told.append(count))) == 1
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
