"""The X-ray classifier: class weights, label smoothing, metrics, calibration and threshold, checked by hand."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import Batch, Batches, FirstNumber, classifier, fit, measured
from torch import Tensor, nn

from triptych.models.classifier import Classifier
from triptych.networks.contrast import locally_standardized


def told(probabilities: list[float], labels: list[int]) -> Batch:
    """One-pixel images whose pixel, which ``teller`` returns as the logit, encodes the given probability."""
    logits = torch.logit(torch.tensor(probabilities, dtype=torch.float64)).float()
    return logits.reshape(-1, 1, 1, 1), torch.tensor(labels)


def teller(**options: Any) -> Classifier:
    """A classifier that returns the first pixel as the logit."""
    model = classifier(**{"standardize": False} | options)
    model.network = FirstNumber()
    return model


AS_TOLD = {"calibrate": False, "threshold": 0.5}
"""Options under which validation fits nothing, so that its metrics are those of the raw logits."""


# Loss


@pytest.mark.parametrize(
    ("counts", "weights"), [([1, 3], [2, 2 / 3]), ([5, 5], [1, 1]), ([1341, 3875], [5216 / 2682, 5216 / 7750])]
)
def test_balanced_weights_are_inverse_counts_with_mean_one(counts: list[int], weights: list[float]):
    model = classifier(counts=counts)
    assert model.weights.tolist() == pytest.approx(weights)
    assert sum(c * w for c, w in zip(counts, model.weights.tolist(), strict=True)) / sum(counts) == pytest.approx(1)
    assert classifier(counts=counts, class_weights="none").weights.tolist() == [1, 1]
    assert classifier(counts=counts, drawn_evenly=True).weights.tolist() == [1, 1]


def test_the_loss_weighs_each_sample_by_its_class():
    images, labels = told([0.8, 0.6], [1, 0])
    model = teller(counts=[1, 3])
    by_hand = (2 / 3 * -math.log(0.8) + 2 * -math.log(0.4)) / 2
    assert model.loss(model(images), labels).item() == pytest.approx(by_hand, rel=1e-5)


def test_label_smoothing_moves_targets_towards_a_half():
    images, labels = told([0.8], [1])
    model = teller(label_smoothing=0.1)
    by_hand = -(0.95 * math.log(0.8) + 0.05 * math.log(0.2))
    assert model.loss(model(images), labels).item() == pytest.approx(by_hand, rel=1e-5)


# Members


def test_each_member_has_the_loss_and_gradient_of_training_alone():
    torch.manual_seed(0)
    model = classifier(counts=[1, 3], members=3)
    images, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 1, 1])
    alone = []
    for member in model.network:
        single = classifier(counts=[1, 3])
        single.network.load_state_dict(member.state_dict())
        loss = single.loss(single(images), labels)
        loss.backward()
        alone.append((loss.item(), [parameter.grad for parameter in single.network.parameters()]))
    together = model.loss(model(images), labels)
    together.backward()
    assert together.item() == pytest.approx(sum(loss for loss, _ in alone) / 3, rel=1e-5)
    for member, (_, gradients) in zip(model.network, alone, strict=True):
        for parameter, gradient in zip(member.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad * 3, gradient)


def test_predictions_use_the_mean_of_the_members_logits(tmp_path: Path):
    images = torch.tensor([[-3.0, 1.0], [2.0, 1.0], [-1.0, 3.0]]).reshape(3, 1, 1, 2)
    labels = torch.tensor([0, 1, 1])
    model = classifier(standardize=False, members=2, **AS_TOLD)
    model.network = nn.Flatten()  # each pixel is the logit of one member
    metrics = measured(model, [(images, labels)], tmp_path, "val")
    assert (metrics["accuracy"], metrics["auroc"]) == (1, 1)
    assert metrics["brier"] == pytest.approx(sum((1 + math.exp(z)) ** -2 for z in (1, 1.5, 1)) / 3)
    assert model.predict(images)["probability"].tolist() == pytest.approx(
        model.probabilities(torch.tensor([-1.0, 1.5, 1.0])).tolist()
    )


def test_zero_members_are_refused():
    with pytest.raises(ValueError, match=r"model\.members=0: expected a number from 1"):
        classifier(members=0)


# Metrics

CHOSEN = ("temperature", "bias", "threshold")
BATCHES = [told([0.9, 0.9, 0.1], [1, 0, 0]), told([0.2], [1])]


@pytest.mark.parametrize("split", ["val", "test"])
def test_metrics_are_over_the_whole_split(split: str, tmp_path: Path):
    metrics = measured(teller(**AS_TOLD), BATCHES, tmp_path, split)
    chosen = {name: metrics.pop(name) for name in CHOSEN if name in metrics}
    assert len(chosen) == (3 if split == "val" else 0)
    assert metrics == pytest.approx(
        {
            "accuracy": 2 / 4,
            "sensitivity": 1 / 2,
            "specificity": 1 / 2,
            "auroc": (0.5 + 1 + 0 + 1) / 4,  # correctly ordered pairs of positive and negative; a tie counts 1/2
            "brier": (0.1**2 + 0.9**2 + 0.1**2 + 0.8**2) / 4,
            "ece": 2 / 4 * abs(0.9 - 0.5) + 1 / 4 * 0.1 + 1 / 4 * 0.8,
            "loss": -sum(map(math.log, (0.9, 0.1, 0.9, 0.2))) / 4,
        },
        abs=1e-4,
    )


@pytest.mark.parametrize(("label", "unknown"), [(1, {"auroc", "specificity"}), (0, {"auroc", "sensitivity"})])
def test_metrics_undefined_for_a_missing_class_are_nan(label: int, unknown: set[str], tmp_path: Path):
    metrics = measured(teller(threshold=0.5), [told([0.9, 0.4], [label, label])], tmp_path, "val")
    assert {name for name, value in metrics.items() if math.isnan(value)} == unknown
    assert metrics["sensitivity" if label else "specificity"] == 0.5
    assert (metrics["temperature"], metrics["bias"]) == (1, 0)


# Calibration and threshold


def sum_of_rates(called: Tensor, labels: Tensor) -> float:
    return (called[labels == 1] == 1).double().mean().item() + (called[labels == 0] == 0).double().mean().item()


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_maximises_sensitivity_plus_specificity(seed: int, tmp_path: Path):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (40,), generator=generator)
    # Rounded, so that there are ties; the largest logits saturate in float32.
    logits = (2 * torch.randn(40, generator=generator) + labels).mul(20).round()
    images = logits.reshape(-1, 1, 1, 1)
    model = teller()
    measured(model, [(images[:30], labels[:30]), (images[30:], labels[30:])], tmp_path, "val")
    answers = model.predict(images)
    best = max(sum_of_rates(answers["probability"] >= cut, labels) for cut in answers["probability"])
    assert sum_of_rates(answers["label"], labels) == best


def test_saturated_probabilities_are_still_labelled_correctly(tmp_path: Path):
    images, labels = torch.tensor([-200.0, -150.0, 150.0, 200.0]).reshape(-1, 1, 1, 1), torch.tensor([0, 0, 1, 1])
    model = teller()
    measured(model, [(images, labels)], tmp_path, "val")
    probabilities = model.predict(images)["probability"].tolist()
    assert probabilities == sorted(probabilities)
    assert model.predict(images)["label"].tolist() == [0, 0, 1, 1]


def test_validation_test_and_predictions_share_calibration_and_threshold(tmp_path: Path):
    batches = [told([0.1, 0.2, 0.35, 0.8], [0, 0, 1, 1])]
    model = teller()
    validated = measured(model, batches, tmp_path, "val")
    tested = measured(model, batches, tmp_path, "test")
    # With raw logits and a threshold of 1/2, one of the four would be wrong.
    assert {name: value for name, value in validated.items() if name not in CHOSEN} == tested
    assert (tested["accuracy"], tested["sensitivity"], tested["specificity"]) == (1, 1, 1)
    answers = model.predict(batches[0][0])
    assert answers["label"].tolist() == [0, 0, 1, 1]
    assert validated["bias"] > 0.1
    by_hand = [
        1 / (1 + (1 / p - 1) ** (1 / validated["temperature"]) * math.exp(-validated["bias"]))
        for p in (0.1, 0.2, 0.35, 0.8)
    ]
    assert answers["probability"].tolist() == pytest.approx(by_hand)
    assert tested["brier"] == pytest.approx(
        (by_hand[0] ** 2 + by_hand[1] ** 2 + (1 - by_hand[2]) ** 2 + (1 - by_hand[3]) ** 2) / 4
    )
    assert tested["loss"] == pytest.approx(-sum(map(math.log, (0.9, 0.8, 0.35, 0.8))) / 4)
    assert measured(model, batches, tmp_path, "val") == validated


def test_calibration_is_fitted_over_all_batches(tmp_path: Path):
    probabilities, labels = [0.1, 0.2, 0.35, 0.8, 0.3], [0, 0, 1, 1, 0]
    whole = measured(teller(), [told(probabilities, labels)], tmp_path, "val")
    parts = [told(probabilities[:3], labels[:3]), told(probabilities[3:], labels[3:])]
    assert measured(teller(), parts, tmp_path, "val") == pytest.approx(whole, rel=1e-5)


def test_training_metrics_use_uncalibrated_logits(tmp_path: Path):
    model = teller(optimizer={"_target_": "torch.optim.SGD", "lr": 0.0})
    batch = told([0.1, 0.2, 0.35, 0.8], [0, 0, 1, 1])
    seen = fit(model, Batches([batch], [batch]), tmp_path, max_epochs=2).callback_metrics
    assert (seen["train/accuracy"], seen["train/sensitivity"]) == (0.75, 0.5)
    assert seen["train/brier"].item() == pytest.approx((0.1**2 + 0.2**2 + 0.65**2 + 0.2**2) / 4)
    assert (seen["val/accuracy"], seen["val/sensitivity"]) == (1, 1)


def test_without_calibration_only_the_threshold_is_chosen(tmp_path: Path):
    model = teller(calibrate=False)
    found = measured(model, [told([0.1, 0.2, 0.35, 0.8], [0, 0, 1, 1])], tmp_path, "val")
    assert (found["temperature"], found["bias"]) == (1, 0)
    assert found["threshold"] == pytest.approx((0.2 + 0.35) / 2)
    assert found["accuracy"] == 1
    assert model.predict(told([0.3], [1])[0])["probability"].item() == pytest.approx(0.3)


def test_each_validation_refits_and_logs_calibration_and_threshold(tmp_path: Path):
    model = teller()
    measured(model, [told([0.1, 0.9], [0, 1])], tmp_path, "val")
    second = measured(model, [told([0.6, 0.9], [0, 1])], tmp_path, "val")
    assert {name: second[name] for name in CHOSEN} == {name: getattr(model, name).item() for name in CHOSEN}
    fresh = teller()
    measured(fresh, [told([0.6, 0.9], [0, 1])], tmp_path, "val")
    assert all(getattr(model, name) == getattr(fresh, name) for name in CHOSEN)


def test_a_checkpoint_without_calibration_loads_as_uncalibrated():
    model = teller()
    model.temperature.fill_(3)
    model.bias.fill_(3)
    checkpoint: dict[str, Any] = {"state_dict": {}}
    model.on_load_checkpoint(checkpoint)
    assert checkpoint["state_dict"] == {"temperature": 1, "bias": 0}


def test_predictions_are_one_probability_and_label_per_image():
    model = teller()
    model.threshold.fill_(0.3)
    answers = model.predict(told([0.2, 0.4, 0.9], [0, 0, 0])[0])
    assert answers["probability"].tolist() == pytest.approx([0.2, 0.4, 0.9])
    assert answers["label"].tolist() == [0, 1, 1]
    assert answers["label"].dtype == torch.int64


# Input


def test_standardization_removes_brightness_and_contrast():
    torch.manual_seed(0)
    model = classifier().eval()
    image = torch.rand(2, 1, 8, 8)
    assert torch.allclose(model(image), model(image * 0.5 + 0.25), atol=0.01)
    plain = classifier(standardize=False).eval()
    assert not torch.allclose(plain(image), plain(image * 0.5 + 0.25), atol=0.01)


def test_the_network_sees_locally_standardized_images():
    torch.manual_seed(0)
    model = classifier(standardize="local").eval()
    image = torch.rand(2, 1, 8, 8)
    assert torch.equal(model(image), model.network(locally_standardized(image)))


@pytest.mark.parametrize("standardize", [True, "local"])
def test_a_uniform_image_does_not_divide_by_zero(standardize: bool | str):
    assert classifier(standardize=standardize).eval()(torch.full((2, 1, 8, 8), 0.5)).isfinite().all()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"class_weights": "inverse"}, "none or balanced"),
        ({"label_smoothing": 1.0}, "from 0 to below 1"),
        ({"label_smoothing": -0.1}, "from 0 to below 1"),
        ({"padding": "reflect"}, "same, valid"),
        ({"standardize": "global"}, "true, false or local"),
        ({"prior": 0.0}, "null, or a number above 0 and below 1"),
        ({"prior": 0.6, "calibrate": False}, r"model\.prior=0\.6 .* set model\.calibrate=true or model\.prior=null"),
        ({"threshold": 1.5}, "youden, or a number from 0 to 1"),
        ({"threshold": "half"}, "youden, or a number from 0 to 1"),
    ],
)
def test_an_invalid_option_is_named(option: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        classifier(**option)
