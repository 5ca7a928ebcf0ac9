"""The progress bar is updated twice a second, and at the last step of an epoch."""

from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch import LightningModule, Trainer
from tests.tiny import Batches, fit, regressor, rows

from triptych import progress_bar as module
from triptych.progress_bar import ProgressBar


class Heard(ProgressBar):
    """Records the progress and the loss that each update would show."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[float] = []
        self.losses: list[Any] = []

    def _update(self, progress_bar_id: Any, current: int, visible: bool = True, hard: bool = False) -> None:
        super()._update(progress_bar_id, current, visible, hard)
        if progress_bar_id is not None and progress_bar_id == self.train_progress_bar_id:
            self.shown.append(self.progress.tasks[progress_bar_id].completed)

    def get_metrics(self, *args: Any) -> dict[str, Any]:
        metrics = super().get_metrics(*args)
        self.losses.append(metrics.get("train/loss_step"))
        return metrics


def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, **options: Any) -> Heard:
    """Train with ten steps per epoch, each of which takes ``seconds`` by a fake clock; return the bar."""
    clock = count()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 100 + seconds * next(clock)))
    bar = Heard()
    fit(regressor(), Batches(rows(*[4] * 10)), tmp_path, callbacks=[bar], enable_progress_bar=True, **options)
    return bar


def test_short_steps_update_the_bar_twice_a_second_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bar = heard(tmp_path, monkeypatch, seconds=0.125)
    assert bar.shown == [1, 5, 9, 10]
    # At the four updates, and once more at the end of the epoch.
    assert len(bar.losses) == 5
    assert all(isinstance(loss, float) for loss in bar.losses[1:])


def test_every_long_step_updates_the_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert heard(tmp_path, monkeypatch, seconds=1).shown == list(range(1, 11))


def test_last_step_of_a_run_by_steps_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert heard(tmp_path, monkeypatch, seconds=0.01, max_epochs=-1, max_steps=7).shown[-1] == 7


def test_an_epoch_begins_without_a_redraw(tmp_path: Path):
    begun: list[str] = []

    class Drawn(ProgressBar):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            drawn: list[None] = []
            self.progress.live.refresh = lambda: drawn.append(None)
            super().on_train_epoch_start(trainer, pl_module)
            assert not drawn
            begun.append(self.progress.tasks[self.train_progress_bar_id].description.strip())
            self.progress.refresh()
            assert drawn  # from then on

    fit(regressor(), Batches(rows(4, 4)), tmp_path, callbacks=[Drawn()], enable_progress_bar=True, max_epochs=2)
    assert begun == ["Epoch 0/1", "Epoch 1/1"]
