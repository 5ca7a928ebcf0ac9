"""Figures of the tested network: when they are drawn, where they are saved, and that nothing else changes."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.callbacks.analysis.small import XrayBatches
from tests.tiny import Batches, classifier, fit, regressor, rows, trainer, xrays

from triptych.callbacks.analysis.base import Analysis, predict_split
from triptych.callbacks.analysis.prices import PriceAnalysis
from triptych.callbacks.analysis.xrays import XrayAnalysis
from triptych.terminal import quiet_lightning

ROWS = Batches(rows(16), rows(20, 12, seed=1))
XRAYS = XrayBatches(xrays(8), xrays(12, 8, seed=1))
TASKS = [
    pytest.param(PriceAnalysis, regressor, ROWS, {"importances", "intervals", "prices"}, id="prices"),
    pytest.param(
        XrayAnalysis,
        classifier,
        XRAYS,
        {"calibration", "confusion", "curves", "errors", "grad-cam"},
        id="xrays",
    ),
]


def measured(model: Any, data: Batches, folder: Path, analysis: Analysis | None, **options: Any) -> dict[str, float]:
    """Metrics of the test split."""
    run = trainer(folder, **options, callbacks=[analysis] if analysis else [])
    with quiet_lightning():
        (metrics,) = run.test(model, datamodule=data, verbose=False)
    return dict(metrics)


@pytest.mark.parametrize(("analysis", "make", "data", "names"), TASKS)
def test_each_figure_is_saved_and_in_tensorboard(
    analysis: type[Analysis], make: Any, data: Batches, names: set[str], tmp_path: Path
):
    model = make()
    logger = TensorBoardLogger(str(tmp_path), name="", version="", default_hp_metric=False)
    run = fit(model, data, tmp_path, callbacks=[analysis(str(tmp_path))], logger=logger)
    assert not (tmp_path / "figures").exists()
    with quiet_lightning():
        run.test(model, datamodule=data, verbose=False)
    logger.finalize("success")

    files = list((tmp_path / "figures").iterdir())
    assert {path.name for path in files} == {f"test-{name}.png" for name in names}
    for path in files:
        with Image.open(path) as picture:
            assert np.asarray(picture).std() > 0
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    events.Reload()
    assert set(events.Tags()["images"]) == {f"test/{name}" for name in names}
    assert all([image.step for image in events.Images(f"test/{name}")] == [1] for name in names)


@pytest.mark.parametrize(("analysis", "make", "data", "names"), TASKS)
@pytest.mark.parametrize("off", ["enabled", "fast_dev_run"])
def test_no_figures_when_disabled_or_in_a_dry_run(
    off: str, analysis: type[Analysis], make: Any, data: Batches, names: set[str], tmp_path: Path
):
    model = make()
    fit(model, data, tmp_path)
    callback = analysis(str(tmp_path), enabled=off != "enabled")
    metrics = measured(model, data, tmp_path, callback, fast_dev_run=off == "fast_dev_run")
    assert not (tmp_path / "figures").exists()
    assert "test/coverage" not in metrics


@pytest.mark.parametrize(("analysis", "make", "data", "names"), TASKS)
def test_analysis_changes_no_metric_model_or_random_state(
    analysis: type[Analysis], make: Any, data: Batches, names: set[str], tmp_path: Path
):
    torch.manual_seed(0)
    model = make(dropout=0.5, norm="batch")
    fit(model, data, tmp_path)
    next(iter(model.network.children())).eval()  # as if frozen
    modes = [module.training for module in model.modules()]
    state = {name: values.clone() for name, values in model.state_dict().items()}

    found = []
    for callback in (None, analysis(str(tmp_path))):
        seed_everything(1, verbose=False)
        metrics = measured(model, data, tmp_path, callback)
        found.append((metrics, torch.rand(3).tolist(), random.random(), np.random.random()))  # noqa: NPY002
    (without, *drawn), (metrics, *again) = found
    assert {name: metrics[name] for name in without} == without
    assert drawn == again
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(values, state[name]) for name, values in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("limit", "count"), [(1, 12), (0.5, 12), (1.0, 20)])
def test_answers_cover_exactly_the_tested_batches(limit: int | float, count: int, tmp_path: Path):
    model = classifier().eval()
    run = trainer(tmp_path, limit_test_batches=limit)
    with quiet_lightning():
        run.test(model, datamodule=XRAYS, verbose=False)
    with torch.no_grad():
        found, labels = predict_split(run, model, "test")
        expected = model.predict(torch.cat([images for images, _ in XRAYS.held_out])[:count])["probability"]
    assert found["probability"] == pytest.approx(expected.numpy(), abs=1e-6)
    assert labels.tolist() == [index % 2 for index in (*range(12), *range(8))][:count]


@pytest.mark.parametrize(("analysis", "make", "data", "names"), TASKS)
def test_a_diverged_network_has_no_figures(
    analysis: type[Analysis], make: Any, data: Batches, names: set[str], tmp_path: Path
):
    model = make()
    fit(model, data, tmp_path)
    for parameter in model.network.parameters():
        parameter.data.fill_(torch.nan)
    measured(model, data, tmp_path, analysis(str(tmp_path)))
    assert not (tmp_path / "figures").exists()
