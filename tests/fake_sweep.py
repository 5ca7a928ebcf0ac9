"""Synthetic run directories, written without training, for tests of reports on sweeps."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from triptych.results.directory import DONE, ERROR, METRICS

CONFIG = {
    "monitor": "val/rmse",
    "mode": "min",
    "seed": 0,
    "data": {"batch_size": 256, "augment": ["flip", "crop"], "root": "${oc.env:HOME}"},
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.003},
    "model": {"width": 64, "dropout": None},
}
CHOICES = {"experiment": "housing", "optimizer": "adamw", "model": "tabular"}
DATA = {
    "source": "files",
    "root": "/data/california-housing-prices",
    "split": "grouped",
    "fold": None,
    "stand_in": None,
    "fingerprint": "2cf21f490a431a62",
    "sizes": {"train": 13208, "val": 1652, "test": 1652},
}


def begun(sweep: Path, name: str, *overrides: str, config: Mapping[str, Any] = CONFIG) -> Path:
    """Write the directory of a run that was killed after its start."""
    directory = sweep / name
    saved = directory / ".hydra"
    saved.mkdir(parents=True)
    (saved / "config.yaml").write_text(yaml.safe_dump(dict(config)))
    (saved / "overrides.yaml").write_text(yaml.safe_dump(["experiment=housing", *overrides]))
    (saved / "hydra.yaml").write_text(yaml.safe_dump({"hydra": {"runtime": {"choices": CHOICES}}}))
    return directory


def failed(sweep: Path, name: str, *overrides: str, error: str) -> Path:
    """Write the directory of a run that ended with an error; it diverged if the error says so."""
    directory = begun(sweep, name, *overrides)
    (directory / ERROR).write_text(error)
    return directory


def done(
    sweep: Path,
    name: str,
    *overrides: str,
    value: float | None = 48_000.0,
    monitor: str = "val/rmse",
    curve: Sequence[float] = (),
    data: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] = CONFIG,
    **metrics: Any,
) -> Path:
    """Write the directory of a finished run.

    Args:
        sweep: directory of its sweep.
        name: name of its directory, the number of the job.
        overrides: its overrides, apart from the experiment.
        value: the monitor in the best epoch; the test metric is 1,500 higher. None: nothing was measured.
        monitor: name of the monitored metric.
        curve: the monitor after each epoch.
        data: entries that differ from DATA.
        config: its config.
        metrics: other entries of metrics.json.
    """
    directory = begun(sweep, name, *overrides, config=config)
    quantity = monitor.partition("/")[2]
    measured = {
        "experiment": "housing",
        "monitor": monitor,
        "best": {} if value is None else {monitor: value, "val/loss": value / 1e6, "epoch": 3.0},
        "test": {} if value is None else {f"test/{quantity}": value + 1500},
        "epochs": 4,
        "steps": 208,
        "seconds": 61.7,
        "parameters": 687_905,
        "data": DATA | dict(data or {}),
        "seed": 0,
    }
    (directory / METRICS).write_text(json.dumps(measured | metrics))
    rows = [f"{(epoch + 1) * 52},{epoch},{number},{number / 1e6}" for epoch, number in enumerate(curve)]
    (directory / "metrics.csv").write_text("\n".join([f"step,epoch,{monitor},val/loss", *rows]) + "\n")
    (directory / DONE).touch()
    return directory
