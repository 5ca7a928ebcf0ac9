"""The share of weights near zero, and histograms of weights and activations."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.tiny import ADAM, Batches, fit, regressor, rows

from triptych.callbacks.weights import Weights


@pytest.mark.parametrize(("threshold", "share"), [(1e-3, 8 / 32), (0.1, 16 / 32)])
def test_near_zero_is_the_share_of_weights_below_the_threshold(threshold: float, share: float, tmp_path: Path):
    model = regressor(optimizer=ADAM | {"lr": 0.0})  # 3 x 8 and 8 x 1 weights, which do not change
    model.network.hidden[0].weight.data = torch.tensor([[0.0], [-9e-4], [-0.05], [0.05], [1], [-1], [1], [1]]).repeat(
        1, 3
    )
    model.network.output.weight.data = torch.tensor([[5e-4, -5e-4, 0.01, 0.01, 1, 1, 1, 1]])
    model.network.hidden[0].bias.data.zero_()  # biases do not count
    run = fit(model, Batches(rows(8), rows(8)), tmp_path, callbacks=[Weights(1, threshold)])
    assert run.callback_metrics["weights/near_zero"].item() == pytest.approx(share)


def test_tensorboard_has_histograms_of_each_layer_and_activation(tmp_path: Path):
    logger = TensorBoardLogger(str(tmp_path), name="", version="", default_hp_metric=False)
    model = regressor(activation="sigmoid")
    fit(model, Batches(rows(8), rows(8)), tmp_path, max_epochs=2, callbacks=[Weights(1, samples=5)], logger=logger)
    board = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0})
    board.Reload()
    assert sorted(board.Tags()["histograms"]) == ["activations/hidden.2", "weights/hidden.0", "weights/output"]
    assert "weights/near_zero" in board.Tags()["scalars"]
    activations = board.Histograms("activations/hidden.2")
    assert [event.step for event in activations] == [1, 2]
    last = activations[-1].histogram_value
    assert last.num == 5 * 8
    assert 0 < last.min < last.max < 1
    weights = board.Histograms("weights/hidden.0")[-1].histogram_value
    own = model.network.hidden[0].weight.detach()
    assert weights.num == 24
    assert (weights.min, weights.max) == pytest.approx((own.min().item(), own.max().item()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every_n_epochs": -2}, "callbacks.weights.every_n_epochs=-2: expected a number from 1, or 0 for never"),
        ({"every_n_epochs": 1, "threshold": 0}, "callbacks.weights.threshold=0: expected a number above 0"),
        ({"every_n_epochs": 1, "samples": 0}, "callbacks.weights.samples=0: expected a number from 1$"),
    ],
)
def test_an_invalid_argument_is_refused(arguments: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        Weights(**arguments)
