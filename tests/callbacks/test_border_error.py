"""The error near the border of pages, on networks whose errors are known."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import ADAM, PAGES, Batches, autoencoder, fit, pages
from torch import Tensor, nn

from triptych.callbacks.border_error import BorderError


class Frame(nn.Module):
    """Off by 0.3 in the two outermost pixels on each side and by ``inside`` elsewhere, on pages of any size."""

    def __init__(self, inside: float = 0.1) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        off = torch.full_like(x, 0.3)
        off[..., 2:-2, 2:-2] = self.inside
        return (x + off) * self.factor

    def input_size(self, n: int) -> int:
        return n

    output_size = input_size


def model_of(network: nn.Module) -> Any:
    """A model with learning rate 0."""
    model = autoencoder(optimizer=ADAM | {"lr": 0.0})
    model.network = network
    return model


def measured(model: Any, data: Batches, folder: Path, border: int = 2) -> dict[str, float]:
    run = fit(model, data, folder, callbacks=[BorderError(1, border)])
    return {name: float(value) for name, value in run.callback_metrics.items() if name.startswith("border/")}


def grey(*sizes: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    return [(torch.full((1, 1, *size), 0.5), torch.full((1, 1, *size), 0.5)) for size in sizes]


def test_border_and_centre_errors_are_separated_on_pages_of_any_size(tmp_path: Path):
    data = Batches(grey((8, 8)), grey((8, 12), (20, 9)))
    assert measured(model_of(Frame()), data, tmp_path) == pytest.approx(
        {"border/rmse": 0.3, "border/centre_rmse": 0.1, "border/ratio": 3, "border/lost_pixels": 0}, rel=1e-5
    )
    # With a narrower border than the frame, part of the frame counts as centre.
    narrow = measured(model_of(Frame()), Batches(grey((8, 8)), grey((8, 8))), tmp_path, border=1)
    assert narrow["border/rmse"] == pytest.approx(0.3)
    assert narrow["border/centre_rmse"] == pytest.approx(((20 * 0.3**2 + 16 * 0.1**2) / 36) ** 0.5)


def test_a_centre_without_error_has_a_nan_ratio(tmp_path: Path):
    found = measured(model_of(Frame(inside=0.0)), Batches(grey((8, 8)), grey((8, 8))), tmp_path)
    assert found["border/centre_rmse"] == 0
    assert found["border/ratio"] != found["border/ratio"]


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_lost_pixels_are_those_lost_by_the_bare_network(padding: str, tmp_path: Path):
    data = Batches(pages((32, 32)), pages((24, 28)))
    model = autoencoder(network=PAGES, padding=padding)
    found = measured(model, data, tmp_path)
    side = model.network.input_size(24)
    lost = side - model.network(torch.zeros(1, 1, side, side)).shape[-1]
    assert found["border/lost_pixels"] == lost
    assert (lost > 0) == (padding == "valid")


@pytest.mark.parametrize("border", [4, 5])
def test_a_border_that_leaves_no_centre_is_refused_before_training(border: int, tmp_path: Path):
    with pytest.raises(ValueError, match=f"callbacks.border_error.border={border}: the smallest .* side of 8 pixels"):
        measured(model_of(Frame()), Batches(grey((8, 8)), grey((20, 8))), tmp_path, border=border)


def test_a_border_below_1_is_refused():
    with pytest.raises(ValueError, match=r"callbacks.border_error.border=0: expected a number from 1$"):
        BorderError(1, border=0)
