"""Validation under the data set's own distribution shift."""

from pathlib import Path

import pytest
import torch
from tests.tiny import Batch, Batches, classifier, fit, measured, xrays

from triptych.callbacks.shifted_validation import ShiftedValidation


class Negatives(Batches):
    """Data whose shift is to invert the X-rays."""

    def shifted_batches(self) -> list[Batch]:
        return [(1 - images, labels) for images, labels in self.held_out]


def test_all_metrics_are_computed_on_the_shifted_batches(tmp_path: Path):
    torch.manual_seed(0)
    data = Negatives(xrays(8, 8), xrays(16, seed=1))
    model = classifier()
    run = fit(model, data, tmp_path, max_epochs=3, callbacks=[ShiftedValidation(1)])
    # With the calibration and threshold of the plain validation, not refitted on the shifted batches.
    expected = measured(model, data.shifted_batches(), tmp_path, split="test")
    found = {
        name.removeprefix("shifted/"): float(value)
        for name, value in run.callback_metrics.items()
        if name.startswith("shifted/")
    }
    assert found.keys() >= {"loss", "auroc", "accuracy", "sensitivity", "specificity"}
    assert found == pytest.approx(expected, rel=1e-5)
    assert found["loss"] != pytest.approx(run.callback_metrics["val/loss"].item())


def test_the_threshold_is_still_chosen_by_the_plain_validation(tmp_path: Path):
    thresholds = []
    for callbacks in ([], [ShiftedValidation(1)]):
        torch.manual_seed(0)
        model = classifier()
        fit(model, Negatives(xrays(8, 8), xrays(16, seed=1)), tmp_path, max_epochs=2, callbacks=callbacks)
        thresholds.append(model.threshold.item())
    assert thresholds[0] == thresholds[1]
