"""metrics.csv: one row per step, appended to while possible, and consistent after a resume."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from triptych.results.directory import read_history
from triptych.results.history import History


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.csv"


def logged(path: Path, *steps: tuple[int, dict[str, float]], first_step: int = 0) -> History:
    """A history with these (step, metrics), saved after each, as Lightning does."""
    history = History(path, first_step)
    for step, metrics in steps:
        history.log_metrics(metrics, step)
        history.save()
    return history


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_each_step_is_a_row(path: Path):
    logged(path, (0, {"loss": 2.0}), (1, {"loss": 1.5}))
    assert lines(path) == ["step,loss", "0,2.0", "1,1.5"]


def test_metrics_of_one_step_share_a_row(path: Path):
    logged(path, (0, {"loss": 2.0}), (1, {"loss": 1.5}), (1, {"val/rmse": 3.0}), (1, {"loss": 1.25}))
    assert lines(path) == ["step,loss,val/rmse", "0,2.0,", "1,1.25,3.0"]


def test_a_resumed_run_keeps_the_order_of_columns(path: Path):
    steps: list[tuple[int, dict[str, float]]] = [
        (0, {"z": 2.0}),
        (1, {"z": 1.5, "b": 1.0}),
        (2, {"a": 3.0}),
        (3, {"z": 1.0}),
    ]
    logged(path, *steps)
    whole = lines(path)
    logged(path, *steps[2:], first_step=2)
    assert lines(path) == whole


def test_within_an_epoch_the_file_is_written_at_most_once_a_second(path: Path, monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr("triptych.results.history.time", SimpleNamespace(monotonic=lambda: now))
    history = History(path)
    written = []
    for step in range(6):
        now += 0.4
        history.log_metrics({"train/loss_step": 1.0, "epoch": 0}, step)
        history.save()
        written.append(len(lines(path)) - 1)
    assert written == [1, 1, 1, 4, 4, 4]
    history.log_metrics({"val/loss": 2.0, "epoch": 0}, 5)
    history.save()
    assert len(lines(path)) == 7
    assert lines(path)[-1] == "5,0,1.0,2.0"
    history.log_metrics({"train/loss_step": 1.0}, 6)
    history.save()
    assert len(lines(path)) == 7
    history.finalize("success")
    assert len(lines(path)) == 8


def test_a_new_row_is_appended_and_a_new_column_rewrites_the_file(path: Path):
    history = logged(path, (0, {"loss": 2.0}))
    first = path.stat().st_ino
    history.log_metrics({"loss": 1.0}, 1)
    history.save()
    assert path.stat().st_ino == first
    history.log_metrics({"lr": 0.1}, 2)
    history.save()
    assert path.stat().st_ino != first
    assert lines(path) == ["step,loss,lr", "0,2.0,", "1,1.0,", "2,,0.1"]


def test_saving_twice_adds_nothing(path: Path):
    history = logged(path, (0, {"loss": 2.0}), (1, {"loss": 1.0}))
    before = path.read_bytes()
    history.save()
    history.finalize("success")
    assert path.read_bytes() == before


def test_metrics_without_a_step_count_as_step_0(path: Path):
    history = History(path)
    history.log_metrics({"loss": 1.0})
    history.save()
    assert lines(path) == ["step,loss", "0,1.0"]


def test_a_run_that_logged_nothing_has_an_empty_table(path: Path):
    History(path).finalize("failed")
    assert read_history(path) == []
    assert History(path, 5).rows == {}


def test_read_history_omits_empty_cells(path: Path):
    logged(path, (0, {"loss": 2.0}), (1, {"rmse": 0.0}))
    assert read_history(path) == [{"step": "0", "loss": "2.0"}, {"step": "1", "rmse": "0.0"}]


# Resumption


def test_a_resumed_history_drops_later_rows(path: Path):
    logged(path, *((step, {"loss": 10.0 - step}) for step in range(5)))
    resumed = History(path, first_step=3)
    assert list(resumed.rows) == [0, 1, 2]
    resumed.log_metrics({"loss": 0.5}, 3)
    resumed.save()
    assert lines(path) == ["step,loss", "0,10.0", "1,9.0", "2,8.0", "3,0.5"]


def test_a_resumed_history_keeps_rows_and_adds_columns(path: Path):
    logged(path, (0, {"loss": 2.0}), (1, {"loss": 1.0, "val/rmse": 3.0}), (2, {"loss": 0.0}))
    logged(path, (1, {"lr": 0.1}), first_step=2)
    assert read_history(path) == [
        {"step": "0", "loss": "2.0"},
        {"step": "1", "loss": "1.0", "val/rmse": "3.0", "lr": "0.1"},
    ]


def test_a_run_that_starts_over_keeps_no_row(path: Path):
    logged(path, (0, {"loss": 2.0}))
    logged(path, (0, {"rmse": 1.0}), first_step=0)
    assert lines(path) == ["step,rmse", "0,1.0"]


def test_a_repeatedly_resumed_history_equals_an_uninterrupted_one(tmp_path: Path):
    steps = [(step, {"loss": float(step)} | ({"val/rmse": step / 2} if step % 3 == 2 else {})) for step in range(9)]
    whole, broken = tmp_path / "whole.csv", tmp_path / "broken.csv"
    logged(whole, *steps)
    logged(broken, *steps[:6])
    logged(broken, *steps[4:8], first_step=4)
    logged(broken, *steps[7:], first_step=7)
    assert read_history(broken) == read_history(whole)


def test_a_malformed_table_is_reported_as_damaged(path: Path):
    path.write_text(f'step,loss\n0,"{"9" * 200_000}\n')  # a quote that is never closed
    with pytest.raises(ValueError, match=r"metrics\.csv is damaged: field larger than"):
        read_history(path)


def test_a_truncated_row_does_not_affect_the_others(path: Path):
    logged(path, *((step, {"loss": step / 8, "rmse": 1.0}) for step in (0, 1, 10, 11)))
    whole, rows = path.read_bytes(), read_history(path)
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        kept = read_history(path)
        assert kept == rows[: len(kept)]
        assert len(kept) == max(0, whole[:end].count(b"\r") - 1)
        assert list(History(path, 100).rows) == [0, 1, 10, 11][: len(kept)]
