"""The checkpoint to resume from: whole at any moment, and of a completed step or epoch."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from tests.tiny import Batch, Batches, fit, regressor, rows

from triptych.callbacks.last_checkpoint import LastCheckpoint, restore_best
from triptych.checkpoint_io import AtomicCheckpointIO
from triptych.results.checkpoints import is_intact


class Happening(Callback):
    """Calls ``what`` in the given hook at the given step."""

    def __init__(self, hook: str, step: int, what: Any) -> None:
        self.step, self.what = step, what
        setattr(self, hook, self.happen)

    def happen(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.what()


def train(folder: Path, *callbacks: Callback, held_out: Sequence[Batch] = ()) -> None:
    """Train three epochs of four steps."""
    fit(
        regressor(),
        Batches(rows(4, 4, 4, 4), held_out),
        folder,
        max_epochs=3,
        enable_checkpointing=True,
        callbacks=[*callbacks, LastCheckpoint(str(folder))],
        plugins=[AtomicCheckpointIO()],
    )


def step(path: Path) -> int:
    return torch.load(path, weights_only=True)["global_step"]


def crash() -> None:
    raise RuntimeError("a bug")


def test_only_the_end_of_the_last_epoch_is_kept(tmp_path: Path):
    train(tmp_path)
    assert [path.name for path in tmp_path.glob("*.ckpt*")] == ["last.ckpt"]
    assert step(tmp_path / "last.ckpt") == 12


@pytest.mark.parametrize(("at", "saved"), [(2, 3), (6, 7), (8, 9)])
def test_sigterm_saves_after_the_current_step(at: int, saved: int, tmp_path: Path):
    happening = Happening("on_train_batch_start", at, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SIGTERMException):
        train(tmp_path, happening)
    assert step(tmp_path / "last.ckpt") == saved


def test_an_interrupted_validation_does_not_count_as_finished(tmp_path: Path):
    happening = Happening("on_validation_batch_end", 8, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SIGTERMException):
        train(tmp_path, happening, held_out=rows(4, 4))
    assert step(tmp_path / "last.ckpt") == 4


def test_a_crash_leaves_the_last_checkpoint_unchanged(tmp_path: Path):
    with pytest.raises(RuntimeError, match="a bug"):
        train(tmp_path, Happening("on_train_batch_end", 10, crash))
    assert step(tmp_path / "last.ckpt") == 8
    assert step(tmp_path / "previous.ckpt") == 4


def test_a_crash_before_the_first_checkpoint_leaves_none(tmp_path: Path):
    with pytest.raises(RuntimeError, match="a bug"):
        train(tmp_path, Happening("on_train_batch_end", 2, crash))
    assert not list(tmp_path.glob("*.ckpt"))


def test_a_checkpoint_becomes_the_last_one_after_its_metrics_are_logged(tmp_path: Path):
    """Lightning logs metrics after saving the checkpoint: a kill in between would leave a gap in the curve."""
    seen: list[list[str]] = []
    # In the hook of an earlier callback the checkpoint of the finished epoch is still next.ckpt.
    look = Happening("on_train_epoch_start", 4, lambda: seen.append([path.name for path in tmp_path.glob("*.ckpt")]))
    train(tmp_path, look)
    assert seen == [["next.ckpt"]]


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        train(tmp_path, Happening("on_train_epoch_start", 8, lambda: monkeypatch.setattr("os.fsync", full)))
    assert is_intact(tmp_path / "last.ckpt")
    assert step(tmp_path / "last.ckpt") == 8


def best_and_last(folder: Path, *callbacks: Callback) -> None:
    """Train two epochs of four steps, validated in the middle and at the end, each time better than before."""
    torch.manual_seed(0)  # with other initial weights a validation may get worse
    best = ModelCheckpoint(folder, "best", monitor="val/loss", enable_version_counter=False)
    last = LastCheckpoint(str(folder))
    data = Batches(rows(4, 4, 4, 4), rows(4))
    given: dict[str, Any] = {"enable_checkpointing": True, "plugins": [AtomicCheckpointIO()], "val_check_interval": 2}
    fit(regressor(), data, folder, max_epochs=2, callbacks=[*callbacks, best, last], **given)


@pytest.mark.parametrize("links", [True, False])
def test_the_best_checkpoint_of_lost_steps_is_rolled_back(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: Any) -> None:
        raise OSError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refused)
    with pytest.raises(RuntimeError, match="a bug"):
        best_and_last(tmp_path, Happening("on_train_batch_end", 7, crash))
    assert [step(tmp_path / name) for name in ("best.ckpt", "last.ckpt", "best.ckpt.kept")] == [6, 4, 4]
    restore_best(tmp_path, 4)
    assert step(tmp_path / "best.ckpt") == 4
    assert not (tmp_path / "best.ckpt.kept").exists()


def test_a_best_checkpoint_of_kept_steps_stays(tmp_path: Path):
    with pytest.raises(RuntimeError, match="a bug"):
        best_and_last(tmp_path, Happening("on_train_batch_end", 7, crash))
    restore_best(tmp_path, 6)
    assert step(tmp_path / "best.ckpt") == 6


def test_a_kept_copy_is_not_restored_when_too_late_or_damaged(tmp_path: Path):
    with pytest.raises(RuntimeError, match="a bug"):
        best_and_last(tmp_path, Happening("on_train_batch_end", 7, crash))
    restore_best(tmp_path, 2)
    assert step(tmp_path / "best.ckpt") == 6
    (tmp_path / "best.ckpt.kept").write_bytes(b"PK")
    restore_best(tmp_path, 4)
    assert step(tmp_path / "best.ckpt") == 6


def test_a_finished_run_leaves_only_best_and_last(tmp_path: Path):
    best_and_last(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.ckpt*")) == ["best.ckpt", "last.ckpt"]
