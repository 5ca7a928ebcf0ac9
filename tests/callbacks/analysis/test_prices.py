"""Metrics and figures of predicted prices."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from matplotlib.figure import Figure
from tests.tiny import Batch, Batches, FirstNumber, regressor, trainer

from triptych.callbacks.analysis import price_plots as plots
from triptych.callbacks.analysis.prices import PriceAnalysis
from triptych.models.regressor import Regressor
from triptych.terminal import quiet_lightning

NAMES = ["longitude", "latitude", "income"]
RANDOM = np.random.default_rng(0)


class Splits(Batches):
    """Data with separate validation and test batches."""

    def __init__(self, val: list[Batch], test: list[Batch]) -> None:
        super().__init__(test, test)
        self.val = val

    def evaluation_batches(self, name: str, count: int | None = None) -> list[Batch]:
        return {"val": self.val, "test": self.held_out}[name]


def first_column(names: list[str] = NAMES) -> Regressor:
    """A regressor that predicts the first column of a row, in dollars."""
    model = regressor(len(names), feature_names=names, input_scaling="none")
    model.network = FirstNumber()
    return model


def priced(errors: np.ndarray) -> Batch:
    """Rows on which ``first_column`` is off by ``errors`` dollars."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(len(errors), 3, generator=generator)
    return features, features[:, 0] - torch.tensor(errors, dtype=torch.float32)


class Kept(PriceAnalysis):
    """Keeps its figures in ``drawn``, by name."""

    def figures(self, trainer: Trainer, model: Any, seen: Any):
        self.drawn: dict[str, Figure] = {}
        for name, figure in super().figures(trainer, model, seen):
            self.drawn[name] = figure
            yield name, figure


def analysed(data: Splits, folder: Path, names: list[str] = NAMES, **options: Any) -> tuple[dict[str, float], Kept]:
    analysis = Kept(str(folder), **options)
    run = trainer(folder, callbacks=[analysis])
    with quiet_lightning():
        (metrics,) = run.test(first_column(names), datamodule=data, verbose=False)
    return dict(metrics), analysis


def test_coverage_and_width_come_from_the_validation_residuals(tmp_path: Path):
    val = [priced(RANDOM.permutation(np.arange(1, 20)) * RANDOM.choice([-1, 1], 19))]
    # The 18th of 19 residuals, ceil(20 * 0.9), is 18: three of four test rows lie within.
    metrics, _ = analysed(Splits(val, [priced(np.array([17.9, -0.5, -17.9, 18.1]))]), tmp_path)
    assert metrics["test/interval_width"] == pytest.approx(36, rel=1e-5)
    assert metrics["test/coverage"] == 0.75
    metrics, _ = analysed(Splits(val, [priced(np.array([9.9, -0.5, 17.9, 18.1]))]), tmp_path, coverage=0.5)
    assert metrics["test/interval_width"] == pytest.approx(20, rel=1e-5)
    assert metrics["test/coverage"] == 0.5


def test_few_validation_rows_give_infinite_intervals_and_none_give_none(tmp_path: Path):
    test = [priced(np.array([1.0, -2.0]))]
    metrics, analysis = analysed(Splits([priced(np.ones(8))], test), tmp_path)
    assert (metrics["test/coverage"], metrics["test/interval_width"]) == (1, np.inf)
    assert analysis.drawn.keys() == {"prices", "residual-map", "importances"}
    metrics, analysis = analysed(Splits([], test), tmp_path)
    assert "test/coverage" not in metrics
    assert analysis.drawn.keys() == {"prices", "residual-map", "importances"}


def test_without_coordinates_there_is_no_map(tmp_path: Path):
    _, analysis = analysed(Splits([], [priced(np.ones(3))]), tmp_path, ["rooms", "age", "income"])
    assert analysis.drawn.keys() == {"prices", "importances"}


def bars(figure: Figure) -> dict[str, float]:
    (axis,) = figure.axes
    labels = [label.get_text() for label in axis.get_yticklabels()]
    return dict(zip(labels, [bar.get_width() for bar in axis.patches], strict=True))  # type: ignore[attr-defined]


def test_importances_are_grouped_by_columns(tmp_path: Path):
    features, _ = priced(np.zeros(200))
    data = Splits([], [(1000 * features, 1000 * features[:, 0])])
    _, analysis = analysed(data, tmp_path, groups={"place": ["longitude", "latitude"]})
    found = bars(analysis.drawn["importances"])
    assert list(found) == ["income", "place (2 columns)"]
    assert found["income"] == 0
    # In thousands of dollars; each value is replaced by that of another row.
    assert found["place (2 columns)"] == pytest.approx(np.sqrt(2) * float(features[:, 0].std()), rel=0.15)


def test_the_cap_is_marked_if_several_rows_share_the_highest_price():
    true, predicted = np.array([1e5, 5e5, 5e5]), np.array([1e5, 4e5, 6e5])

    def labels(figure: Figure) -> list[str]:
        return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]  # type: ignore[union-attr]

    assert labels(plots.predicted_against_true(true, predicted)) == [
        "predicted = true",
        "cap of the data, 500,000 dollars: 2 rows",
    ]
    assert labels(plots.predicted_against_true(true[:2], predicted[:2])) == ["predicted = true"]


def test_map_colours_are_centred_on_zero_error():
    place = np.column_stack([RANDOM.uniform(-124, -114, 100), RANDOM.uniform(33, 42, 100)])
    residuals = np.r_[np.linspace(-50_000, 50_000, 98), 9e5, -2e6]
    points = plots.residual_map(place, residuals).axes[0].collections[0]
    low, high = points.get_clim()
    assert low == -high
    assert 45 < high < 100  # thousands of dollars; the two outliers do not stretch the range
    values = np.asarray(points.get_array())
    assert values.tolist() == (residuals[np.argsort(np.abs(residuals))] / 1000).tolist()


def test_invalid_coordinates_do_not_break_the_map(tmp_path: Path):
    place = np.array([[-120.0, 37.0], [1e12, -1e12]])
    plots.residual_map(place, np.array([1000.0, -1000.0])).savefig(tmp_path / "map.png")


def test_the_interval_figure_states_the_coverage():
    predicted = np.arange(1.0, 41) * 10_000
    true = predicted + np.where(np.arange(40) < 36, 500, 2000)  # the most expensive decile is off
    left, right = plots.intervals(true[::-1], predicted[::-1], 1000, 0.9).axes
    assert left.get_title() == "90 % intervals, 2 thousand dollars wide, hold 90.0 % of 40 test prices"
    assert right.lines[0].get_ydata().tolist() == [1] * 9 + [0]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coverage": 1}, "coverage=1"),
        ({"coverage": 0}, "coverage=0"),
        ({"repeats": 0}, "repeats=0"),
        ({"samples": 0}, "samples=0"),
    ],
)
def test_invalid_arguments_are_refused_by_name(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=f"callbacks.analysis.{message}"):
        PriceAnalysis("run", **options)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [1, 2, 300])
def test_figures_fit_their_layout_with_any_number_of_rows(count: int, tmp_path: Path):
    random = np.random.default_rng(count)
    true, predicted = 1e5 * random.random((2, count))
    place = np.column_stack([random.uniform(-124, -114, count), random.uniform(33, 42, count)])
    for number, figure in enumerate(
        (
            plots.predicted_against_true(true, predicted),
            plots.residual_map(place, predicted - true),
            plots.importances({f"column_{index}": random.random(5) for index in range(min(count, 20))}),
            plots.intervals(true, predicted, 1e4, 0.9),
        )
    ):
        figure.savefig(tmp_path / f"{number}.png")
