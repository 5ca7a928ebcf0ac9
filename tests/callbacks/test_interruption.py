"""A run that is stopped saves where it stands; one that crashed does not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from tests.tiny import Batches, fit, regressor, rows

from triptych.callbacks.interruption import SaveOnInterruption


class Stop(Callback):
    """Raises an exception after this many steps."""

    def __init__(self, exception: BaseException, steps: int) -> None:
        self.exception, self.steps = exception, steps

    def on_train_batch_end(self, trainer: Trainer, *others: Any) -> None:
        if trainer.global_step == self.steps:
            raise self.exception


def stop(folder: Path, exception: BaseException, steps: int, *callbacks: Callback) -> list[str]:
    """Train on four batches an epoch until the exception; returns the names of the checkpoints."""
    checkpoint = ModelCheckpoint(folder / "checkpoints", filename="best", save_last=True, enable_version_counter=False)
    watchers = [checkpoint, SaveOnInterruption(), Stop(exception, steps), *callbacks]
    with pytest.raises((SystemExit, type(exception))):
        fit(regressor(), Batches(rows(4, 4, 4, 4)), folder, max_epochs=3, enable_checkpointing=True, callbacks=watchers)
    return sorted(path.name for path in (folder / "checkpoints").glob("*"))


def step(folder: Path) -> int:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


@pytest.mark.parametrize("exception", [KeyboardInterrupt(), SIGTERMException()], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize(("steps", "names"), [(2, ["last.ckpt"]), (6, ["best.ckpt", "last.ckpt"])])
def test_an_interrupted_run_saves_where_it_stands(
    exception: BaseException, steps: int, names: list[str], tmp_path: Path
):
    assert stop(tmp_path, exception, steps) == names
    assert step(tmp_path) == steps


def test_a_crash_leaves_the_last_checkpoint_as_it_was(tmp_path: Path):
    assert stop(tmp_path, RuntimeError("a bug"), 6) == ["best.ckpt", "last.ckpt"]
    assert step(tmp_path) == 4


def test_a_crash_before_the_first_checkpoint_saves_none(tmp_path: Path):
    assert stop(tmp_path, RuntimeError("a bug"), 2) == []


def test_a_second_signal_while_saving_leaves_the_checkpoint_before_whole(tmp_path: Path):
    class Impatient(Callback):
        def on_save_checkpoint(self, trainer: Trainer, *others: Any) -> None:
            if trainer.global_step == 6:
                raise KeyboardInterrupt

    stop(tmp_path, KeyboardInterrupt(), 6, Impatient())
    assert step(tmp_path) == 4


def test_a_half_written_checkpoint_never_has_the_checkpoints_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def save(self: Trainer, path: Path, *others: Any, **more: Any) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    class BreakOff(Callback):
        def on_train_batch_end(self, trainer: Trainer, *others: Any) -> None:
            if trainer.global_step == 5:
                monkeypatch.setattr(Trainer, "save_checkpoint", save)

    stop(tmp_path, KeyboardInterrupt(), 6, BreakOff())
    assert step(tmp_path) == 4


def test_without_a_place_for_checkpoints_there_is_nothing_to_save(tmp_path: Path):
    watchers = [SaveOnInterruption(), Stop(KeyboardInterrupt(), 1)]
    with pytest.raises(SystemExit):
        fit(regressor(), Batches(rows(4, 4)), tmp_path, callbacks=watchers)
    assert not list(tmp_path.rglob("*.ckpt"))
