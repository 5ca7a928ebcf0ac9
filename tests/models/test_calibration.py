"""Temperature and threshold against sums by hand, a search over a grid, and probabilities that are known."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from triptych.models.calibration import SPAN, Calibration, fit_temperature, youden


def sample(count: int, factor: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that are ``factor`` times those by which the targets were drawn."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, generator=generator)
    targets = (torch.rand(count, generator=generator) < logits.sigmoid()).long()
    return factor * logits, targets


@pytest.mark.parametrize("factor", [0.25, 1, 4])
def test_the_temperature_is_what_the_logits_are_too_large_by(factor: float):
    assert fit_temperature(*sample(20_000, factor)) == pytest.approx(factor, rel=0.05)


def test_no_other_temperature_is_likelier():
    logits, targets = sample(200, 3)
    positive = int(targets.sum())
    soft = torch.where(targets == 1, (positive + 1) / (positive + 2), 1 / (200 - positive + 2)).double()

    def loss(temperature: float) -> float:
        return torch.nn.functional.binary_cross_entropy_with_logits(logits.double() / temperature, soft).item()

    found = fit_temperature(logits, targets)
    assert all(loss(found) <= loss(other) for other in np.geomspace(1 / SPAN, SPAN, 300))


def test_classes_without_an_error_are_told_apart_but_not_with_certainty():
    # Two of each: a target of 1 counts as 3/4, so that both logits are best divided to be ln 3.
    assert fit_temperature(torch.tensor([-2.0, -2.0, 2.0, 2.0]), torch.tensor([0, 0, 1, 1])) == pytest.approx(
        2 / math.log(3), rel=1e-4
    )


@pytest.mark.parametrize("logits", [[0.0, 0.0], [math.nan, 1.0]], ids=str)
def test_logits_that_tell_nothing_stay_as_they_are(logits: list[float]):
    assert fit_temperature(torch.tensor(logits), torch.tensor([0, 1])) == 1


@pytest.mark.parametrize(
    ("probabilities", "labels", "threshold"),
    [
        ([0.1, 0.2, 0.35, 0.8], [0, 0, 1, 1], 0.275),
        ([0.1, 0.5, 0.6, 0.7, 0.8], [0, 1, 0, 1, 1], 0.65),
        ([0.1, 0.2, 0.7, 0.8], [0, 0, 0, 1], 0.75),
        ([0.9, 0.95, 0.97, 0.99], [0, 1, 1, 1], 0.925),
        ([0.2, 0.2, 0.6, 0.6], [0, 0, 1, 1], 0.4),
    ],
)
def test_the_threshold_is_youdens(probabilities: list[float], labels: list[int], threshold: float):
    assert youden(torch.tensor(probabilities), torch.tensor(labels)).item() == pytest.approx(threshold, abs=1e-5)


def test_batches_count_as_one():
    logits, targets = sample(100, 2)
    whole, pieces = Calibration(), Calibration()
    whole.update(logits, targets)
    for part in torch.arange(100).split(33):
        pieces.update(logits[part], targets[part])
    assert pieces.compute() == whole.compute()
    assert whole.compute()["temperature"] == pytest.approx(fit_temperature(logits, targets))
    scaled = (logits / whole.compute()["temperature"]).sigmoid()
    assert whole.compute()["threshold"] == youden(scaled, targets)
