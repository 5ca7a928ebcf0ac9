"""The price regressor: metrics in dollars over the whole split, and scalers fitted on training rows only."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import Batches, FirstNumber, fit, measured, regressor, rows
from torch import Tensor, nn

from triptych.models.regressor import Regressor
from triptych.networks.scaling import SCALINGS


def told(*prices: float) -> tuple[Tensor, Tensor]:
    """A batch of alternating predictions and prices; ``teller`` predicts the first column, in training deviations."""
    answers, targets = prices[::2], prices[1::2]
    return torch.tensor([[answer, 0.0, 0.0] for answer in answers]), torch.tensor(targets)


def teller() -> Regressor:
    """A regressor that predicts 200,000 dollars plus 50,000 per unit of the first column."""
    model = regressor(input_scaling="none")
    model.target_scaler.fit(torch.tensor([150_000.0, 250_000.0]))
    model.network = FirstNumber()
    return model


# Each pair is a prediction (0 is 200,000 dollars, 1 is 250,000) and the true price.
BATCHES = [told(0.0, 200_000.0, 1.0, 240_000.0, 2.0, 270_000.0), told(-1.0, 180_000.0)]
ERRORS = [0.0, 10_000.0, 30_000.0, 30_000.0]
TRUE = [200_000.0, 240_000.0, 270_000.0, 180_000.0]


@pytest.mark.parametrize("split", ["val", "test"])
def test_metrics_are_in_dollars_over_all_rows_of_ragged_batches(split: str, tmp_path: Path):
    metrics = measured(teller(), BATCHES, tmp_path, split)
    squares = sum(error**2 for error in ERRORS)
    mean = sum(TRUE) / 4
    assert metrics["rmse"] == pytest.approx(math.sqrt(squares / 4), rel=1e-6)
    assert metrics["mae"] == pytest.approx(17_500, rel=1e-6)
    assert metrics["r2"] == pytest.approx(1 - squares / sum((price - mean) ** 2 for price in TRUE), rel=1e-5)
    # The loss is in squared training deviations of 50,000 dollars.
    assert metrics["loss"] == pytest.approx(squares / 4 / 50_000**2, rel=1e-5)


def test_metrics_do_not_depend_on_the_batches(tmp_path: Path):
    inputs, targets = (torch.cat(tensors) for tensors in zip(*BATCHES, strict=True))
    one_by_one = [(inputs[i : i + 1], targets[i : i + 1]) for i in range(4)]
    whole = measured(teller(), [(inputs, targets)], tmp_path)
    assert measured(teller(), one_by_one, tmp_path) == pytest.approx(whole, rel=1e-5)


def test_a_single_row_has_nan_r2(tmp_path: Path):
    metrics = measured(teller(), [told(1.0, 240_000.0)], tmp_path)
    assert metrics["rmse"] == pytest.approx(10_000)
    assert math.isnan(metrics["r2"])


def test_equal_prices_have_nan_r2(tmp_path: Path):
    batches = [told(0.0, 200_001.0, 1.0, 200_001.0), told(2.0, 200_001.0)]
    assert math.isnan(measured(teller(), batches, tmp_path)["r2"])


def test_dollars_are_computed_in_single_precision():
    model = teller()
    metrics = model.test_metrics
    # In bfloat16 the nearest to 225,000 is 225,280.
    model.update_metrics(metrics, torch.tensor([[0.5]], dtype=torch.bfloat16), torch.tensor([225_000.0]))
    assert metrics["rmse"].compute() == 0


def test_predictions_are_one_price_in_dollars_per_row():
    answers = teller().predict(torch.tensor([[0.0, 9.0, 9.0], [2.0, 9.0, 9.0]]))
    assert list(answers) == ["prediction"]
    assert answers["prediction"].tolist() == [200_000.0, 300_000.0]


class Two(nn.Module):
    """A network whose two outputs are its first two columns."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2]


def test_each_output_has_its_own_loss_and_their_mean_is_the_prediction():
    model = teller()
    model.network = Two()
    inputs = torch.tensor([[0.0, 2.0, 9.0], [1.0, 1.0, 9.0]])
    assert model.predict(inputs)["prediction"].tolist() == [250_000.0, 250_000.0]
    # Each output is off by one deviation, although their mean is right.
    assert model.loss(model(inputs[:1]), torch.tensor([250_000.0])) == 1


def test_clip_limits_predictions_to_the_training_prices():
    model = regressor(input_scaling="none", clip=True)
    model.target_scaler.fit(torch.tensor([150_000.0, 250_000.0]))
    model.network = FirstNumber()
    answers = model.predict(torch.tensor([[-9.0, 0, 0], [0.5, 0, 0], [9.0, 0, 0]]))
    assert answers["prediction"].tolist() == [150_000.0, 225_000.0, 250_000.0]


def test_columns_are_passed_to_the_network_by_index():
    options: dict[str, Any] = {
        "network": {"_target_": "triptych.networks.spatial.Spatial", "members": 1, "krigings": 0, "width": 4},
        "feature_names": ["age", "north", "east"],
    }
    model = regressor(**options, columns={"place": ["east", "north"], "similar": ["age"]})
    assert (model.network.nearest.place, model.network.nearest.similar) == ([2, 1], [0])
    with pytest.raises(ValueError, match=r"model.columns.place: no column west; there are age, north, east"):
        regressor(**options, columns={"place": ["west"]})


@pytest.mark.parametrize("scaling", ["minmax", "standard", "log", "quantile"])
def test_scalers_and_bins_are_fitted_on_training_rows_only(scaling: str, tmp_path: Path):
    tabular = {"_target_": "triptych.networks.tabular.Tabular", "bins": 4, "width": 8, "depth": 1}
    train = rows(16, 16)
    strangers = [(inputs * 1000, targets * 1000) for inputs, targets in rows(8, seed=1)]
    still = {"_target_": "torch.optim.SGD", "lr": 0.0}
    options = {"network": tabular, "input_scaling": scaling, "optimizer": still}
    trained, fitted = regressor(**options), regressor(**options)  # type: ignore[arg-type]
    fit(trained, Batches(train, strangers), tmp_path)
    fitted.fit_scalers(*Batches(train).training_rows())
    learnt = {name: values for name, values in trained.named_buffers() if "metrics" not in name}
    assert len(learnt) >= 5
    for name, values in fitted.named_buffers():
        if name in learnt:
            assert torch.equal(values, learnt[name]), name


def test_missing_values_are_imputed(tmp_path: Path):
    train = rows(8, 8)
    train[0][0][:3, 1] = torch.nan
    model = regressor()
    assert fit(model, Batches(train), tmp_path).callback_metrics["train/loss"].isfinite()
    assert model.predict(torch.full((2, 3), torch.nan))["prediction"].isfinite().all()


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_every_loss_and_scaling_trains(loss: str, scaling: str, tmp_path: Path):
    torch.manual_seed(0)
    model = regressor(loss=loss, input_scaling=scaling)
    data = Batches(rows(64))
    before = fit(model, data, tmp_path).callback_metrics["train/rmse"]
    after = fit(model, data, tmp_path, max_epochs=15).callback_metrics["train/rmse"]
    assert after < before


@pytest.mark.parametrize(
    ("option", "message"),
    [({"loss": "l2"}, "mse, mae, huber"), ({"input_scaling": "decimal"}, "minmax"), ({"activation": "swish"}, "silu")],
)
def test_an_unknown_choice_names_the_choices(option: dict[str, str], message: str):
    with pytest.raises(ValueError, match=message):
        regressor(**option)
