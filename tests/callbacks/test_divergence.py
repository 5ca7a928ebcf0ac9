"""Divergence: the run stops at once, says where, and keeps its last good checkpoint."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import EarlyStopping
from tests.tiny import ADAM, Batches, fit, regressor, rows
from torch import nn
from torch.utils.data import TensorDataset

from triptych.callbacks.divergence import Diverged, StopOnDivergence
from triptych.callbacks.last_checkpoint import LastCheckpoint
from triptych.data.loader import ResumableLoader

SGD = {"_target_": "torch.optim.SGD", "lr": 1e30}


def run(model: Any, data: Any, folder: Path, *others: Any, **options: Any) -> None:
    callbacks = [*others, StopOnDivergence(), LastCheckpoint(str(folder))]
    fit(model, data, folder, callbacks=callbacks, enable_checkpointing=True, **options)


@pytest.mark.parametrize("wild", [torch.nan, torch.inf])
def test_the_message_names_the_step_and_a_remedy(wild: float, tmp_path: Path):
    class WildInTheSecondEpoch(Batches):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            inputs, targets = batch
            return inputs, targets * wild if self.trainer.global_step == 6 else targets

    with pytest.raises(Diverged) as raised:
        run(regressor(), WildInTheSecondEpoch(rows(4, 4, 4, 4)), tmp_path, max_epochs=3)
    assert str(raised.value) == (
        f"the training loss is {wild} at step 6 (epoch 2, batch 3), learning rate 0.01: set a smaller optimizer.lr, or "
        "clip the gradients with trainer.gradient_clip_val=1"
    )
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 4
    assert all(values.isfinite().all() for values in saved["state_dict"].values())


def test_a_diverging_last_step_is_found_by_validation(tmp_path: Path):
    """With full batches every step is the last of its epoch; early stopping would call it an ordinary end."""
    stopping = EarlyStopping("val/rmse")
    data = Batches(rows(8), rows(8))
    with pytest.raises(Diverged, match=r"the validation loss is (nan|inf) at step 1 "):
        run(regressor(optimizer=SGD), data, tmp_path, stopping, max_epochs=3)
    assert not (tmp_path / "last.ckpt").exists()


def test_a_diverging_last_step_is_found_without_validation(tmp_path: Path):
    model = regressor(optimizer=SGD | {"lr": 3e38})
    for parameter in model.parameters():  # with random weights the gradient could be too small to overshoot
        nn.init.constant_(parameter, 10)
    with pytest.raises(Diverged, match=r"the largest weight is (nan|inf) at step 1 "):
        run(model, Batches(rows(8)), tmp_path)


def test_a_run_that_does_not_diverge_ends_normally(tmp_path: Path):
    run(regressor(optimizer=ADAM), Batches(rows(8), rows(8)), tmp_path, max_epochs=2)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2


class Named(LightningDataModule):
    """Ten rows in batches of four; at ``step``, a value of the second row becomes infinite, or only very large."""

    def __init__(self, step: int, spoiled: int | None) -> None:
        super().__init__()
        self.step, self.spoiled = step, spoiled
        (self.rows,) = rows(10)
        self.seen: list[str] = []

    def training_rows(self) -> Any:
        return self.rows

    def train_dataloader(self) -> ResumableLoader:
        data = TensorDataset(torch.arange(10), *self.rows)
        return ResumableLoader(data, batch_size=4, shuffle=True, generator=torch.Generator())  # type: ignore[arg-type]

    def sample_names(self, indices: Any) -> list[str]:
        return [f"row-{index}" for index in indices]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        numbers, *parts = batch
        self.seen = self.sample_names(numbers.tolist())
        if self.trainer.global_step == self.step:
            if self.spoiled is None:
                parts[0][1] = 1e30  # finite, but its square overflows
            else:
                parts[self.spoiled][1] = torch.inf
        return tuple(parts)


@pytest.mark.parametrize("spoiled", [0, 1])
def test_the_sample_with_non_finite_values_is_named(spoiled: int, tmp_path: Path):
    data = Named(4, spoiled)
    with pytest.raises(Diverged) as raised:
        run(regressor(input_scaling="none"), data, tmp_path, max_epochs=3)
    place = f"at step 4 (epoch 2, batch 2, no finite numbers in {data.seen[1]}), learning rate 0.01"
    assert place in str(raised.value)


def test_the_whole_batch_is_named_when_all_its_samples_are_finite(tmp_path: Path):
    data, model = Named(4, None), regressor(input_scaling="none")
    for parameter in model.parameters():
        nn.init.constant_(parameter, 1)
    with pytest.raises(Diverged) as raised:
        run(model, data, tmp_path, max_epochs=3)
    assert f"at step 4 (epoch 2, batch 2, of {', '.join(data.seen)}), learning rate 0.01" in str(raised.value)


@pytest.mark.parametrize(
    ("device", "processes", "every", "steps"),
    [
        ("cpu", 1, 1, [0, 1, 2, 3, 4, 5, 6]),
        ("cpu", 1, 4, [3]),
        ("cuda", 1, 1, [2, 5]),
        ("cpu", 2, 1, [2, 5]),
        ("cuda", 1, 4, [5]),
    ],
)
def test_gpus_and_other_processes_are_checked_only_at_logged_steps(
    device: str, processes: int, every: int, steps: list[int]
):
    stop = StopOnDivergence(every)
    trainer: Any = SimpleNamespace(world_size=processes, log_every_n_steps=3, strategy=None)
    model: Any = SimpleNamespace(device=torch.device(device))
    stop.on_train_start(trainer, model)
    looked = []
    stop._check = lambda trainer, *_: looked.append(trainer.global_step)  # type: ignore[method-assign]
    for trainer.global_step in range(7):
        stop.on_before_backward(trainer, model, torch.tensor(1.0))
    assert looked == steps


def test_a_negative_interval_is_refused():
    with pytest.raises(ValueError, match=r"callbacks.divergence.every_n_steps=-1: expected a number from 1, or 0"):
        StopOnDivergence(-1)
