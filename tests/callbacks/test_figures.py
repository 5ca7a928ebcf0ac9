"""Example figures of each epoch, in the run directory and in TensorBoard."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.tiny import Batches, autoencoder, classifier, fit, pages, regressor, rows, xrays

from triptych.callbacks.figures import Figures, PageFigures, PriceFigures, XrayFigures

ROWS = Batches(rows(8), rows(8, seed=1))
TASKS = [
    pytest.param(PageFigures, autoencoder, Batches(pages((8, 8)), pages((6, 9), count=4)), id="pages"),
    pytest.param(XrayFigures, classifier, Batches(xrays(8), xrays(16)), id="xrays"),
    pytest.param(PriceFigures, regressor, ROWS, id="prices"),
]


def board(folder: Path) -> EventAccumulator:
    """The TensorBoard events of a run."""
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return events


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "figures").iterdir())


@pytest.mark.parametrize(("figures", "make", "data"), TASKS)
def test_each_epoch_has_a_figure(figures: type[Figures], make: Any, data: Batches, tmp_path: Path):
    logger = TensorBoardLogger(str(tmp_path), name="", version="", default_hp_metric=False)
    model = make()
    fit(model, data, tmp_path, max_epochs=2, callbacks=[figures(str(tmp_path))], logger=logger)
    assert names(tmp_path) == ["epoch-001.png", "epoch-002.png"]
    with Image.open(tmp_path / "figures" / "epoch-002.png") as picture:
        assert np.asarray(picture).std() > 0

    shown = board(tmp_path)
    assert shown.Tags()["images"] == ["val/examples"]
    assert [image.step for image in shown.Images("val/examples")] == [1, 2]
    assert {"train/loss", "val/loss", "learning_rate"} <= set(shown.Tags()["scalars"])
    assert model.training


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ({"max_epochs": 5}, [2, 4, 5]),
        ({"max_epochs": 4}, [2, 4]),
        ({"max_epochs": -1, "max_steps": 3}, [2, 3]),
        ({"max_epochs": 1}, [1]),
    ],
)
def test_figures_come_every_n_epochs_and_at_the_end(options: dict[str, Any], epochs: list[int], tmp_path: Path):
    fit(regressor(), ROWS, tmp_path, callbacks=[PriceFigures(str(tmp_path), every_n_epochs=2)], **options)
    assert names(tmp_path) == [f"epoch-{epoch:03d}.png" for epoch in epochs]


def test_a_run_without_validation_has_figures_too(tmp_path: Path):
    fit(regressor(), Batches(rows(8)), tmp_path, callbacks=[PriceFigures(str(tmp_path))])
    assert names(tmp_path) == ["epoch-001.png"]


def test_a_dry_run_draws_nothing(tmp_path: Path):
    fit(regressor(), ROWS, tmp_path, callbacks=[PriceFigures(str(tmp_path))], fast_dev_run=True)
    assert not (tmp_path / "figures").exists()


def test_drawing_does_not_affect_training(tmp_path: Path):
    """With and without figures the trained weights are the same, including the randomness of dropout."""

    def weights(*callbacks: Callback) -> torch.Tensor:
        torch.manual_seed(0)
        model = regressor(dropout=0.5, norm="batch")
        fit(model, Batches(rows(8, 8), rows(8)), tmp_path, max_epochs=3, callbacks=list(callbacks))
        return torch.cat([values.flatten().double() for values in model.network.state_dict().values()])

    assert torch.equal(weights(), weights(PriceFigures(str(tmp_path))))


@pytest.mark.parametrize("every", [0, -1])
def test_an_interval_below_1_is_refused(every: int, tmp_path: Path):
    with pytest.raises(ValueError, match="every_n_epochs"):
        PriceFigures(str(tmp_path), every_n_epochs=every)
