"""Measurements after an epoch: when they run, how they are logged, and that they do not affect training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from tests.tiny import Batches, fit, regressor, rows

from triptych.callbacks.measurement import Measurement, evaluation_mode
from triptych.callbacks.training_score import TrainingScore
from triptych.callbacks.weights import Weights
from triptych.results.history import History


class Epochs(Measurement):
    """Records the epochs it measures, and does what could disturb training: draws random numbers and runs the model."""

    key = "epochs"

    def __init__(self, every_n_epochs: int = 1) -> None:
        super().__init__(every_n_epochs)
        self.seen: list[int] = []

    def measure(self, trainer: Any, model: Any) -> dict[str, float]:
        assert not model.training
        assert not torch.is_grad_enabled()
        torch.randn(100)
        model(torch.randn(64, 3))
        self.seen.append(trainer.current_epoch + 1)
        return {"seen/epoch": float(trainer.current_epoch + 1)}


class OfValidation(Epochs):
    of_validation = True


@pytest.mark.parametrize(
    ("options", "epochs"),
    [({"max_epochs": 5}, [2, 4, 5]), ({"max_epochs": 4}, [2, 4]), ({"max_epochs": -1, "max_steps": 3}, [2, 3])],
)
def test_every_nth_and_the_last_epoch_are_measured(options: dict[str, Any], epochs: list[int], tmp_path: Path):
    seen = Epochs(every_n_epochs=2)
    fit(regressor(), Batches(rows(8), rows(8)), tmp_path, callbacks=[seen], **options)
    assert seen.seen == epochs


def test_measurements_are_logged_in_the_row_of_the_validation(tmp_path: Path):
    history = History(tmp_path / "metrics.csv")
    fit(regressor(), Batches(rows(8, 8), rows(8)), tmp_path, max_epochs=2, callbacks=[Epochs()], logger=history)
    found = {step: row["seen/epoch"] for step, row in history.rows.items() if "val/loss" in row}
    assert found == {1: 1.0, 3: 2.0}


def test_validation_measurements_are_skipped_without_validation(tmp_path: Path):
    of_validation, other = OfValidation(), Epochs()
    fit(regressor(), Batches(rows(8)), tmp_path, callbacks=[of_validation, other])
    assert (of_validation.seen, other.seen) == ([], [1])


@pytest.mark.parametrize("measure", [Epochs, lambda: TrainingScore(1), lambda: Weights(1)])
def test_measurements_do_not_affect_the_trained_weights(measure: Any, tmp_path: Path):
    def trained(*callbacks: Callback) -> torch.Tensor:
        torch.manual_seed(0)
        model = regressor(dropout=0.5, norm="batch")
        fit(model, Batches(rows(8, 8), rows(8)), tmp_path, max_epochs=3, callbacks=list(callbacks))
        return torch.cat([values.flatten().double() for values in model.state_dict().values()])

    assert torch.equal(trained(), trained(measure()))


def test_a_layer_frozen_in_evaluation_mode_stays_so():
    model = regressor(norm="batch").train()
    frozen = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d)).eval()
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    assert model.training
    assert model.network.training
    assert not frozen.training


@pytest.mark.parametrize("every", [0, -1])
def test_an_interval_below_1_is_refused(every: int):
    with pytest.raises(ValueError, match=f"^callbacks.epochs.every_n_epochs={every}: expected a number from 1, or 0"):
        Epochs(every)
