"""The state to resume from is whole at any moment, and that of a step or epoch that was complete."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException
from tests.tiny import Batch, Batches, fit, regressor, rows

from triptych.callbacks.last_checkpoint import LastCheckpoint
from triptych.checkpoint_io import WholeCheckpointIO
from triptych.results.checkpoints import is_whole


class Happening(Callback):
    """Something that happens in a hook at a step."""

    def __init__(self, hook: str, step: int, what: Any) -> None:
        self.step, self.what = step, what
        setattr(self, hook, self.happen)

    def happen(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.what()


def train(folder: Path, *callbacks: Callback, held_out: Sequence[Batch] = ()) -> None:
    """Three epochs of four steps."""
    fit(
        regressor(),
        Batches(rows(4, 4, 4, 4), held_out),
        folder,
        max_epochs=3,
        enable_checkpointing=True,
        callbacks=[*callbacks, LastCheckpoint(str(folder))],
        plugins=[WholeCheckpointIO()],
    )


def step(path: Path) -> int:
    return torch.load(path, weights_only=True)["global_step"]


def crash() -> None:
    raise RuntimeError("a bug")


def test_the_end_of_the_last_epoch_is_kept_and_nothing_else(tmp_path: Path):
    train(tmp_path)
    assert [path.name for path in tmp_path.glob("*.ckpt*")] == ["last.ckpt"]
    assert step(tmp_path / "last.ckpt") == 12


@pytest.mark.parametrize(("at", "saved"), [(2, 3), (6, 7), (8, 9)])
def test_sigterm_is_saved_behind_the_step(at: int, saved: int, tmp_path: Path):
    happening = Happening("on_train_batch_start", at, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SIGTERMException):
        train(tmp_path, happening)
    assert step(tmp_path / "last.ckpt") == saved


def test_a_validation_that_was_stopped_is_not_taken_for_a_finished_one(tmp_path: Path):
    happening = Happening("on_validation_batch_end", 8, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SIGTERMException):
        train(tmp_path, happening, held_out=rows(4, 4))
    assert step(tmp_path / "last.ckpt") == 4


def test_a_crash_leaves_the_last_checkpoint_as_it_was(tmp_path: Path):
    with pytest.raises(RuntimeError, match="a bug"):
        train(tmp_path, Happening("on_train_batch_end", 10, crash))
    assert step(tmp_path / "last.ckpt") == 8
    assert step(tmp_path / "previous.ckpt") == 4


def test_a_crash_before_the_first_checkpoint_leaves_none(tmp_path: Path):
    with pytest.raises(RuntimeError, match="a bug"):
        train(tmp_path, Happening("on_train_batch_end", 2, crash))
    assert not list(tmp_path.glob("*.ckpt"))


def test_an_epoch_counts_once_its_metrics_are_logged(tmp_path: Path):
    """Lightning logs them behind the checkpoint: a kill between the two would leave a gap in the curve."""
    seen: list[list[str]] = []
    # In the hook of a callback that comes before, the epoch that has ended lies aside still.
    look = Happening("on_train_epoch_start", 4, lambda: seen.append([path.name for path in tmp_path.glob("*.ckpt")]))
    train(tmp_path, look)
    assert seen == [["next.ckpt"]]


def test_a_disk_that_is_full_leaves_the_last_checkpoint_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        train(tmp_path, Happening("on_train_epoch_start", 8, lambda: monkeypatch.setattr("os.fsync", full)))
    assert is_whole(tmp_path / "last.ckpt")
    assert step(tmp_path / "last.ckpt") == 8
