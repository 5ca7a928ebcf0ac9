"""The Trainer of a run: which callbacks it has."""

from pathlib import Path
from typing import Any

import pytest

from triptych.callbacks.gradient_flow import GradientFlow
from triptych.callbacks.weights import Weights
from triptych.trainer import build_trainer


@pytest.mark.parametrize("every", [0, 5])
def test_what_comes_every_0_epochs_or_steps_is_left_out(every: int, tmp_path: Path):
    callbacks = {
        "weights": {"_target_": f"{Weights.__module__}.Weights", "every_n_epochs": every},
        "gradient_flow": {"_target_": f"{GradientFlow.__module__}.GradientFlow", "every_n_steps": every},
        "removed": None,
    }
    arguments = {"accelerator": "cpu", "enable_progress_bar": False, "limit_val_batches": 1.0, "precision": "auto"}
    settings: dict[str, Any] = {"callbacks": callbacks, "trainer": arguments}
    trainer = build_trainer(settings, tmp_path, [], validates=True)
    assert trainer.precision in ("bf16-mixed", "32-true")
    found = {type(callback) for callback in trainer.callbacks}  # type: ignore[attr-defined]
    assert found & {Weights, GradientFlow} == ({Weights, GradientFlow} if every else set())
