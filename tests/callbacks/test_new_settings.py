"""New settings on resume take precedence over those restored from the checkpoint."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from tests.tiny import CONSTANT, Batches, fit, regressor, rows

from triptych.callbacks.last_checkpoint import LastCheckpoint
from triptych.callbacks.new_settings import NewSettings
from triptych.callbacks.trainer_state import TrainerState

SGD = {"_target_": "torch.optim.SGD", "lr": 0.01, "momentum": 0.9}
SCHEDULER = "torch.optim.lr_scheduler."
COSINE = {"_target_": f"{SCHEDULER}CosineAnnealingLR", "T_max": "auto", "interval": "step"}
CYCLE = {"_target_": f"{SCHEDULER}OneCycleLR", "max_lr": "auto", "total_steps": "auto", "interval": "step"}
PLATEAU = {"_target_": f"{SCHEDULER}ReduceLROnPlateau", "patience": 0, "interval": "epoch", "mode": "max"}


class Rates(Callback):
    """Records the learning rate of each step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def train(folder: Path, epochs: int, scheduler: dict[str, Any], resume: bool = False, **more: Any) -> list[float]:
    """Train with four steps per epoch; returns the learning rate of each step."""
    torch.manual_seed(0)  # with other initial weights validation may not improve in each epoch
    rates = Rates()
    model = regressor(
        optimizer=SGD | {key: more.pop(key, SGD[key]) for key in ("lr", "momentum")},
        scheduler=scheduler,
        monitor="val/rmse",
    )
    callbacks = [rates, *more.pop("callbacks", []), TrainerState(), NewSettings(), LastCheckpoint(str(folder))]
    last = folder / "last.ckpt" if resume else None
    options = {"max_epochs": epochs, "enable_checkpointing": True, "callbacks": callbacks}
    options |= {key: more.pop(key) for key in ("max_steps", "accumulate_grad_batches") if key in more}
    data = Batches(rows(*[4] * more.pop("batches", 4)), rows(4))
    run = fit(model, data, folder, last, **options)
    epochs: Any = run.fit_loop.epoch_progress.current
    assert epochs.processed == more.pop("ends", epochs.processed)
    return rates.seen


@pytest.mark.parametrize("scheduler", [COSINE, CYCLE, COSINE | {"interval": "epoch"}])
def test_extending_a_run_uses_the_schedule_of_the_new_length(
    scheduler: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    longer = train(tmp_path / "longer", 5, scheduler)
    train(tmp_path / "part", 2, scheduler)
    with caplog.at_level(logging.WARNING):
        rest = train(tmp_path / "part", 5, scheduler, resume=True)
    assert rest == pytest.approx(longer[8:], rel=1e-9)
    assert f"the learning rate continues at {longer[8]:.3g}" in caplog.text


def test_the_same_length_leaves_the_schedule_unchanged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path, 3, COSINE)
    assert not train(tmp_path, 3, COSINE, resume=True)
    train(tmp_path / "constant", 2, CONSTANT)
    with caplog.at_level(logging.WARNING):
        train(tmp_path / "constant", 4, CONSTANT, resume=True)
    assert "schedule" not in caplog.text


@pytest.mark.parametrize("scheduler", [COSINE, CYCLE])
@pytest.mark.parametrize("batches", [2, 8])
def test_epochs_of_another_length_keep_the_fraction_completed(
    scheduler: dict[str, Any], batches: int, tmp_path: Path
) -> None:
    whole = train(tmp_path / "whole", 4, scheduler, batches=batches)
    train(tmp_path / "part", 3, scheduler)
    rest = train(tmp_path / "part", 4, scheduler, resume=True, batches=batches)
    assert rest == pytest.approx(whole[3 * batches :], rel=1e-9)


def test_another_number_of_batches_a_step_keeps_the_fraction_completed(tmp_path: Path) -> None:
    # Six batches are two steps of four (the second of two only), or six steps of one.
    whole = train(tmp_path / "whole", 6, CYCLE, batches=6)
    train(tmp_path / "part", 4, CYCLE, batches=6, accumulate_grad_batches=4)
    rest = train(tmp_path / "part", 6, CYCLE, resume=True, batches=6)
    assert rest == pytest.approx(whole[4 * 6 :], rel=1e-9)


