"""The table at the end of a sweep, from run directories made up for it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from triptych.results.directory import DONE, METRICS, write_json
from triptych.results.sweep import ERROR, SweepSummary


def job(sweep: Path, name: str, *overrides: str) -> Path:
    """A job that has started."""
    directory = sweep / name
    (directory / ".hydra").mkdir(parents=True)
    (directory / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    return directory


def done(sweep: Path, name: str, *overrides: str, **metrics: Any) -> None:
    given = {
        "monitor": "val/rmse",
        "best": {"val/rmse": 48_000.0},
        "test": {"test/rmse": 49_500.0},
        "seconds": 61.7,
    }
    directory = job(sweep, name, *overrides)
    write_json(directory / METRICS, given | metrics)
    (directory / DONE).touch()


def failed(sweep: Path, name: str, error: str) -> None:
    (job(sweep, name, "seed=1") / ERROR).write_text(error)


def summarize(sweep: Path) -> None:
    SweepSummary().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}}))


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What was printed since, without the folding of a narrow terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    return lambda: capsys.readouterr().out


def test_jobs_stand_in_the_order_of_their_numbers(tmp_path: Path, output: Any):
    for name in ("10", "9", "0", "best"):
        done(tmp_path, name, "optimizer=adam", f"seed={name}")
    summarize(tmp_path)
    table = output()
    assert re.findall(r"^ *(\w+) +optimizer=adam seed=\1 +48,000 +49,500 +62 +done", table, re.MULTILINE) == [
        *("0", "9", "10", "best")
    ]
    assert "val/rmse" in table
    assert "test/rmse" in table
    assert f"sweep  {tmp_path}" in table


def test_a_failed_job_is_named_with_its_message_and_the_exit_code_is_1(tmp_path: Path, output: Any):
    done(tmp_path, "0")
    failed(tmp_path, "1", "ValueError: no [such] thing\n\nTraceback ...")
    with pytest.raises(SystemExit) as ended:
        summarize(tmp_path)
    assert ended.value.code == 1
    table = output()
    assert "failed: ValueError: no [such] thing" in table
    assert "Traceback" not in table
    assert "done" in table


def test_a_job_that_neither_ended_nor_failed_was_interrupted(tmp_path: Path, output: Any):
    write_json(job(tmp_path, "0") / METRICS, {"monitor": "val/rmse"})
    with pytest.raises(SystemExit):
        summarize(tmp_path)
    assert "interrupted" in output()


def test_jobs_killed_while_they_began_or_failed_are_no_crash(tmp_path: Path, output: Any):
    (tmp_path / "0" / ".hydra").mkdir(parents=True)
    (job(tmp_path, "1") / ".hydra" / "overrides.yaml").write_text("")
    failed(tmp_path, "2", "")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "multirun.yaml").touch()
    with pytest.raises(SystemExit):
        summarize(tmp_path)
    table = output()
    assert "sweep of 3 jobs" in table
    assert table.count("interrupted") == 2


def test_numbers_that_are_missing_are_dashes(tmp_path: Path, output: Any):
    done(tmp_path, "0", best={}, test=None)
    done(tmp_path, "1", best={"val/rmse": None}, test={})
    summarize(tmp_path)
    assert len(re.findall(r"- +- +62 +done", output())) == 2


def test_jobs_with_different_monitors_share_the_columns(tmp_path: Path, output: Any):
    done(tmp_path, "0")
    done(tmp_path, "1", monitor="val/auroc", best={"val/auroc": 0.97}, test={"test/auroc": 0.96})
    summarize(tmp_path)
    table = output()
    assert "val/monitor" in table
    assert re.search(r"0\.97 +0\.96", table)
