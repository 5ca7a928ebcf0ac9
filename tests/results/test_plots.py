"""Example figures: number of panels, titles, and no error for any output of a network."""

import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from triptych.results.colours import BLUE, RED
from triptych.results.plots import pages, prices, xrays

RANDOM = np.random.default_rng(0)


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes if axis.get_visible()]


def drawn(figure: Figure, folder: Path) -> bool:
    """Whether the figure renders as a PNG: much of matplotlib only runs then."""
    figure.savefig(folder / "figure.png")
    return (folder / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("count", "height", "width"), [(1, 8, 8), (3, 20, 40), (2, 1, 1)])
def test_pages_have_three_panels_per_row(count: int, height: int, width: int, tmp_path: Path):
    dirty, cleaned, target = RANDOM.random((3, count, height, width))
    figure = pages(dirty, cleaned, target)
    assert len(titles(figure)) == 3 * count
    assert [title.partition(",")[0] for title in titles(figure)[:3]] == ["dirty", "cleaned", "target"]
    assert drawn(figure, tmp_path)


def test_pages_show_the_error_of_each_page():
    target = np.zeros((2, 4, 4))
    figure = pages(target + 0.5, target + np.array([0.25, 0.125])[:, None, None], target)
    assert titles(figure) == [
        *("dirty, RMSE 0.500", "cleaned, RMSE 0.250", "target"),
        *("dirty, RMSE 0.500", "cleaned, RMSE 0.125", "target"),
    ]


@pytest.mark.parametrize("count", [1, 5, 6, 7, 12])
def test_xrays_have_one_panel_each(count: int, tmp_path: Path):
    figure = xrays(RANDOM.random((count, 8, 8)), RANDOM.random(count), RANDOM.integers(2, size=count))
    assert len(titles(figure)) == count
    assert drawn(figure, tmp_path)


def test_xrays_show_probability_and_label_and_colour_mistakes():
    figure = xrays(np.zeros((4, 8, 8)), np.array([0.9, 0.9, 0.1, 0.1]), np.array([1, 0, 1, 0]))
    assert titles(figure) == ["P 0.90, is ill", "P 0.90, is well", "P 0.10, is ill", "P 0.10, is well"]
    assert [axis.title.get_color() for axis in figure.axes[:4]] == [BLUE, RED, RED, BLUE]


def test_prices_have_one_panel_with_rmse_and_equal_axes(tmp_path: Path):
    figure = prices(np.array([100_000.0, 300_000.0]), np.array([130_000.0, 340_000.0]))
    assert titles(figure) == ["validation, RMSE 35.4 thousand dollars"]
    (axis,) = figure.axes
    assert axis.get_xlim() == axis.get_ylim() == (0, pytest.approx(340 * 1.03))
    assert axis.collections[0].get_offsets().tolist() == [[100, 130], [300, 340]]  # type: ignore[union-attr]
    assert drawn(figure, tmp_path)


@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf, 1e38, -1e38])
def test_a_diverged_network_still_has_a_figure(wild: float, tmp_path: Path):
    answers = np.array([wild, 0.5, wild], dtype=np.float32)
    truth = np.array([1.0, 0.0, 1.0], dtype=np.float32)
    images = np.zeros((3, 4, 4), dtype=np.float32)
    with np.errstate(all="ignore"):
        assert drawn(prices(truth * 200_000, answers), tmp_path)
        assert drawn(prices(truth * 200_000, np.full(3, wild, dtype=np.float32)), tmp_path)
        assert drawn(xrays(images, answers, truth), tmp_path)
        assert drawn(pages(images, images + wild, images), tmp_path)


def test_figures_are_not_registered_with_pyplot():
    prices(np.array([1.0]), np.array([1.0]))
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
