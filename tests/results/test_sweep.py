"""The end of a sweep: its report and its exit code."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from tests.fake_sweep import begun, done, failed

from triptych.results import report
from triptych.results.sweep import SweepSummary


def summarize(sweep: Path, study: dict[str, Any] | None = None) -> int:
    """Summarise a sweep that has ended; returns its exit code."""
    try:
        SweepSummary().on_multirun_end(
            OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}, "study": study or {}})
        )
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_a_successful_sweep_prints_the_path_of_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    done(tmp_path, "0", "seed=0")
    done(tmp_path, "1", "seed=1", pruned=True)
    assert summarize(tmp_path) == 0
    told = capsys.readouterr().out
    assert "2 runs: 1 done, 1 pruned" in told
    assert f"report {tmp_path / 'report.html'}" in told
    assert f"sweep  {tmp_path}" in told
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize("state", ["failed", "diverged", "interrupted"])
def test_an_unsuccessful_job_is_named_and_the_exit_code_is_1(
    state: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    done(tmp_path, "0")
    if state == "interrupted":
        begun(tmp_path, "1")
    else:
        failed(tmp_path, "1", error=f"{'Diverged' if state == 'diverged' else 'ValueError'}: no [such] thing\n\nTrace")
    assert summarize(tmp_path) == 1
    told = capsys.readouterr().out
    assert f"2 runs: 1 done, 1 {state}" in told
    assert ("no [such] thing" in told) == (state != "interrupted")
    assert "Trace" not in told


def test_divergence_is_not_an_error_in_a_study(tmp_path: Path):
    done(tmp_path, "0")
    failed(tmp_path, "1", error="Diverged: the loss is NaN")
    assert summarize(tmp_path, {"claim": "Large steps diverge."}) == 0
    failed(tmp_path, "2", error="ValueError: no such thing")
    assert summarize(tmp_path, {"claim": "Large steps diverge."}) == 1


def test_runs_on_different_data_are_ranked_separately(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    done(tmp_path, "0", "data.split=grouped")
    done(tmp_path, "1", "data.split=random", data={"split": "random"})
    assert summarize(tmp_path) == 0
    told = capsys.readouterr().out
    assert "Runs that cannot be compared are ranked apart: data.split is grouped (run 0), random (run 1)" in told
    assert "Ranking: data.split grouped" in told
    assert "Ranking: data.split random" in told


@pytest.mark.parametrize("code", [0, 1])
def test_a_failed_report_still_lists_the_runs_and_exit_code(
    code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no space left")

    monkeypatch.setattr(report, "report", broken)
    done(tmp_path, "0")
    if code:
        failed(tmp_path, "1", error="ValueError: no such thing")
    assert summarize(tmp_path) == code
    told = capsys.readouterr().out
    assert f"could not be made (RuntimeError: no space left). Again: triptych report {tmp_path}" in told
    assert "run 0: done" in told
    assert ("run 1: failed ValueError: no such thing" in told) == bool(code)


def test_a_sweep_without_runs_has_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert summarize(tmp_path) == 1
    assert "is neither a run nor a sweep" in capsys.readouterr().err
