"""The tables of results: the runs behind them and how they are reported."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks import results
from benchmarks.results import TABLES, Cell, cells, read_table, run, section
from tests.harness import BEST, CONF, EXPERIMENTS

SPEC = {
    "title": "Pages",
    "metric": "rmse",
    "metrics": [{"name": "rmse", "title": "RMSE"}],
    "text": "What they are.",
    "protocols": [
        {"title": "MLE-bench's split", "overrides": ["data.split=mle_bench"]},
        {"title": "page-disjoint", "overrides": ["data.split=grouped"]},
    ],
    "models": [
        {"name": "default", "overrides": ["experiment=denoise"], "seeds": 2},
        {"name": "best", "overrides": ["experiment=denoise_best"], "seeds": 1},
    ],
    "anchors": [{"system": "gold", "values": ["0.0179"]}],
}


def done(directory: Path, value: float, **more: Any) -> None:
    directory.mkdir(parents=True)
    about: dict[str, Any] = {
        "test": {"test/rmse": value},
        "steps": 1000,
        "seconds": 120.0,
        "parameters": 444_369,
        "data": {"stand_in": None},
        "hardware": {"cpu": "A CPU"},
        "threads": 2,
        "git": {"commit": "abcdef0123"},
    }
    (directory / "metrics.json").write_text(json.dumps(about | more))
    (directory / "DONE").touch()


def test_each_run_has_its_own_directory(tmp_path: Path):
    places = [directory for row in cells(SPEC, tmp_path) for cell in row for directory in cell.directories]
    assert len(set(places)) == len(places) == 6
    assert places[0] == tmp_path / "default-mle-bench-s-split-0"


def test_each_protocol_can_have_several_metrics_with_intervals(tmp_path: Path):
    metrics = [{"name": "auroc", "title": "AUROC"}, {"name": "accuracy", "title": "accuracy", "digits": 2}]
    rows = cells(SPEC, tmp_path)
    for seed, directory in enumerate(rows[0][0].directories):
        test = {"test/auroc": 0.9, "test/auroc_low": 0.8 + 0.02 * seed, "test/auroc_high": 0.95, "test/accuracy": 0.85}
        done(directory, 0, test=test)
    done(rows[1][1].directories[0], 0, test={"test/auroc": 0.7})
    lines = section(SPEC | {"metrics": metrics}, rows).splitlines()
    columns = "AUROC, MLE-bench's split | accuracy, MLE-bench's split | AUROC, page-disjoint | accuracy, page-disjoint"
    assert columns in lines[2]
    assert "| **0.9000** ± 0.0000 (n = 2), 95 %: 0.8100 to 0.9500 | **0.85** ± 0.00 (n = 2) |  |  |" in lines[4]
    assert lines[5].endswith("|  |  | **0.7000** (n = 1) |  |")
    assert lines[6] == "| gold |  |  |  |  |  | 0.0179 |  |  |  |"


def test_a_metric_can_be_scaled_to_another_unit(tmp_path: Path):
    rows = cells(SPEC, tmp_path)
    done(rows[0][0].directories[0], 38_123.0)
    done(rows[1][0].directories[0], 37_000.0)
    text = section(SPEC | {"scale": 0.00001}, rows)
    assert "**0.3812** (n = 1)" in text
    assert "**0.3700** (n = 1)" in text


def test_a_cell_gives_mean_deviation_and_number_of_runs(tmp_path: Path):
    rows = cells(SPEC, tmp_path)
    for number, cell in enumerate(cell for row in rows for cell in row):
        for seed, directory in enumerate(cell.directories):
            stand_in = "the rule applied to 115 of 144 pages" if number % 2 == 0 else None
            # Runs with fewer threads do not count in the minutes.
            time = {"threads": 4, "seconds": 120.0} if seed == 0 else {"threads": 1, "seconds": 400.0}
            more = time | {"steps": 1000 + number, "data": {"stand_in": stand_in}}
            done(directory, 0.01 * (number + 1) + 0.002 * seed, **more)
    lines = section(SPEC, rows).splitlines()
    assert lines[0] == "What they are."
    assert (
        lines[2]
        == "| model | command | weights | steps | threads | minutes | RMSE, MLE-bench's split | RMSE, page-disjoint |"
    )
    assert lines[4] == (
        "| default | `python train.py experiment=denoise` | 444,369 | 1,000 to 1,001 | 4 | 2.0 "
        "| **0.0110** ± 0.0014 (n = 2) | **0.0210** ± 0.0014 (n = 2) |"
    )
    assert "| **0.0300** (n = 1) | **0.0400** (n = 1) |" in lines[5]
    assert lines[6] == "| gold |  |  |  |  |  | 0.0179 |  |"
    assert lines[8] == (
        "Measured on A CPU, at abcdef0. Not the published split itself: the rule applied to 115 of 144 pages."
    )


def test_only_missing_runs_are_started_and_stopped_ones_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[list[str]] = []

    class Ended:
        returncode = 0

    monkeypatch.setattr(results.subprocess, "run", lambda command, cwd: asked.append(command[1:]) or Ended)
    finished, stopped, new = (tmp_path / name for name in ("finished", "stopped", "new"))
    done(finished, 0.1)
    (stopped / ".hydra").mkdir(parents=True)
    run(Cell((finished, stopped, new), ("experiment=denoise",)))
    assert asked == [
        ["train.py", f"resume={stopped}"],
        ["train.py", "experiment=denoise", "seed=2", f"hydra.run.dir={new}"],
    ]


def test_a_failed_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Failed:
        returncode = 1

    monkeypatch.setattr(results.subprocess, "run", lambda command, cwd: Failed)
    with pytest.raises(RuntimeError, match=r"run: the run failed with exit code 1"):
        run(Cell((tmp_path / "run",), ()))


@pytest.mark.parametrize("table", sorted(path.stem for path in TABLES.glob("*.yaml")))
def test_each_table_names_existing_experiments(table: str):
    spec = read_table(table)
    assert table in EXPERIMENTS
    for model in spec["models"]:
        chosen = dict(override.split("=") for override in model["overrides"])
        assert chosen["experiment"] in [*EXPERIMENTS, *BEST]
        assert "model" not in chosen or (CONF / "model" / f"{chosen['model']}.yaml").exists()
        assert model["seeds"] >= 1
    for anchor in spec["anchors"]:
        assert len(anchor["values"]) <= len(spec["protocols"])
