"""Calibration and threshold: checked by hand, against grid search, scikit-learn and known probabilities."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_calibration_error

from triptych.models.calibration import SPAN, Calibration, platt_scaling, youden


def sample(count: int, factor: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random targets, and ``factor`` times the logits from which they were drawn; both (count,)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, generator=generator)
    targets = (torch.rand(count, generator=generator) < logits.sigmoid()).long()
    return factor * logits, targets


@pytest.mark.parametrize("shift", [-2, 0, 1.5])
@pytest.mark.parametrize("factor", [0.25, 1, 4])
def test_temperature_and_bias_recover_the_distortion_of_the_logits(factor: float, shift: float):
    logits, targets = sample(20_000, factor)
    temperature, bias = platt_scaling(logits + factor * shift, targets)
    assert temperature == pytest.approx(factor, rel=0.05)
    assert bias == pytest.approx(-shift, abs=0.1)


def test_temperature_and_bias_minimise_the_loss():
    logits, targets = sample(200, 3)
    logits += 1
    positive = int(targets.sum())
    soft = torch.where(targets == 1, (positive + 1) / (positive + 2), 1 / (200 - positive + 2)).double()

    def loss(temperature: float, bias: float) -> float:
        calibrated = logits.double() / temperature + bias
        return torch.nn.functional.binary_cross_entropy_with_logits(calibrated, soft).item()

    temperature, bias = platt_scaling(logits, targets)
    least = loss(temperature, bias)
    assert all(least <= loss(other, bias) for other in np.geomspace(1 / SPAN, SPAN, 300))
    assert all(least <= loss(temperature, other) for other in np.linspace(-5, 5, 300))
    assert all(least <= loss(temperature * (1 + step), bias + step) for step in (-0.1, -0.01, 0.01, 0.1))


def test_platt_scaling_agrees_with_scikit_learn():
    logits, targets = sample(500, 2, seed=3)
    calibration = pytest.importorskip("sklearn.calibration")
    slope, offset = calibration._sigmoid_calibration(logits.numpy().astype(np.float64), targets.numpy())
    assert platt_scaling(logits, targets) == pytest.approx((-1 / slope, -offset), rel=1e-3)


@pytest.mark.parametrize("shift", [0, 30])
def test_separable_classes_get_finite_confidence(shift: float):
    # With two samples per class, Platt's target for 1 is 3/4, so the optimal logits are -ln 3 and ln 3.
    logits = torch.tensor([-2.0, -2.0, 2.0, 2.0]) + shift
    temperature, bias = platt_scaling(logits, torch.tensor([0, 0, 1, 1]))
    assert temperature == pytest.approx(2 / math.log(3), rel=1e-4)
    assert bias == pytest.approx(-shift / temperature, abs=1e-4)


def test_two_samples_give_a_third_and_two_thirds():
    temperature, bias = platt_scaling(torch.tensor([-8.0, 12.0]), torch.tensor([0, 1]))
    assert [1 / (1 + math.exp(-z / temperature - bias)) for z in (-8, 12)] == pytest.approx([1 / 3, 2 / 3], abs=1e-4)


@pytest.mark.parametrize(
    ("logits", "targets"),
    [([0, 0], [0, 1]), ([3, 3], [0, 1]), ([math.nan, 1], [0, 1]), ([1, 2], [1, 1]), ([1, 2], [0, 0]), ([1], [1])],
    ids=str,
)
def test_uninformative_logits_are_not_rescaled(logits: list[float], targets: list[int]):
    assert platt_scaling(torch.tensor(logits, dtype=torch.float32), torch.tensor(targets)) == (1, 0)


def test_reversed_logits_keep_their_order():
    temperature, _ = platt_scaling(torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([1, 1, 0]))
    assert temperature == pytest.approx(SPAN)


@pytest.mark.parametrize("factor", [0.25, 4])
def test_calibration_lowers_the_error_and_keeps_the_ranking(factor: float):
    logits, targets = sample(2000, factor)
    logits += 3 * factor
    calibration = Calibration()
    calibration.update(logits[:1000], targets[:1000])
    chosen = calibration.compute()
    before = logits[1000:].sigmoid()
    after = (logits[1000:] / chosen["temperature"] + chosen["bias"]).sigmoid()
    assert binary_calibration_error(before, targets[1000:]) > 0.2
    assert binary_calibration_error(after, targets[1000:]) < 0.05
    # AUROC of the logits' ranks, because many uncalibrated probabilities round to 1 in float32.
    ranks = logits[1000:].argsort().argsort() / 1000
    assert binary_auroc(after, targets[1000:]) == pytest.approx(binary_auroc(ranks, targets[1000:]).item(), abs=1e-6)


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
def test_the_threshold_maximises_youdens_index(probabilities: list[float], labels: list[int], threshold: float):
    assert youden(torch.tensor(probabilities), torch.tensor(labels)).item() == pytest.approx(threshold, abs=1e-5)


@pytest.mark.parametrize("best", [1.0, 0.75, 1e-30])
def test_the_threshold_separates_adjacent_floats(best: float):
    high = torch.tensor(best)
    low = torch.nextafter(high, torch.tensor(0.0))
    probabilities = torch.stack([low, high, low, high])
    threshold = youden(probabilities, torch.tensor([0, 1, 0, 1]))
    assert (probabilities > threshold).tolist() == [False, True, False, True]


def test_calibration_does_not_depend_on_the_batches():
    logits, targets = sample(100, 2)
    whole, pieces = Calibration(), Calibration()
    whole.update(logits, targets)
    for part in torch.arange(100).split(33):
        pieces.update(logits[part], targets[part])
    assert pieces.compute() == whole.compute()
    chosen = whole.compute()
    assert (chosen["temperature"].item(), chosen["bias"].item()) == pytest.approx(platt_scaling(logits, targets))
    calibrated = (logits / chosen["temperature"] + chosen["bias"]).sigmoid()
    assert chosen["threshold"] == youden(calibrated, targets)


@pytest.mark.parametrize("prior", [0.2, 0.5, 0.9])
def test_a_prior_gives_calibrated_probabilities_at_that_prevalence(prior: float):
    logits, targets = sample(40_000, 2)
    calibration = Calibration(prior=prior)
    calibration.update(logits, targets)
    chosen = calibration.compute()
    probabilities = (logits / chosen["temperature"] + chosen["bias"]).sigmoid()
    share = targets.float().mean()
    weights = torch.where(targets == 1, prior / share, (1 - prior) / (1 - share))
    # Per bin of predicted probability, the positive rate of samples reweighted to the prior.
    bins = (probabilities * 5).long().clamp(max=4)
    for number in range(5):
        own = bins == number
        found = (weights * targets)[own].sum() / weights[own].sum()
        said = (weights * probabilities)[own].sum() / weights[own].sum()
        assert found == pytest.approx(said.item(), abs=0.03)


def test_a_prior_does_not_change_the_predicted_labels():
    logits, targets = sample(2_000, 1)
    labels = []
    for prior in (None, 0.1):
        calibration = Calibration(prior=prior)
        calibration.update(logits, targets)
        chosen = calibration.compute()
        labels.append((logits / chosen["temperature"] + chosen["bias"]).sigmoid() > chosen["threshold"])
    assert (labels[0] == labels[1]).float().mean() > 0.999


def test_a_prior_is_ignored_where_there_is_one_class():
    calibration = Calibration(prior=0.1, threshold=0.5)
    calibration.update(torch.tensor([-1.0, 2.0]), torch.tensor([1, 1]))
    assert calibration.compute()["bias"] == 0


def test_a_given_threshold_is_used():
    calibration = Calibration(threshold=0.3)
    calibration.update(*sample(100, 1))
    assert calibration.compute()["threshold"] == pytest.approx(0.3)
