"""With every instrument of an experiment on, its measurements are recorded and training is unchanged."""

import csv
from pathlib import Path

import pytest
import torch
import yaml
from tests.harness import CONF, EXPERIMENTS, small, train

NAMES = {
    "gradient_flow": {"gradient/first_to_last"},
    "weights": {"weights/near_zero"},
    "training_score": {"train_eval/loss"},
    "shifted_validation": {"shifted/loss", "shifted/auroc", "shifted/accuracy"},
    "border_error": {"border/rmse", "border/centre_rmse", "border/ratio", "border/lost_pixels"},
}


def instruments(experiment: str) -> dict[str, str]:
    """Return the instruments that are off by default in this experiment, with the key that turns each on."""
    chosen = (CONF / f"experiment/{experiment}.yaml").read_text().partition("override /callbacks: ")[2].split()[0]
    found = {}
    for file in ("default", chosen):
        entries = yaml.safe_load((CONF / f"callbacks/{file}.yaml").read_text())
        entries.pop("defaults", None)
        for name, keys in entries.items():
            interval = [key for key, value in keys.items() if key.startswith("every_n_") and value == 0]
            if name in NAMES and interval:
                found[name] = interval[0]
    return found


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_instruments_record_and_leave_training_unchanged(experiment: str, data_root: Path, tmp_path: Path) -> None:
    keys = instruments(experiment)
    assert keys.keys() >= {"gradient_flow", "weights", "training_score"}
    on = [f"callbacks.{name}.{key}=1" for name, key in keys.items()]
    options = small(experiment, data_root, "trainer.limit_train_batches=2")
    without = train(tmp_path / "without", *options)
    metrics = train(tmp_path / "with", *options, *on)

    expected = set().union(*(NAMES[name] for name in keys))
    measured = {name.partition("/")[2] for name in metrics["test"]}
    expected |= {f"train_eval/{name}" for name in measured if f"val/{name}" in metrics["best"]}
    assert expected <= metrics["best"].keys()
    assert all(metrics["best"][name] is not None for name in expected - {"gradient/first_to_last"})
    assert not expected & without["best"].keys()
    with (tmp_path / "with" / "metrics.csv").open() as file:
        epochs = [row for row in csv.DictReader(file) if row["val/loss"]]
    assert len(epochs) == 2
    assert all(row[name] for row in epochs for name in expected)
    assert 0 < metrics["memory_at_start_mb"] <= metrics["peak_memory_mb"]

    # Otherwise the run is bitwise identical.
    assert without["best"].items() <= metrics["best"].items()
    assert without["test"] == metrics["test"]
    states = (torch.load(tmp_path / f"{run}/checkpoints/last.ckpt", weights_only=True) for run in ("without", "with"))
    one, other = (state["state_dict"] for state in states)
    assert all(torch.equal(one[name], other[name]) for name in one)
