"""Values given on a resume hold, where the checkpoint would bring the old ones back."""

import logging
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from tests.tiny import CONSTANT, Batches, fit, regressor, rows

from triptych.callbacks.last_checkpoint import LastCheckpoint
from triptych.callbacks.new_settings import NewSettings

SGD = {"_target_": "torch.optim.SGD", "lr": 0.01, "momentum": 0.9}
SCHEDULER = "torch.optim.lr_scheduler."
COSINE = {"_target_": f"{SCHEDULER}CosineAnnealingLR", "T_max": "auto", "interval": "step"}
CYCLE = {"_target_": f"{SCHEDULER}OneCycleLR", "max_lr": "auto", "total_steps": "auto", "interval": "step"}
PLATEAU = {"_target_": f"{SCHEDULER}ReduceLROnPlateau", "patience": 0, "interval": "epoch", "mode": "max"}


class Rates(Callback):
    """The learning rate of each step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def train(folder: Path, epochs: int, scheduler: dict[str, Any], resume: bool = False, **more: Any) -> list[float]:
    """Four steps an epoch; returns the learning rates."""
    rates = Rates()
    model = regressor(optimizer=SGD | {"lr": more.pop("lr", 0.01)}, scheduler=scheduler, monitor="val/rmse")
    callbacks = [rates, *more.pop("callbacks", []), NewSettings(), LastCheckpoint(str(folder))]
    last = folder / "last.ckpt" if resume else None
    options = {"max_epochs": epochs, "enable_checkpointing": True, "callbacks": callbacks}
    fit(model, Batches(rows(4, 4, 4, 4), rows(4)), folder, last, **options)
    return rates.seen


@pytest.mark.parametrize("scheduler", [COSINE, CYCLE, COSINE | {"interval": "epoch"}])
def test_a_longer_run_goes_on_with_the_schedule_of_its_new_length(
    scheduler: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    longer = train(tmp_path / "longer", 5, scheduler)
    train(tmp_path / "part", 2, scheduler)
    with caplog.at_level(logging.WARNING):
        rest = train(tmp_path / "part", 5, scheduler, resume=True)
    assert rest == pytest.approx(longer[8:], rel=1e-9)
    assert f"the learning rate goes on at {longer[8]:.3g}" in caplog.text


def test_the_same_length_is_left_as_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path, 3, COSINE)
    assert not train(tmp_path, 3, COSINE, resume=True)
    train(tmp_path / "constant", 2, CONSTANT)
    with caplog.at_level(logging.WARNING):
        train(tmp_path / "constant", 4, CONSTANT, resume=True)
    assert "schedule" not in caplog.text


def test_another_learning_rate_holds_and_the_momentum_stays(tmp_path: Path) -> None:
    train(tmp_path, 2, CONSTANT)
    kept = []

    class Look(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            kept.append(len(trainer.optimizers[0].state))

    assert train(tmp_path, 3, CONSTANT, resume=True, lr=0.5, callbacks=[Look()]) == [0.5] * 4
    assert kept[0] > 0


def test_a_plateau_keeps_count_of_its_epochs_under_new_settings(tmp_path: Path) -> None:
    """``mode=max`` of a loss that falls: each epoch after the first is one without a gain."""
    slow = {"lr": 1e-4}
    whole = train(tmp_path / "whole", 4, PLATEAU | {"factor": 0.5}, **slow)
    assert whole == pytest.approx([rate for rate in (1e-4, 1e-4, 5e-5, 2.5e-5) for _ in range(4)])
    train(tmp_path / "part", 2, PLATEAU | {"factor": 0.5}, **slow)
    rest = train(tmp_path / "part", 4, PLATEAU | {"factor": 0.1}, resume=True, **slow)
    assert rest == pytest.approx([rate for rate in (5e-5, 5e-6) for _ in range(4)])


def stopping(patience: int) -> EarlyStopping:
    return EarlyStopping("val/rmse", mode="max", patience=patience)


def test_a_run_that_early_stopping_ended_trains_on_with_more_patience_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = train(tmp_path, 9, CONSTANT, callbacks=[stopping(2)])
    assert len(first) == 3 * 4
    with caplog.at_level(logging.WARNING):
        assert not train(tmp_path, 12, CONSTANT, resume=True, callbacks=[stopping(2)])
    assert "callbacks.early_stopping.patience" in caplog.text
    assert len(train(tmp_path, 12, CONSTANT, resume=True, callbacks=[stopping(4)])) == 2 * 4
