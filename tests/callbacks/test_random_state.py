"""Random states are restored on resume, so that random numbers continue as in an uninterrupted run."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from tests.tiny import Batches, fit, regressor, rows
from torch.utils.data import TensorDataset

from triptych.callbacks.last_checkpoint import LastCheckpoint
from triptych.callbacks.random_state import RandomState
from triptych.data.loader import ResumableLoader


class Draw(Callback):
    """Draws from torch, NumPy and ``random`` at each step, as an augmentation would."""

    def __init__(self) -> None:
        self.drawn: list[list[float]] = []

    def on_train_batch_start(self, *_: object) -> None:
        numpy = [np.random.rand(), np.random.randn()]  # noqa: NPY002, drawn from the global state
        self.drawn.append([torch.rand(()).item(), *numpy, random.random()])


class Resumable(Batches):
    def train_dataloader(self) -> ResumableLoader:
        return ResumableLoader(TensorDataset(*self.training_rows()), batch_size=4, generator=torch.Generator())


def train(folder: Path, epochs: int, seed: int, keeps: bool, resume_from: Path | None = None) -> list[list[float]]:
    seed_everything(seed, verbose=False)
    draw = Draw()
    callbacks = [draw, LastCheckpoint(str(folder)), *([RandomState()] if keeps else [])]
    options = {"max_epochs": epochs, "enable_checkpointing": True, "callbacks": callbacks}
    fit(regressor(), Resumable(rows(12), rows(4)), folder, resume_from, **options)
    return draw.drawn


@pytest.mark.parametrize("keeps", [True, False])
def test_all_random_generators_continue_after_resume(keeps: bool, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", 4, 0, keeps)
    part = train(tmp_path / "part", 2, 0, keeps)
    rest = train(tmp_path / "part", 4, 1, keeps, tmp_path / "part/last.ckpt")
    assert part == whole[:6]
    assert (rest == whole[6:]) == keeps
