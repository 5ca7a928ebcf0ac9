"""A run that goes on behind the end of an epoch ends as one that never stopped."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import seed_everything
from tests.tiny import Batch, Batches, fit, regressor, rows
from torch.utils.data import DataLoader, TensorDataset

from triptych.callbacks.last_checkpoint import LastCheckpoint
from triptych.callbacks.random_state import RandomState
from triptych.models.regressor import Regressor

NETWORK = {"_target_": "triptych.networks.mlp.Mlp", "width": 8, "depth": 2}


class Shuffled(Batches):
    """Rows in random order."""

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(TensorDataset(*self.training_rows()), batch_size=4, shuffle=True)  # type: ignore[arg-type]


def train(folder: Path, epochs: int, resume_from: Path | None = None, keeps: bool = True) -> Regressor:
    seed_everything(0 if resume_from is None else 1, verbose=False)  # behind a resume the numbers come from elsewhere
    model = regressor(network=NETWORK, dropout=0.5)
    callbacks = [LastCheckpoint(str(folder)), *([RandomState()] if keeps else [])]
    fit(
        model,
        Shuffled(rows(32), rows(8)),
        folder,
        resume_from,
        max_epochs=epochs,
        enable_checkpointing=True,
        callbacks=callbacks,
    )
    return model


@pytest.mark.parametrize("keeps", [True, False])
def test_epochs_after_a_resume_are_shuffled_and_dropped_out_as_without(keeps: bool, tmp_path: Path):
    whole = train(tmp_path / "whole", 4)
    train(tmp_path / "part", 2, keeps=keeps)
    resumed = train(tmp_path / "part", 4, tmp_path / "part/last.ckpt", keeps)
    pairs = list(zip(whole.parameters(), resumed.parameters(), strict=True))
    assert all(torch.equal(one, other) for one, other in pairs) == keeps
