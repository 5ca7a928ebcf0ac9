"""Each task on a GPU: in each precision, resumed, compiled, and with its checkpoint evaluated on the CPU."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.harness import EXPERIMENTS, FASTEST, command, small, train

from triptych.models import metric_buffer
from triptych.models.base import Model
from triptych.results import load_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def on_gpu(experiment: str, data_root: Path, *more: str) -> list[str]:
    given = small(experiment, data_root, "trainer=gpu", *more)
    given.remove("trainer=cpu")
    return given


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_run_ends_with_finite_metrics(experiment: str, precision: str, data_root: Path, tmp_path: Path):
    given = on_gpu(experiment, data_root, f"trainer.precision={precision}")
    done = command(*given, f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["precision"] == precision
    assert metrics["hardware"]["gpus"]
    assert metrics["peak_memory_mb"] > 0
    assert all(torch.tensor(value).isfinite() for value in metrics["test"].values())


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_checkpoint_predicts_the_same_on_the_cpu(experiment: str, data_root: Path, tmp_path: Path):
    given = on_gpu(experiment, data_root, "trainer.precision=32-true", f"hydra.run.dir={tmp_path / 'run'}")
    done = command(*given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = load_run(tmp_path / "run")
    run.datamodule.setup("test")
    inputs, _ = run.datamodule.prepare_batch(run.datamodule.datasets["test"].__getitems__([0, 1]), training=False)
    with torch.inference_mode():
        here = run.model(inputs)
        there = run.model.cuda()(inputs.cuda()).cpu()
    torch.testing.assert_close(there, here, rtol=1e-2, atol=1e-2)  # TF32 and the order of summation


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_training_steps_never_wait_for_the_gpu(
    experiment: str, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """From the first step of an epoch to its last, loading of batches included, if nothing is logged in between."""
    monkeypatch.setattr(metric_buffer, "MAX_BATCHES", 2)  # so that metrics are also updated within the epoch
    begin, end, steps = Model.on_train_batch_start, Model.on_train_batch_end, []

    def begun(model: Model, batch: Any, batch_idx: int) -> Any:
        if model.current_epoch == 1:  # in the first, kernels are selected and CUDA graphs recorded
            torch.cuda.set_sync_debug_mode("error")
            steps.append(batch_idx)
        return begin(model, batch, batch_idx)

    def ended(model: Model, outputs: Any, batch: Any, batch_idx: int) -> None:
        end(model, outputs, batch, batch_idx)
        if model.trainer.is_last_batch:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Model, "on_train_batch_start", begun)
    monkeypatch.setattr(Model, "on_train_batch_end", ended)
    try:
        train(tmp_path / "run", *on_gpu(experiment, data_root, "trainer.log_every_n_steps=1000"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(steps) > 1


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_available_gpu_is_used_by_default(experiment: str, data_root: Path, tmp_path: Path):
    given = on_gpu(experiment, data_root, f"hydra.run.dir={tmp_path / 'run'}")
    given.remove("trainer=gpu")
    done = command(*given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert json.loads((tmp_path / "run/metrics.json").read_text())["device"].startswith("cuda")


def test_finished_run_resumes_with_more_epochs(data_root: Path, tmp_path: Path):
    given = on_gpu(FASTEST, data_root, f"hydra.run.dir={tmp_path / 'run'}")
    assert command(*given, cwd=tmp_path).returncode == 0
    again = command(f"resume={tmp_path / 'run'}", "trainer.max_epochs=3", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "run/metrics.json").read_text())["epochs"] == 3


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_compiled_network_trains(experiment: str, data_root: Path, tmp_path: Path):
    given = on_gpu(experiment, data_root, "trainer.compile=reduce-overhead", f"hydra.run.dir={tmp_path / 'run'}")
    done = command(*given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
