"""Agreement of two runs, and how differences are explained."""

from pathlib import Path
from typing import Any

import pytest

from triptych.results.agreement import causes, comparable, compare, print_agreement
from triptych.results.record import Record

ABOUT: dict[str, Any] = {
    "git": {"commit": "a" * 40, "dirty": False, "patch": None, "left_out": []},
    "lock": "1",
    "versions": {"torch": "2.14"},
    "device": "cpu",
    "threads": 1,
    "hardware": {"cpu": "x"},
    "resumed_with": [],
}


def record(best: Any = None, test: Any = None, changes: tuple[str, ...] = (), **about: Any) -> Record:
    metrics = {"best": best or {}, "test": test, **ABOUT, **about}
    return Record(Path("run"), "done", metrics=metrics, changes=list(changes))


def verdict(then: Record, now: Record, tolerance: float = 1e-6) -> str:
    return compare(then, now, tolerance).verdict


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (50_000.0, "Reproduced: exactly"),
        (50_000.000000000007, "Reproduced: within 1e-06"),
        (50_000.04, "Reproduced: within 1e-06"),
        (50_000.06, "Not reproduced: test/rmse"),
        (None, "Not reproduced: test/rmse"),
        ("50000", "Not reproduced: test/rmse"),
    ],
)
def test_numbers_agree_to_a_relative_tolerance(now: Any, said: str) -> None:
    then = record({"val/rmse": 1.0}, {"test/rmse": 50_000.0})
    assert verdict(then, record({"val/rmse": 1.0}, {"test/rmse": now})) == said


def test_with_zero_tolerance_the_last_bit_counts() -> None:
    assert verdict(record({"a": 0.1}), record({"a": 0.1}), 0) == "Reproduced: exactly"
    assert verdict(record({"a": 0.3}), record({"a": 0.1 + 0.2}), 0) == "Not reproduced: a"
    assert verdict(record({"a": 0.0}), record({"a": 1e-300})) == "Not reproduced: a"


def test_a_metric_of_only_one_run_differs() -> None:
    assert verdict(record({"a": 1.0, "b": None}), record({"a": 1.0, "b": None})) == "Reproduced: exactly"
    assert verdict(record({"a": 1.0}), record({"a": 1.0, "b": 2.0})) == "Not reproduced: b"
    assert verdict(record({"a": 1.0}, {"t": 2.0}), record({"a": 1.0})) == "Not reproduced: t"


def test_a_run_without_validation_is_compared_by_its_last_logged_values(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,train/loss,val/loss\n1,0.5,\n2,0.25,\n3,,7\n")
    run = Record(tmp_path, "done", metrics={"best": {}, "test": None})
    assert comparable(run) == {"last step": 2.0, "last train/loss": 0.25}
    for damaged in ("1,much", f'1,"{"9" * 200_000}'):
        (tmp_path / "metrics.csv").write_text(f"step,train/loss\n{damaged}\n")
        assert comparable(run) == {}


@pytest.mark.parametrize(
    ("about", "line"),
    [
        ({"git": {**ABOUT["git"], "commit": "b" * 40}}, f"commit: {'a' * 40} then, {'b' * 40} now"),
        (
            {"git": {**ABOUT["git"], "dirty": True, "patch": "c" * 64}},
            f"uncommitted changes: none then, patch {'c' * 12} now",
        ),
        ({"lock": "2"}, "lock: 1 then, 2 now"),
        ({"versions": {"torch": "2.15"}}, "torch: 2.14 then, 2.15 now"),
        ({"device": "cuda"}, "device: cpu then, cuda now"),
        ({"threads": 2}, "threads: 1 then, 2 now"),
        ({"hardware": {"cpu": "y"}}, "CPU: x then, y now"),
    ],
)
def test_differences_of_code_packages_and_machine_are_named(about: dict[str, Any], line: str) -> None:
    assert causes(ABOUT, {**ABOUT, **about}) == [line]


@pytest.mark.parametrize("about", [{}, {"git": None}, {"hardware": 3, "versions": []}, {"threads": None}])
def test_what_one_run_did_not_record_is_not_a_cause(about: dict[str, Any]) -> None:
    assert causes({**ABOUT, **about}, ABOUT) == []


def test_changes_on_resume_are_named_as_causes() -> None:
    then = record({"a": 1.0}, changes=("trainer.max_epochs=4",), resumed_with=[{}, {"threads": 2}])
    lines = compare(then, record({"a": 2.0}), 0).causes
    assert "trainer.max_epochs=4" in lines[0]
    assert "resumed on other code" in lines[1]


def test_untrusted_names_are_printed_as_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    then = record({"[red]a\x1b[2J\n": 1.0}, hardware={"cpu": "\x1b[31m[bold]" + "z" * 500})
    print_agreement(compare(then, record({"b": 1.0}), 0), then, record({"b": 1.0}))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "[red]a" in shown
    assert "[bold]" in shown
    assert "z" * 100 not in shown


def test_unexplained_differences_suggest_an_edited_metrics_file(capsys: pytest.CaptureFixture[str]) -> None:
    then, now = record({"a": 1.0}), record({"a": 2.0})
    print_agreement(compare(then, now, 0), then, now)
    assert "was metrics.json changed" in capsys.readouterr().out
