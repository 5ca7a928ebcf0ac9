"""Metrics and figures of X-ray classification."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from tests.callbacks.analysis.small import XrayBatches
from tests.tiny import classifier, trainer, xrays

from triptych.callbacks.analysis import xray_plots as plots
from triptych.callbacks.analysis.curves import bands
from triptych.callbacks.analysis.xrays import (
    XrayAnalysis,
    most_confident_errors,
    operating_point,
    rows_of_each_outcome,
    select_images,
)
from triptych.terminal import quiet_lightning

NAMES = ["NORMAL", "PNEUMONIA"]
LABELS = np.array([1, 1, 1, 0, 0, 0, 0])
PROBABILITIES = np.array([0.9, 0.2, 0.4, 0.95, 0.1, 0.55, 0.3], np.float32)
PREDICTED = (PROBABILITIES > 0.5).astype(int)
IMAGES = np.random.default_rng(0).random((7, 6, 6)).astype(np.float32)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes if axis.get_visible() and axis.get_title()]


def test_the_most_confident_errors_come_first():
    # Probability of the true class: 0.05 in row 3, 0.2 in row 1, 0.4 in row 2, 0.45 in row 5.
    assert most_confident_errors(LABELS, PROBABILITIES, PREDICTED, 20).tolist() == [3, 1, 2, 5]
    assert most_confident_errors(LABELS, PROBABILITIES, PREDICTED, 2).tolist() == [3, 1]
    assert most_confident_errors(LABELS, PROBABILITIES, LABELS, 20).tolist() == []
    # Errors are judged by the predicted labels given, whatever their threshold.
    assert most_confident_errors(LABELS, PROBABILITIES, (PROBABILITIES > 0.7).astype(int), 20).tolist() == [3, 1, 2]


def test_each_outcome_has_its_most_confident_samples():
    assert rows_of_each_outcome(LABELS, PROBABILITIES, PREDICTED, 1).tolist() == [0, 1, 4, 3]
    assert rows_of_each_outcome(LABELS, PROBABILITIES, PREDICTED, 2).tolist() == [0, 1, 2, 4, 6, 3, 5]
    assert rows_of_each_outcome(LABELS, PROBABILITIES, LABELS, 1).tolist() == [0, 4]


def test_the_operating_point_lies_on_both_curves():
    assert operating_point(LABELS, PREDICTED) == pytest.approx((2 / 4, 1 / 3, 1 / 3))
    nobody = operating_point(LABELS, np.zeros_like(LABELS))
    assert nobody[:2] == (0, 0)
    assert np.isnan(nobody[2])


def test_the_confusion_matrix_shows_counts_and_shares():
    figure = plots.confusion(LABELS, PREDICTED, NAMES, 0.5)
    assert texts(figure) == ["2\n50.0 %", "2\n50.0 %", "2\n66.7 %", "1\n33.3 %"]
    # A split of one class still has both rows.
    assert texts(plots.confusion(np.ones(3, int), np.array([1, 1, 0]), NAMES, 0.5))[:2] == ["0\n0.0 %", "0\n0.0 %"]


@pytest.mark.parametrize(("strength", "enlarged"), [(3.0, True), (1.2, False), (0.3, False), (-1.0, False)])
def test_the_roc_corner_is_enlarged_if_the_curve_passes_through_it(strength: float, enlarged: bool):
    random = np.random.default_rng(0)
    labels = np.arange(400) % 2
    probabilities = (1 / (1 + np.exp(-strength * labels - random.standard_normal(400)))).astype(np.float32)
    roc, recall = bands(labels, probabilities, replicates=5)
    axis = plots.curves(roc, recall, (0.1, 0.9, 0.9), 0.5, "PNEUMONIA", "images").axes[0]
    assert len(axis.child_axes) == enlarged
    for corner in axis.child_axes:
        x, y = corner.lines[0].get_data()
        inside = (np.asarray(x) > 0) & (np.asarray(x) < 0.2) & (np.asarray(y) > 0.8) & (np.asarray(y) < 1)
        assert inside.any()


def test_the_reliability_diagram_shows_shares_and_counts():
    labels = np.array([1] * 3 + [0] * 7 + [1] * 9 + [0])
    probabilities = np.array([0.3] * 10 + [0.9] * 10, np.float32)
    figure = plots.calibration(labels, probabilities, "PNEUMONIA")
    assert titles(figure) == ["Calibration on 20 test X-rays: ECE 0.000, 15 bins"]
    points = figure.axes[0].containers[0][0]  # type: ignore[index]
    assert points.get_xdata().tolist() == pytest.approx([0.3, 0.9])
    assert points.get_ydata().tolist() == pytest.approx([0.3, 0.9])
    assert [text.get_text() for text in figure.axes[1].texts] == ["10", "10"]
    wrong = plots.calibration(1 - labels, probabilities, "PNEUMONIA")
    assert titles(wrong) == ["Calibration on 20 test X-rays: ECE 0.600, 15 bins"]
    # A probability of exactly 1 falls into the last bin.
    assert plots.calibration(np.array([1, 0]), np.array([1, 0], np.float32), "x").axes[1].texts[1].get_text() == "1"


def test_errors_are_titled_with_file_class_and_probability():
    rows = most_confident_errors(LABELS, PROBABILITIES, PREDICTED, 2)
    files = ["test/NORMAL/IM-0001-0001.jpeg", "test/PNEUMONIA/person1_virus_11.jpeg"]
    figure = plots.errors(IMAGES[rows], files, LABELS[rows], PROBABILITIES[rows], NAMES, 4, 0.5)
    assert titles(figure) == [
        "IM-0001-0001.jpeg\nis NORMAL, P(PNEUMONIA) 0.950",
        "person1_virus_11.jpeg\nis PNEUMONIA, P(PNEUMONIA) 0.200",
    ]
    expected = "The 2 most confident of 4 test X-rays that were called wrong, at a threshold of 0.500"
    assert figure.get_suptitle() == expected
    shown = np.asarray(figure.axes[0].images[0].get_array())
    assert np.array_equal(shown, IMAGES[3])


@pytest.mark.parametrize("name", ["a$^$.jpeg", "5$ and 6$.jpeg"])
def test_dollar_signs_in_a_file_name_are_not_parsed_as_math(name: str):
    figure = plots.errors(IMAGES[:1], [f"test/NORMAL/{name}"], LABELS[:1], PROBABILITIES[:1], NAMES, 1, 0.5)
    figure.savefig(BytesIO())
    title = figure.axes[0].title
    assert title.get_text().splitlines()[0] == name
    assert not title.get_parse_math()


def test_the_absence_of_errors_is_stated():
    figure = plots.errors(np.empty((0, 1, 1)), [], np.empty(0, int), np.empty(0), NAMES, 0, 0.5)
    assert figure.get_suptitle() == "No test X-ray was called wrong"


def test_a_long_file_name_is_shortened_in_the_middle():
    assert plots.shortened("a/b/short.jpeg") == "short.jpeg"
    assert plots.shortened("a/" + "x" * 30 + "0123456789.jpeg", 13) == "xxxxx....jpeg"


def test_chosen_images_match_their_rows(tmp_path: Path):
    data = XrayBatches(xrays(4), xrays(5, 3, 4, seed=1))
    run = trainer(tmp_path)
    with quiet_lightning():
        run.test(classifier(), datamodule=data, verbose=False)
    images = torch.cat([images for images, _ in data.held_out])[:, 0]
    assert torch.equal(select_images(run, [11, 0, 5, 7]), images[[11, 0, 5, 7]])
    assert len(select_images(run, [])) == 0


class Ill(XrayBatches):
    """Test X-rays of a single class."""

    def __init__(self) -> None:
        images, labels = xrays(6, seed=1)[0]
        super().__init__(xrays(4), [(images[labels == 1], labels[labels == 1])])


@pytest.mark.filterwarnings("ignore:No negative samples")
def test_a_split_of_one_class_has_no_curves(tmp_path: Path):
    run = trainer(tmp_path, callbacks=[XrayAnalysis(str(tmp_path))])
    with quiet_lightning():
        run.test(classifier(), datamodule=Ill(), verbose=False)
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert names == {f"test-{name}" for name in ("calibration", "confusion", "errors", "grad-cam")}


@pytest.mark.parametrize("key", ["errors", "maps", "replicates"])
def test_invalid_arguments_are_refused_by_name(key: str):
    options: dict[str, Any] = {key: 0}
    with pytest.raises(ValueError, match=f"callbacks.analysis.{key}=0"):
        XrayAnalysis("run", **options)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [2, 300])
def test_figures_fit_their_layout_for_any_predictions(count: int):
    random = np.random.default_rng(count)
    labels, images = np.arange(count) % 2, random.random((count, 8, 8))
    for probabilities in (0.8 * labels + 0.1, 0.9 - 0.8 * labels, random.random(count)):
        given = probabilities.astype(np.float32)
        predicted = (given > 0.5).astype(int)
        some = slice(0, 20)
        shown = labels[some], given[some]
        for figure in (
            plots.confusion(labels, predicted, NAMES, 0.5),
            plots.curves(
                *bands(labels, given, replicates=20), operating_point(labels, predicted), 0.5, "PNEUMONIA", "images"
            ),
            plots.calibration(labels, given, "PNEUMONIA"),
            plots.errors(images[some], ["IM-0001.jpeg"] * 20, *shown, NAMES, count, 0.5),
            plots.grad_cam(images[:8], images[:8] - 0.5, labels[:8], given[:8], predicted[:8], NAMES),
        ):
            figure.draw_without_rendering()
