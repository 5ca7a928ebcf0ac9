"""Prediction inputs: which files count, in which order, and how many are read ahead at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from triptych.data.errors import DataError
from triptych.data.predicting import find_inputs, refuse_namesakes, submit_ahead


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2)).save(path)
    return path


def test_inputs_are_sorted_and_named_relative_to_the_source(tmp_path: Path):
    for name in ("b.png", "a/2.jpg", "a/1.png"):
        image(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    found = find_inputs(tmp_path, tmp_path.parent / "out")
    assert list(found.values()) == ["a/1.png", "a/2.jpg", "b.png"]
    assert all(path == tmp_path / name for path, name in found.items())
    assert find_inputs(tmp_path / "b.png", tmp_path / "out") == {tmp_path / "b.png": "b.png"}


def test_earlier_outputs_are_not_inputs(tmp_path: Path):
    for name in ("pages/1.png", "pages/clean/1.png", "pages/cleanest/1.png"):
        image(tmp_path / name)
    left = ["1.png", "cleanest/1.png"]
    assert list(find_inputs(Path("pages"), tmp_path / "pages" / "clean").values()) == left
    assert list(find_inputs(tmp_path / "pages", Path("pages/../pages/clean")).values()) == left
    assert len(find_inputs(Path("pages"), Path("pages"))) == 3
    (tmp_path / "pages" / "1.png").unlink()
    (tmp_path / "pages" / "cleanest" / "1.png").unlink()
    with pytest.raises(DataError, match="no images in pages but those in pages/clean, where predictions go"):
        find_inputs(Path("pages"), Path("pages/clean"))


def test_two_inputs_with_the_same_output_are_refused(tmp_path: Path):
    paths = [tmp_path / name for name in ("a.png", "b.png", "A.jpg")]
    with pytest.raises(DataError, match=r"a\.png and .*A\.jpg would both become A\.png: rename one"):
        refuse_namesakes(paths, lambda path: path.with_suffix(".png").name)
    refuse_namesakes(paths, lambda path: path.name)


def test_results_come_in_order_with_a_bounded_read_ahead():
    begun: list[int] = []
    first_waits = threading.Event()

    def square(number: int) -> int:
        if number == 0:
            assert first_waits.wait(60)
        return number**2

    def numbers():
        for number in range(100):
            begun.append(number)
            yield number

    with ThreadPoolExecutor(4) as pool:
        results = submit_ahead(pool, square, numbers(), 3)
        number, result = next(results)
        assert (number, begun) == (0, [0, 1, 2])
        first_waits.set()
        assert result.result() == 0
        found = []
        for number, result in results:
            assert len(begun) <= number + 3
            found.append(result.result())
    assert found == [number**2 for number in range(1, 100)]


def test_an_error_belongs_to_its_own_item():
    with ThreadPoolExecutor(2) as pool:
        found = [(item, result.exception()) for item, result in submit_ahead(pool, int, ["1", "x", "3"], 2)]
    assert [item for item, error in found if error] == ["x"]


def test_closing_early_starts_no_further_items():
    begun = []
    with ThreadPoolExecutor(1) as pool:
        results = submit_ahead(pool, begun.append, range(100), 50)
        next(results)
        results.close()
    assert len(begun) <= 50
