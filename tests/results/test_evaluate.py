"""A finished run is evaluated by a single process, however many devices there are."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from tests.harness import cheapest, train

from triptych.results import evaluate as module
from triptych.results.evaluate import evaluate


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"SLURM_JOB_ID": "4242", "SLURM_JOB_NAME": "evaluate", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"},
    ],
    ids=["two devices", "two tasks"],
)
def test_one_of_several_devices_evaluates_the_whole_split(
    env: dict[str, str], data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Watched(Trainer):
        def __init__(self, **options: Any) -> None:
            super().__init__(accelerator="cpu", **options)
            assert self.world_size == 1  # no further processes would be started
            assert not self.strategy.launcher

    run = train(tmp_path / "run", *cheapest(data_root, "trainer.max_epochs=1", "logger=none"))
    monkeypatch.setattr(CPUAccelerator, "auto_device_count", staticmethod(lambda: 2))
    monkeypatch.setattr(module, "Trainer", Watched)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    found = evaluate(str(tmp_path / "run"))
    assert {f"test/{name}": value for name, value in found.items()} == pytest.approx(run["test"], rel=1e-5)


@pytest.mark.parametrize(("limit", "told"), [("1", True), ("1.0", False)])
def test_a_run_tested_on_part_of_the_split_is_pointed_out(
    limit: str, told: bool, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    few = ("trainer.max_epochs=1", f"trainer.limit_test_batches={limit}", "data.eval_batch_size=2", "logger=none")
    run = train(tmp_path / "run", *cheapest(data_root, *few))
    found = evaluate(str(tmp_path / "run"))
    assert ("part of the split (trainer.limit_test_batches=1);" in capsys.readouterr().out) == told
    assert (found["loss"] == pytest.approx(run["test"]["test/loss"], rel=1e-5)) != told
