"""A run that is stopped and resumed ends bitwise identical to an uninterrupted one: same weights, same metrics."""

import csv
import json
import signal
import time
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.harness import EXPERIMENTS, cheapest, small, train

from triptych.results.checkpoints import resumable


def outcome(directory: Path) -> dict[str, Any]:
    """Return all results of a run that do not depend on when and where it ran."""
    metrics = json.loads((directory / "metrics.json").read_text())
    events = EventAccumulator(str(directory), {"scalars": 0}).Reload()
    curves = {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    with (directory / "metrics.csv").open() as file:
        history = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
    return {
        **{name: metrics[name] for name in ("best", "test", "epochs", "steps")},
        "history": history,
        "curves": curves,
        "checkpoints": {name: checkpoint(directory / f"checkpoints/{name}.ckpt") for name in ("best", "last")},
    }


def checkpoint(path: Path) -> dict[str, Any]:
    saved = torch.load(path, weights_only=True)
    return {name: plain(saved[name]) for name in ("state_dict", "optimizer_states", "lr_schedulers", "global_step")}


def plain(value: Any) -> Any:
    """Replace tensors by lists of numbers, which can be compared with ==."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def stopped(
    directory: Path,
    options: list[str],
    step: int,
    sent: signal.Signals = signal.SIGTERM,
    pause: float = 0,
    hook: str = "on_train_batch_start",
) -> list[int]:
    """Train until a signal is raised in ``hook`` at ``step``, counted over the whole run; then resume to the end.

    Returns:
        The steps at which the run was resumed.
    """
    from lightning.pytorch import Trainer

    run, done = Trainer.fit, list[int]()
    with pytest.MonkeyPatch.context() as patch:

        def fit(trainer: Trainer, *arguments: Any, **more: Any) -> None:
            from lightning.pytorch.callbacks import LambdaCallback

            def send(trainer: Trainer, *_: Any) -> None:
                if trainer.fit_loop.total_batch_idx == step and not done:
                    done.append(step)
                    signal.raise_signal(sent)

            trainer.callbacks.append(LambdaCallback(**{hook: send}))  # type: ignore[attr-defined]
            run(trainer, *arguments, **more)

        patch.setattr(Trainer, "fit", fit)
        with pytest.raises(SystemExit) as ended:
            train(directory, *options)
    assert ended.value.code == 128 + sent
    checkpoint, damaged = resumable(directory)
    assert not damaged
    time.sleep(pause)
    return train(directory, *options, resume_from=checkpoint)["resumed"]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_stopped_within_an_epoch_resumes_exactly(experiment: str, data_root: Path, tmp_path: Path) -> None:
    options = small(experiment, data_root, "trainer.log_every_n_steps=1")
    train(tmp_path / "whole", *options)
    # Over a second apart: TensorBoard cannot order event files from the same second.
    assert stopped(tmp_path / "part", options, 2, pause=1.1) == [3]
    assert outcome(tmp_path / "part") == outcome(tmp_path / "whole")


VARIANTS = {
    "plateau": ["scheduler=plateau", "scheduler.patience=0", "trainer.max_epochs=4"],
    "accumulated gradients": ["trainer.accumulate_grad_batches=3"],
    "dropout": ["model.dropout=0.3"],
    "loader workers": ["data.num_workers=2", "trainer.max_epochs=3"],
    "cosine by epochs": ["scheduler=cosine", "scheduler.interval=epoch"],
    "validation within epochs": ["trainer.val_check_interval=4"],
    "double precision": ["trainer.precision=64-true"],
    "a number of steps": ["trainer.max_steps=13", "trainer.max_epochs=-1", "scheduler=constant"],
}


STOPS = [(0, signal.SIGINT), (3, signal.SIGTERM), (4, signal.SIGTERM), (9, signal.SIGINT), (11, signal.SIGTERM)]
"""With ten steps per epoch: the first, two in the middle and the last of the first epoch, and one in the second."""
PAIRS = [(variant, *stop) for variant in VARIANTS for stop in STOPS]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """The outcome of an uninterrupted run with the given options, cached."""

    @cache
    def ended(*options: str) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("whole")
        train(folder / "run", *options)
        return outcome(folder / "run")

    return ended


def options_of(variant: str, data_root: Path) -> list[str]:
    return cheapest(data_root, *VARIANTS[variant], "trainer.limit_train_batches=10", "logger=none")


# Each variant is stopped at one or two steps, and each step is tried with two or three variants.
@pytest.mark.parametrize(("variant", "step", "sent"), [*PAIRS[::3], ("cosine by epochs", 9, signal.SIGINT)])
def test_signal_at_any_step_resumes_exactly(
    variant: str,
    step: int,
    sent: signal.Signals,
    data_root: Path,
    tmp_path: Path,
    uninterrupted: Callable[..., dict[str, Any]],
) -> None:
    options = options_of(variant, data_root)
    stopped(tmp_path / "part", options, step, sent)
    assert outcome(tmp_path / "part") == uninterrupted(*options)


@pytest.mark.parametrize(
    ("hook", "sent"),
    [
        ("on_train_batch_start", signal.SIGINT),
        ("on_validation_batch_start", signal.SIGTERM),
        ("on_validation_batch_end", signal.SIGINT),
        ("on_validation_end", signal.SIGTERM),
    ],
)
@pytest.mark.parametrize(
    ("variant", "step", "more"),
    [
        ("plateau", 3, "trainer.limit_train_batches=4"),
        ("plateau", 15, "trainer.limit_train_batches=4"),
        ("cosine by epochs", 3, "trainer.limit_train_batches=4"),
        ("validation within epochs", 3, "trainer.limit_train_batches=10"),
    ],
)
def test_signal_before_or_during_validation_waits_for_its_end(
    variant: str,
    step: int,
    more: str,
    hook: str,
    sent: signal.Signals,
    data_root: Path,
    tmp_path: Path,
    uninterrupted: Callable[..., dict[str, Any]],
) -> None:
    # Several validation batches, because Lightning checks for a signal between them.
    options = [*options_of(variant, data_root), more, "data.eval_batch_size=10"]
    assert stopped(tmp_path / "part", options, step, sent, hook=hook) == [step + 1]
    assert outcome(tmp_path / "part") == uninterrupted(*options)


def test_best_checkpoint_matches_the_best_metrics_after_a_crash(data_root: Path, tmp_path: Path) -> None:
    """The best checkpoint may come from steps that the crash lost, and that other settings will not reproduce."""
    from triptych.models.base import Model
    from triptych.models.metrics import MeanLoss

    options = [*options_of("validation within epochs", data_root), "trainer.val_check_interval=2"]
    options += ["monitor=val/loss", "mode=min"]
    step, losses = Model.training_step, count(1)

    def crash(model: Model, batch: Any, batch_idx: int) -> torch.Tensor:
        if (model.current_epoch, batch_idx) == (1, 3):
            raise RuntimeError("a bug")
        return step(model, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        # Each validation is better than the one before, and than all those after the crash.
        patch.setattr(MeanLoss, "compute", lambda _: torch.tensor(1e-9 / next(losses)))
        patch.setattr(Model, "training_step", crash)
        with pytest.raises(RuntimeError, match="a bug"):
            train(tmp_path / "run", *options)
    saved = {name: tmp_path / f"run/checkpoints/{name}.ckpt" for name in ("best", "last")}
    steps = {name: torch.load(path, weights_only=True)["global_step"] for name, path in saved.items()}
    assert steps["best"] == steps["last"] + 2
    metrics = train(tmp_path / "run", *options, "optimizer.lr=0.0", resume_from=saved["last"])
    with (tmp_path / "run/metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/loss"]]
    best = min(rows, key=lambda row: float(row["val/loss"]))
    assert metrics["best"]["val/loss"] == float(best["val/loss"])
    assert torch.load(saved["best"], weights_only=True)["global_step"] == int(best["step"]) + 1 == steps["last"]
