"""The Trainer of a run: its callbacks and hooks, validation at the last step, compilation and determinism."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LambdaCallback
from tests.harness import cheapest, train
from tests.tiny import Batches, regressor, rows, trainer

from triptych.callbacks.gradient_flow import GradientFlow
from triptych.callbacks.weights import Weights
from triptych.direct_steps import HOOKS
from triptych.terminal import quiet_lightning
from triptych.trainer import build_trainer, disable_idle_hooks


@pytest.mark.parametrize("every", [0, 5])
def test_callbacks_with_interval_0_are_left_out(every: int, tmp_path: Path):
    callbacks = {
        "weights": {"_target_": f"{Weights.__module__}.Weights", "every_n_epochs": every},
        "gradient_flow": {"_target_": f"{GradientFlow.__module__}.GradientFlow", "every_n_steps": every},
        "removed": None,
    }
    arguments = {"accelerator": "cpu", "enable_progress_bar": False, "limit_val_batches": 1.0, "precision": "auto"}
    settings: dict[str, Any] = {"callbacks": callbacks, "trainer": arguments}
    built = build_trainer(settings, tmp_path, [], validates=True)
    assert built.precision in ("bf16-mixed", "32-true")
    found = {type(callback) for callback in built.callbacks}  # type: ignore[attr-defined]
    assert found & {Weights, GradientFlow} == ({Weights, GradientFlow} if every else set())


def test_only_overridden_hooks_of_a_callback_are_called(tmp_path: Path):
    called: list[str] = []

    class Parent(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            called.append("start")

    class Child(Parent): ...

    runs = trainer(
        tmp_path,
        limit_val_batches=0,
        callbacks=[Child(), LambdaCallback(on_train_batch_end=lambda *_: called.append("end"))],
    )
    disable_idle_hooks(runs)
    idle = [[hook for hook in HOOKS if not callable(getattr(each, hook))] for each in runs.callbacks]  # type: ignore
    assert idle[0] == [hook for hook in HOOKS if hook != "on_train_batch_start"]
    assert idle[1] == [hook for hook in HOOKS if hook != "on_train_batch_end"]
    with quiet_lightning():
        runs.fit(regressor(), Batches(rows(4)))
    assert called == ["start", "end"]


@pytest.mark.parametrize(("steps", "validated"), [(2, [1]), (3, [2]), (5, [2, 4])])
def test_last_step_of_a_run_by_steps_is_validated(steps: int, validated: list[int], data_root: Path, tmp_path: Path):
    limits = (f"trainer.max_steps={steps}", "trainer.limit_train_batches=3", "trainer.max_epochs=9", "test=false")
    metrics = train(tmp_path / "run", *cheapest(data_root, *limits))
    with (tmp_path / "run/metrics.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file) if row["val/loss"]] == validated
    assert metrics["steps"] == steps
    assert metrics["best"]["val/loss"] > 0
    saved = torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)
    assert saved["global_step"] in [step + 1 for step in validated]


@pytest.mark.parametrize("more", ["trainer.check_val_every_n_epoch=2", "trainer.min_epochs=5"])
def test_last_step_is_validated_whatever_the_interval(more: str, data_root: Path, tmp_path: Path):
    limits = ("trainer.max_steps=4", "trainer.limit_train_batches=3", "trainer.max_epochs=9", "test=false", more)
    train(tmp_path / "run", *cheapest(data_root, *limits, "callbacks.early_stopping.patience=0"))
    with (tmp_path / "run/metrics.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file) if row["val/loss"]][-1] == 3


def test_overfitting_validates_only_if_asked_to(data_root: Path, tmp_path: Path):
    options = cheapest(data_root, "trainer.overfit_batches=1", "trainer.limit_val_batches=0")
    train(tmp_path / "run", *options)
    assert "val/loss" not in (tmp_path / "run/metrics.csv").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_compiled_network_gives_the_same_results_and_checkpoint_keys(data_root: Path, tmp_path: Path):
    options = cheapest(data_root, "trainer.precision=32-true", "logger=none")
    plain = train(tmp_path / "plain", *options)
    fast = train(tmp_path / "fast", *options, "trainer.compile=true")
    assert fast["test"] == pytest.approx(plain["test"], rel=1e-3)
    weights = [
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("plain", "fast")
    ]
    assert list(weights[0]) == list(weights[1])


@pytest.mark.parametrize(
    ("device", "asked", "deterministic"),
    [("cpu", "auto", True), ("cuda", "auto", False), ("cuda", True, True), ("cpu", False, False)],
)
def test_deterministic_auto_depends_on_the_device(
    device: str, asked: bool | str, deterministic: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("triptych.trainer.training_device", lambda accelerator: torch.device(device))
    before = torch.are_deterministic_algorithms_enabled()
    arguments = {
        "accelerator": "cpu",
        "precision": "32-true",
        "limit_val_batches": 1.0,
        "enable_progress_bar": False,
        "deterministic": asked,
    }
    try:
        build_trainer({"callbacks": {}, "trainer": arguments}, tmp_path, [], validates=True)
        assert torch.are_deterministic_algorithms_enabled() == deterministic
    finally:
        torch.use_deterministic_algorithms(before)


def test_missing_compiler_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("triptych.trainer.shutil.which", lambda name: None)
    arguments = {"accelerator": "cpu", "precision": "32-true", "limit_val_batches": 1.0, "enable_progress_bar": False}
    build_trainer({"callbacks": {}, "trainer": {**arguments, "compile": False}}, tmp_path, [], validates=True)
    with pytest.raises(ValueError, match=r"install g\+\+"):
        build_trainer({"callbacks": {}, "trainer": {**arguments, "compile": True}}, tmp_path, [], validates=True)
