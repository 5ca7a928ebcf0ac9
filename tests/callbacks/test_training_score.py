"""Metrics of the training split, computed as in validation."""

from pathlib import Path
from typing import Any

import pytest
from tests.tiny import Batches, classifier, fit, regressor, rows, xrays

from triptych.callbacks.training_score import TrainingScore


@pytest.mark.parametrize(
    ("make", "batches"),
    [(lambda: regressor(dropout=0.5, norm="batch", l1=0.1), rows(8, 4)), (classifier, xrays(8, 4))],
    ids=["regressor", "classifier"],
)
def test_the_same_samples_score_as_in_validation(make: Any, batches: Any, tmp_path: Path):
    run = fit(make(), Batches(batches, batches), tmp_path, max_epochs=2, callbacks=[TrainingScore(1)])
    validation = {name[4:]: float(value) for name, value in run.callback_metrics.items() if name.startswith("val/")}
    score = {name[11:]: float(value) for name, value in run.callback_metrics.items() if name.startswith("train_eval/")}
    # Calibration and threshold are fitted by validation and are not metrics.
    measures = {name: value for name, value in validation.items() if name not in ("temperature", "bias", "threshold")}
    assert score == pytest.approx(measures, rel=1e-5)
    # Unlike the loss recorded during training.
    assert score["loss"] != pytest.approx(run.callback_metrics["train/loss"].item(), rel=1e-5)


def test_the_number_of_samples_is_limited(tmp_path: Path):
    asked = []

    class Asked(Batches):
        def evaluation_batches(self, name: str, count: int | None = None) -> Any:
            asked.append((name, count))
            return super().evaluation_batches(name)

    fit(regressor(), Asked(rows(8), rows(8)), tmp_path, callbacks=[TrainingScore(1, samples=5)])
    assert asked == [("train", 5)]


def test_zero_samples_are_refused():
    with pytest.raises(ValueError, match=r"callbacks.training_score.samples=0: expected a number from 1$"):
        TrainingScore(1, samples=0)
