"""Checkpoints contain plain values only and restore the model exactly."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import Batches, autoencoder, classifier, fit, pages, regressor, rows, xrays

TABULAR = {"_target_": "triptych.networks.tabular.Tabular", "bins": 4, "embedding_size": 4, "width": 8, "depth": 1}
UNET = {"_target_": "triptych.networks.unet.UNet", "width": 4, "depth": 1}
RESNET = {"_target_": "triptych.networks.resnet.SmallResNet", "width": 4, "stages": 1}
PAGES = Batches(pages((8, 8), (8, 8)), pages((5, 7)))
XRAYS = Batches(xrays(8, 8), xrays(8, seed=1))
ROWS = Batches(rows(16, 16), rows(8, seed=1))


def plain(value: Any) -> bool:
    """Whether a value consists of numbers, strings, lists and dicts only, subclasses excluded."""
    if type(value) is dict:
        return all(type(key) is str and plain(item) for key, item in value.items())
    if type(value) is list:
        return all(map(plain, value))
    return value is None or type(value) in (bool, int, float, str)


@pytest.mark.parametrize(
    ("make", "network", "data"),
    [
        pytest.param(autoencoder, None, PAGES, id="autoencoder"),
        pytest.param(autoencoder, UNET, PAGES, id="unet"),
        pytest.param(classifier, None, XRAYS, id="cnn"),
        pytest.param(classifier, RESNET, XRAYS, id="resnet"),
        pytest.param(regressor, None, ROWS, id="mlp"),
        pytest.param(regressor, TABULAR, ROWS, id="tabular"),
    ],
)
def test_a_model_is_restored_exactly_from_its_checkpoint(make: Any, network: Any, data: Batches, tmp_path: Path):
    options = {"monitor": "val/loss", "dropout": 0.1, "l1": 1e-6, "weight_decay": 0.01}
    model = make(**options if network is None else options | {"network": network})
    run = fit(model, data, tmp_path, max_epochs=2)
    path = tmp_path / "model.ckpt"
    run.save_checkpoint(path)

    saved = torch.load(path, weights_only=True)
    assert plain(dict(saved["hyper_parameters"]))
    assert saved["hyper_parameters"]["monitor"] == "val/loss"

    torch.manual_seed(1)
    back = type(model).load_from_checkpoint(path, weights_only=True).eval()
    assert dict(back.hparams) == dict(model.hparams)
    inputs = data.held_out[0][0]
    with torch.inference_mode():
        answers, before = back.predict(inputs), model.eval().predict(inputs)
    assert answers.keys() == before.keys()
    for name, values in answers.items():
        assert torch.equal(values, before[name]), name


def test_calibration_and_threshold_are_saved_with_the_weights(tmp_path: Path):
    model = classifier()
    run = fit(model, XRAYS, tmp_path)
    assert model.threshold != 0.5
    assert model.temperature != 1
    assert model.bias != 0
    run.save_checkpoint(tmp_path / "model.ckpt")
    back = type(model).load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert back.threshold == model.threshold
    assert back.temperature == model.temperature
    assert back.bias == model.bias
