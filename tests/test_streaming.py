"""A run that streams its data from disk is bitwise identical to one that keeps them in memory."""

from pathlib import Path

import pytest
from tests.harness import EXPERIMENTS, small, train

from triptych.data.catalogue import data_sets

TASKS = {module.task: module.streams for module in data_sets().values()}
STREAMED = [name for name in EXPERIMENTS if TASKS.get(name)]


@pytest.mark.parametrize("experiment", STREAMED)
def test_streaming_gives_the_same_metrics_as_data_in_memory(experiment: str, data_root: Path, tmp_path: Path):
    quick = ["trainer.limit_train_batches=3", "trainer.limit_val_batches=2", "trainer.limit_test_batches=2"]
    results = [
        train(tmp_path / there, *small(experiment, data_root, *quick, f"data.in_memory={there}"))
        for there in ("true", "false")
    ]
    memory, disk = ({part: result[part] for part in ("best", "test", "data", "steps")} for result in results)
    assert memory == disk
    assert memory["steps"] == 6
