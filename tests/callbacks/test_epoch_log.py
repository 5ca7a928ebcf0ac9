"""The log line of each epoch."""

import logging
import re
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from tests.tiny import Batches, fit, regressor, rows

from triptych.callbacks.epoch_log import EpochLog


@pytest.fixture(autouse=True)
def _at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "triptych.callbacks.epoch_log")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.endswith("epoch_log")]


def test_a_line_shows_epoch_time_training_loss_and_validation_metrics(tmp_path: Path, caplog):
    run = fit(regressor(), Batches(rows(8), rows(8)), tmp_path, max_epochs=2, callbacks=[EpochLog()])
    first, second = lines(caplog)
    assert re.match(r"epoch 1/2  \d+\.\d s  ", first)
    number = r"-?[\d.e+]+"
    shown = dict(re.findall(rf"([a-z/0-9]+) ({number})(?:  |$)", second.partition(" s  ")[2]))
    assert shown.keys() == {"train/loss", "val/loss", "val/rmse", "val/mae", "val/r2"}
    assert float(shown["val/rmse"]) == pytest.approx(run.callback_metrics["val/rmse"].item(), rel=1e-4)


def test_a_run_without_end_or_validation_shows_what_is_known(tmp_path: Path, caplog):
    fit(regressor(), Batches(rows(8)), tmp_path, max_epochs=-1, max_steps=1, callbacks=[EpochLog()])
    (line,) = lines(caplog)
    assert re.fullmatch(r"epoch 1  \d+\.\d s  train/loss [\d.]+", line)


def test_an_epoch_without_validation_shows_no_stale_metrics(tmp_path: Path, caplog):
    data = Batches(rows(8), rows(8))
    fit(regressor(), data, tmp_path, max_epochs=3, check_val_every_n_epoch=2, callbacks=[EpochLog()])
    assert ["val/rmse" in line for line in lines(caplog)] == [False, True, False]
    assert all("train/loss" in line for line in lines(caplog))


@pytest.mark.filterwarnings("ignore:You.re resuming from a checkpoint")
def test_an_epoch_resumed_in_the_middle_has_its_line(tmp_path: Path, caplog):
    data = Batches(rows(4, 4, 4, 4))
    middle = ModelCheckpoint(tmp_path, "middle", every_n_train_steps=3)
    fit(regressor(), data, tmp_path, callbacks=[middle], enable_checkpointing=True)
    again = {"callbacks": [middle, EpochLog()], "enable_checkpointing": True, "max_epochs": 2}
    run = fit(regressor(), data, tmp_path, tmp_path / "middle.ckpt", **again)
    assert run.global_step == 8
    assert [line.split()[1] for line in lines(caplog)] == ["1/2", "2/2"]


@pytest.mark.parametrize(("epochs", "early"), [(5, True), (2, False)])
def test_early_stopping_is_logged(epochs: int, early: bool, tmp_path: Path, caplog):
    stopping = EarlyStopping("val/loss", patience=1, min_delta=1e6)
    fit(regressor(), Batches(rows(8), rows(8)), tmp_path, max_epochs=epochs, callbacks=[EpochLog(), stopping])
    *told, last = lines(caplog)
    assert len(told) == (2 if early else 1)
    assert ("Stopped early" in last) == early
    assert ("val/loss did not improve in the last 1 records" in last) == early
