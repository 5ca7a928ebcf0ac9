"""Error analysis of price predictions: error map, permutation importances and prediction intervals."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Trainer
from matplotlib.figure import Figure

from triptych.callbacks.analysis import price_plots as plots
from triptych.callbacks.analysis.base import Analysis, batches_of_split, predict_batch, predict_split
from triptych.callbacks.analysis.importance import column_groups, grouped_importances
from triptych.callbacks.analysis.intervals import conformal_quantile
from triptych.callbacks.measurement import check_at_least_one

MAP = ("longitude", "latitude")


class Predictions(NamedTuple):
    """Prices of the test split, true and predicted, and half the width of their intervals, in dollars."""

    true: np.ndarray
    """True prices of the test rows (N,)."""
    predicted: np.ndarray
    """Their predicted prices (N,)."""
    half: float | None
    """Half the width of the prediction intervals; None without validation."""


class PriceAnalysis(Analysis):
    """Analyse the test rows: predicted against true prices, error map, importances, prediction intervals.

    Logs ``test/coverage``, the share of test rows whose price lies in its interval, and ``test/interval_width`` in
    dollars. The intervals are those of split conformal prediction, from the residuals of the validation split (see
    ``conformal_quantile``). Without the columns of MAP there is no map, without validation there are no intervals.

    Args:
        directory: the run directory.
        enabled: see Analysis.
        coverage: the nominal share of prices in their interval.
        repeats: number of times that each group of columns is shuffled for the importances.
        samples: maximum number of test rows that the importances are measured on, evenly spaced.
        groups: columns that are shuffled together, see ``column_groups``.
    """

    def __init__(
        self,
        directory: str,
        enabled: bool = True,
        coverage: float = 0.9,
        repeats: int = 5,
        samples: int = 1000,
        groups: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(directory, enabled)
        if not 0 < coverage < 1:
            raise ValueError(f"callbacks.analysis.coverage={coverage}: expected a share above 0 and below 1")
        check_at_least_one("analysis.repeats", repeats)
        check_at_least_one("analysis.samples", samples)
        self.coverage = coverage
        self.repeats = repeats
        self.samples = samples
        self.groups = groups or {}

    def compute_predictions(self, trainer: Trainer, model: Any) -> Predictions:
        true, predicted = prices(trainer, model, "val")
        half = conformal_quantile(np.abs(predicted - true), self.coverage) if len(true) else None
        return Predictions(*prices(trainer, model, "test"), half)

    def measure(self, predictions: Predictions) -> dict[str, float]:
        if predictions.half is None or not np.isfinite(predictions.predicted).all():
            return {}
        held = np.abs(predictions.predicted - predictions.true) <= predictions.half
        return {"test/coverage": float(held.mean()), "test/interval_width": 2 * predictions.half}

    def figures(self, trainer: Trainer, model: Any, predictions: Predictions) -> Iterator[tuple[str, Figure]]:
        names: list[str] = model.hparams["feature_names"]
        rows = torch.cat([inputs for inputs, _ in batches_of_split(trainer, "test")]).numpy()
        true, predicted, half = predictions
        if not np.isfinite(predicted).all():
            return  # the network diverged, as its metrics show

        yield "prices", plots.predicted_against_true(true, predicted)
        if set(MAP) <= set(names):
            place = rows[:, [names.index(name) for name in MAP]]
            yield "residual-map", plots.residual_map(place, predicted - true)
        groups = {
            group if len(columns) == 1 else f"{group} ({len(columns)} columns)": columns
            for group, columns in column_groups(names, self.groups).items()
        }
        few = np.linspace(0, len(rows) - 1, min(self.samples, len(rows))).astype(int)
        yield "importances", plots.importances(self.importances(trainer, model, rows[few], true[few], groups))
        if half is not None and np.isfinite(half):
            yield "intervals", plots.intervals(true, predicted, half, self.coverage)

    def importances(
        self, trainer: Trainer, model: Any, rows: np.ndarray, true: np.ndarray, groups: Mapping[str, Sequence[int]]
    ) -> dict[str, np.ndarray]:
        """Increases of the RMSE (repeats,), in dollars, by the name of the shuffled group of columns."""

        def predict(mixed: np.ndarray) -> np.ndarray:
            parts = torch.from_numpy(mixed).split(512)
            return torch.cat([predict_batch(trainer, model, part)["prediction"] for part in parts]).numpy()

        return grouped_importances(predict, rows, true, groups, self.repeats)


def prices(trainer: Trainer, model: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted prices of a split, float32 (N,) each, in dollars; both are empty without such a split."""
    found, true = predict_split(trainer, model, split)
    return true, found.get("prediction", true)
