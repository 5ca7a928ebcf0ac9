"""Events are flushed to disk in batches, and TensorBoard reads them in step order."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from triptych.results import tensorboard as module
from triptych.results.tensorboard import TensorBoard


def points(folder: Path) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder), {"scalars": 0}).Reload()
    return [(point.step, point.value) for point in events.Scalars("loss")]


def test_events_are_flushed_at_most_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock, flushed = [100.0], []
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    board = TensorBoard(str(tmp_path), name="", version="")
    monkeypatch.setattr(board.experiment, "flush", lambda: flushed.append(clock[0]))
    for tenth in range(25):
        clock[0] = 100 + tenth / 10
        board.log_metrics({"loss": float(tenth)}, tenth)
        board.save()
    assert flushed == [100.0, 101.0, 102.0]


def test_finalize_writes_pending_events(tmp_path: Path):
    board = TensorBoard(str(tmp_path), name="", version="")
    for step in range(5):
        board.log_metrics({"loss": step / 2}, step)
        board.save()
    board.finalize("success")
    assert points(tmp_path) == [(step, step / 2) for step in range(5)]


def test_pending_events_keep_the_time_of_logging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = iter([11.0, 12.0, 13.0])
    board = TensorBoard(str(tmp_path), name="", version="", prefix="run")
    assert board.experiment is not None  # creating it reads the clock as well
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: next(clock), monotonic=time.monotonic))
    for step in range(3):
        board.log_metrics({"train/loss_step": torch.tensor(step / 2), "epoch": 0}, step)
    board.finalize("success")
    events = EventAccumulator(str(tmp_path), {"scalars": 0}).Reload()
    found = [(point.wall_time, point.step, point.value) for point in events.Scalars("run-train/loss_step")]
    assert found == [(11.0, 0, 0.0), (12.0, 1, 0.5), (13.0, 2, 1.0)]
    assert [point.step for point in events.Scalars("run-epoch")] == [0, 1, 2]


def test_a_checkpoint_flushes_earlier_events(tmp_path: Path):
    """A killed run resumes after the checkpoint and would never log them again."""
    board = TensorBoard(str(tmp_path), name="", version="")
    board.log_metrics({"train/loss_step": 3.0, "epoch": 0}, 0)
    assert [step for _, step, _ in board.buffer] == [0]
    board.log_metrics({"loss": 2.0, "epoch": 0}, 1)  # at the end of an epoch, before its checkpoint
    assert not board.buffer
    board.log_metrics({"train/loss_step": 1.0, "epoch": 1}, 2)
    board.after_save_checkpoint(None)  # one within an epoch
    assert not board.buffer
    board.experiment.flush()  # nothing is pending but the queue of the writer's thread
    events = EventAccumulator(str(tmp_path), {"scalars": 0}).Reload()
    assert [(point.step, point.value) for point in events.Scalars("train/loss_step")] == [(0, 3.0), (2, 1.0)]
    assert points(tmp_path) == [(1, 2.0)]


def test_a_dict_of_curves_is_logged_as_by_lightning(tmp_path: Path):
    board = TensorBoard(str(tmp_path), name="", version="")
    board.log_metrics({"losses": {"train": 1.0, "val": 2.0}}, 3)
    board.finalize("success")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["losses_train", "losses_val"]


def test_a_value_that_is_not_a_number_is_refused(tmp_path: Path):
    board = TensorBoard(str(tmp_path), name="", version="")
    with pytest.raises(ValueError, match="you tried to log low"):
        board.log_metrics({"loss": "low"}, 1)


def test_logging_after_training_uses_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # File numbers 9 and 10 of a process: of two files of the same second TensorBoard would read .10 first.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(9))
    board = TensorBoard(str(tmp_path), name="", version="", purge_step=0)
    board.log_metrics({"loss": 2.0}, 1)
    board.finalize("success")
    board.log_metrics({"loss": 1.0}, 2)
    board.finalize("success")
    assert points(tmp_path) == [(1, 2.0), (2, 1.0)]
    assert len(list(tmp_path.glob("events.*"))) == 1


def test_a_failed_run_closes_its_file(tmp_path: Path):
    board = TensorBoard(str(tmp_path), name="", version="")
    board.log_metrics({"loss": 2.0}, 1)
    board.finalize("failed")
    assert points(tmp_path) == [(1, 2.0)]
    assert board.experiment.file_writer is None
