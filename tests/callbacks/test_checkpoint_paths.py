"""Paths in a checkpoint are redirected into the run's own checkpoint folder."""

from pathlib import Path
from typing import Any

import pytest

from triptych.callbacks.checkpoint_paths import CheckpointPaths

OWN = Path("/runs/mine/checkpoints")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/runs/moved/checkpoints/best.ckpt", "/runs/mine/checkpoints/best.ckpt"),
        ("/runs/mine/checkpoints/../../../home/thesis", "/runs/mine/checkpoints/thesis"),
        ("http://host/best.ckpt", "/runs/mine/checkpoints/best.ckpt"),
        ("C:\\runs\\best.ckpt", "/runs/mine/checkpoints/best.ckpt"),
        ("/runs/mine/checkpoints/..", ""),
        ("..", ""),
        ("/", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_paths_are_redirected_into_the_own_folder_or_cleared(given: Any, expected: str):
    state = {"dirpath": "/", "best_model_path": given, "kth_best_model_path": given, "best_k_models": {given: 0.5}}
    CheckpointPaths(OWN).on_load_checkpoint(None, None, {"callbacks": {"ModelCheckpoint": state}})  # type: ignore[arg-type]
    assert state == {
        "dirpath": str(OWN),
        "best_model_path": expected,
        "kth_best_model_path": expected,
        "last_model_path": "",
        "best_k_models": {expected: 0.5},
    }


def test_other_callback_states_are_unchanged():
    states = {"EarlyStopping": {"wait_count": 3}, "Timer": "text"}
    CheckpointPaths(OWN).on_load_checkpoint(None, None, {"callbacks": states})  # type: ignore[arg-type]
    assert states == {"EarlyStopping": {"wait_count": 3}, "Timer": "text"}