def test_a_schedule_of_steps_continues_at_the_same_step(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", -1, CYCLE, max_steps=16)
    train(tmp_path / "part", -1, CYCLE, max_steps=8)
    rest = train(tmp_path / "part", -1, CYCLE, resume=True, max_steps=16, batches=8)
    assert rest == pytest.approx(whole[8:], rel=1e-9)


def test_a_schedule_that_is_rebuilt_twice_stays_where_it_is(tmp_path: Path) -> None:
    long = CYCLE | {"total_steps": 100}
    train(tmp_path, 2, long)
    train(tmp_path, 4, long | {"total_steps": 200}, resume=True, batches=8)
    again = train(tmp_path, 5, long | {"total_steps": 200}, resume=True, batches=8, lr=0.0100001)
    whole = train(tmp_path / "whole", 5, long | {"total_steps": 200}, batches=8)
    assert again == pytest.approx(whole[4 * 8 :], rel=1e-4)


def test_a_new_learning_rate_applies_and_momentum_is_kept(tmp_path: Path) -> None:
    train(tmp_path, 2, CONSTANT)
    kept = []

    class Look(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            kept.append(len(trainer.optimizers[0].state))

    assert train(tmp_path, 3, CONSTANT, resume=True, lr=0.5, callbacks=[Look()]) == [0.5] * 4
    assert kept[0] > 0


def test_plateau_keeps_its_count_of_epochs_under_new_settings(tmp_path: Path) -> None:
    """With ``mode=max`` and a falling loss, no epoch after the first is an improvement."""
    slow = {"lr": 1e-4}
    whole = train(tmp_path / "whole", 4, PLATEAU | {"factor": 0.5}, **slow)
    assert whole == pytest.approx([rate for rate in (1e-4, 1e-4, 5e-5, 2.5e-5) for _ in range(4)])
    train(tmp_path / "part", 2, PLATEAU | {"factor": 0.5}, **slow)
    rest = train(tmp_path / "part", 4, PLATEAU | {"factor": 0.1}, resume=True, **slow)
    assert rest == pytest.approx([rate for rate in (5e-5, 5e-6) for _ in range(4)])


def test_plateau_keeps_its_reductions_unless_the_learning_rate_changes(tmp_path: Path) -> None:
    train(tmp_path, 3, PLATEAU | {"factor": 0.5}, lr=1e-4)
    rest = train(tmp_path, 4, PLATEAU | {"factor": 0.5}, resume=True, lr=1e-4, momentum=0.5)
    assert rest == pytest.approx([2.5e-5] * 4)
    rest = train(tmp_path, 5, PLATEAU | {"factor": 0.5}, resume=True, lr=1e-3, momentum=0.5)
    assert rest == pytest.approx([1e-3] * 4)


def stopping(patience: int) -> EarlyStopping:
    return EarlyStopping("val/rmse", mode="max", patience=patience)


def test_an_early_stopped_run_continues_only_with_more_patience(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slow = {"lr": 1e-4}
    first = train(tmp_path, 9, CONSTANT, callbacks=[stopping(2)], ends=3, **slow)
    assert len(first) == 3 * 4
    for epochs in (9, 12):
        with caplog.at_level(logging.WARNING):
            assert not train(tmp_path, epochs, CONSTANT, resume=True, callbacks=[stopping(2)], ends=3, **slow)
    assert "callbacks.early_stopping.patience" in caplog.text
    assert len(train(tmp_path, 12, CONSTANT, resume=True, callbacks=[stopping(4)], **slow)) == 2 * 4


def test_patience_0_still_allows_the_first_epoch(tmp_path: Path) -> None:
    assert len(train(tmp_path, 9, CONSTANT, callbacks=[stopping(0)], lr=1e-4)) == 2 * 4


def test_a_stopped_run_stays_stopped_unless_max_epochs_changes(tmp_path: Path) -> None:
    """Stopped by a callback, as a search does when it prunes a trial."""

    class Stop(Callback):
        def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
            trainer.should_stop = True

    assert len(train(tmp_path, 9, CONSTANT, callbacks=[Stop()], ends=1)) == 4
    assert not train(tmp_path, 9, CONSTANT, resume=True, ends=1)
    assert len(train(tmp_path, 3, CONSTANT, resume=True, ends=3)) == 2 * 4
    # Nor does early stopping with patience 0 end it, as every epoch was an improvement.
    better = EarlyStopping("val/rmse", mode="min", patience=0)
    assert len(train(tmp_path / "impatient", 9, CONSTANT, callbacks=[Stop(), better], ends=1, lr=1e-4)) == 4
    assert len(train(tmp_path / "impatient", 3, CONSTANT, resume=True, callbacks=[better], ends=3, lr=1e-4)) == 2 * 4
