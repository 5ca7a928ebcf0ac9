"""The gradient norm of each layer, compared with one computed by hand."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from tests.tiny import ADAM, MLP, Batches, fit, regressor, rows
from torch import Tensor, nn

from triptych.callbacks.gradient_flow import GradientFlow
from triptych.results.history import History


class TwoLayers(nn.Module):
    """y = w (W x), with W = I and w = (3, 0); the layers are created in an order other than that of use."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(2, 1, bias=False)
        self.first = nn.Linear(2, 2, bias=False)
        self.unused = nn.Linear(2, 2)
        self.first.weight.data = torch.eye(2)
        self.last.weight.data = torch.tensor([[3.0, 0.0]])

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x))


# Targets of mean 0 and deviation 1, so that scaling does not change them. The errors are 3 + 1 and 0 - 1, so the
# gradient is (4, -1) at w, with norm sqrt(17), and ((12, -3), (0, 0)) at W, with norm 3 sqrt(17).
BY_HAND = (torch.eye(2), torch.tensor([-1.0, 1.0]))


def measured(model: Any, batches: Any, folder: Path, every: int = 1, **options: Any) -> dict[int, dict[str, float]]:
    """The rows of ``metrics.csv``."""
    history = History(folder / "metrics.csv")
    data = Batches(batches, batches[:1])
    fit(model, data, folder, callbacks=[GradientFlow(every)], logger=history, **options)
    return history.rows


def by_hand(**optimizer: Any) -> Any:
    model = regressor(2, input_scaling="none", optimizer=ADAM | optimizer)
    model.network = TwoLayers()
    return model


@pytest.mark.parametrize("options", [{}, {"gradient_clip_val": 1e-3}], ids=["", "clipped"])
def test_norms_match_hand_computation_in_order_of_use(options: Any, tmp_path: Path):
    row = measured(by_hand(), [BY_HAND], tmp_path, **options)[0]
    gradients = {name: value for name, value in row.items() if name.startswith("gradient/")}
    assert list(gradients) == ["gradient/00-first", "gradient/01-last", "gradient/first_to_last"]
    assert list(gradients.values()) == pytest.approx([3 * math.sqrt(17), math.sqrt(17), 3])


def test_loss_scaling_does_not_affect_the_norms(tmp_path: Path):
    """As with 16-mixed on a GPU, where a fused optimizer unscales the gradients itself, after the measurement."""
    plugin = MixedPrecision("bf16-mixed", "cpu")
    plugin.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    row = measured(by_hand(fused=True), [BY_HAND], tmp_path, plugins=[plugin])[0]
    assert row["gradient/00-first"] == pytest.approx(3 * math.sqrt(17))


def test_first_every_nth_and_last_step_of_each_epoch_are_measured(tmp_path: Path):
    found = measured(regressor(), rows(4, 4, 4, 4), tmp_path, every=3, max_epochs=2)
    assert [step for step, row in found.items() if "gradient/first_to_last" in row] == [0, 3, 6, 7]
    # So every row with a validation has it, including that of the best epoch, which goes into metrics.json.
    assert all("gradient/first_to_last" in row for row in found.values() if "val/loss" in row)


def test_accumulated_gradients_are_measured_as_the_optimizer_sees_them(tmp_path: Path):
    found = measured(by_hand(), [BY_HAND, BY_HAND], tmp_path, accumulate_grad_batches=2)
    assert found[0]["gradient/01-last"] == pytest.approx(math.sqrt(17))


def test_a_frozen_layer_has_zero_norm_and_a_nan_ratio(tmp_path: Path):
    model = by_hand()
    model.network.last.weight.requires_grad = False
    row = measured(model, [BY_HAND], tmp_path)[0]
    assert row["gradient/01-last"] == 0
    assert math.isnan(row["gradient/first_to_last"])


def test_gradients_vanish_below_sigmoids_but_not_below_relus(tmp_path: Path):
    torch.manual_seed(0)
    deep = MLP | {"depth": 8}
    sigmoid, relu = (
        measured(regressor(network=deep, activation=name), rows(64), tmp_path)[0] for name in ("sigmoid", "relu")
    )
    assert len(sigmoid) >= 10
    assert sigmoid["gradient/first_to_last"] < 1e-4
    assert 1e-2 < relu["gradient/first_to_last"] < 10


@pytest.mark.parametrize("every", [0, -1])
def test_an_interval_below_1_is_refused(every: int):
    with pytest.raises(ValueError, match=f"callbacks.gradient_flow.every_n_steps={every}: expected a number from 1"):
        GradientFlow(every)
