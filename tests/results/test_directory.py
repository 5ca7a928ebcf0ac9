"""Run directories: unique names, finding runs again, and atomic writing of their files."""

import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest

from triptych.files import atomic_write
from triptych.results.directory import (
    DONE,
    METRICS,
    SWEEP,
    find_run,
    link_latest,
    new_run_id,
    read_metrics,
    record_resume,
    resumed_steps,
    write_json,
)


def make_run(directory: Path, second: int, done: bool = True) -> Path:
    """Make a run directory whose config has the modification time ``second``."""
    config = directory / ".hydra" / "config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("seed: 0")
    os.utime(config, (second, second))
    if done:
        (directory / DONE).touch()
    return directory


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Two experiments of two runs each and a sweep of two jobs; denoise/b is the newest, housing/b the newest done."""
    logs = tmp_path / "logs"
    make_run(logs / "denoise" / "a", 1)
    make_run(logs / "denoise" / "b", 9, done=False)
    make_run(logs / "housing" / "a", 2, done=False)
    make_run(logs / "housing" / "b", 8)
    make_run(logs / "sweeps" / "s" / "0", 3)
    make_run(logs / "sweeps" / "s" / "1", 4, done=False)
    return logs


# Names


def test_run_ids_within_a_second_are_unique():
    names = [new_run_id() for _ in range(1000)]
    assert len(set(names)) == 1000
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-[0-9a-f]{10}", name) for name in names)


# latest


def test_latest_is_a_relative_link_that_moves_with_the_logs(tmp_path: Path):
    run = make_run(tmp_path / "logs" / "housing" / "a", 1)
    link_latest(run, "housing", tmp_path / "logs")
    link = tmp_path / "logs" / "housing" / "latest"
    assert link.readlink() == Path("a")
    (tmp_path / "logs").rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "housing" / "latest" / DONE).exists()


def test_latest_points_at_the_newest_run_and_leaves_no_temporary_files(tmp_path: Path):
    logs = tmp_path / "logs"
    for name in "abc":
        link_latest(make_run(logs / "housing" / name, 1), "housing", logs)
        assert (logs / "housing" / "latest").readlink() == Path(name)
    assert sorted(path.name for path in (logs / "housing").iterdir()) == ["a", "b", "c", "latest"]


def test_latest_can_point_to_a_run_outside_the_logs(tmp_path: Path):
    elsewhere = make_run(tmp_path / "elsewhere", 1)
    link_latest(elsewhere, "housing", tmp_path / "logs")
    assert (tmp_path / "logs" / "housing" / "latest").resolve() == elsewhere
    assert find_run("latest", tmp_path / "logs") == elsewhere


def test_a_folder_named_latest_is_never_replaced(tmp_path: Path):
    kept = tmp_path / "logs" / "housing" / "latest" / "notes.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    link_latest(make_run(tmp_path / "logs" / "housing" / "a", 1), "housing", tmp_path / "logs")
    assert kept.read_text() == "mine"
    assert len(list(kept.parents[1].iterdir())) == 2


# Finding


def test_a_run_is_found_by_its_path(logs: Path):
    assert find_run(str(logs / "denoise" / "a")) == logs / "denoise" / "a"
    link_latest(logs / "denoise" / "a", "denoise", logs)
    assert find_run(str(logs / "denoise" / "latest")) == logs / "denoise" / "a"


def test_latest_finds_the_newest_run_of_all_experiments(logs: Path):
    assert find_run("latest", logs) == logs / "denoise" / "b"
    make_run(logs / "sweeps" / "s" / "2", 10)
    assert find_run("latest", logs) == logs / "sweeps" / "s" / "2"


def test_latest_can_find_the_newest_unfinished_run(logs: Path):
    (logs / "denoise" / "b" / DONE).touch()
    assert find_run("latest", logs, unfinished=True) == logs / "sweeps" / "s" / "1"


def test_a_broken_link_is_skipped(logs: Path):
    (logs / "housing" / "latest").symlink_to("gone")
    assert find_run("latest", logs) == logs / "denoise" / "b"


@pytest.mark.parametrize("unfinished", [False, True])
def test_having_no_run_at_all_names_the_folder_searched(unfinished: bool, tmp_path: Path):
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        find_run("latest", tmp_path, unfinished)


def test_having_no_unfinished_run_suggests_extending_one(tmp_path: Path):
    make_run(tmp_path / "housing" / "a", 1)
    make_run(tmp_path / "housing" / "b", 2)
    with pytest.raises(ValueError, match=r"no unfinished run.*resume=\S+/housing/b trainer.max_epochs=N"):
        find_run("latest", tmp_path, unfinished=True)


@pytest.mark.parametrize("name", ["nowhere", "logs", "logs/denoise", ""])
def test_a_folder_that_is_not_a_run_is_refused(name: str, logs: Path):
    with pytest.raises(ValueError, match="is not a run directory"):
        find_run(name)


def test_a_sweep_or_a_file_of_a_run_is_refused_with_a_run_suggested(logs: Path):
    (logs / SWEEP).touch()
    with pytest.raises(
        ValueError, match=rf"it is a sweep: name one of its runs, such as {re.escape(str(logs / '0'))}$"
    ):
        find_run(str(logs), logs)
    run = logs / "denoise" / "a"
    for name in (run / "checkpoints", run / "checkpoints" / "best.ckpt"):
        with pytest.raises(ValueError, match=rf"did you mean {re.escape(str(run))}\?$"):
            find_run(str(name), logs)


def test_an_experiment_folder_is_refused_with_its_latest_suggested(logs: Path):
    link_latest(logs / "denoise" / "a", "denoise", logs)
    for name in (str(logs / "denoise"), "denoise"):
        with pytest.raises(ValueError, match=rf"did you mean {re.escape(str(logs / 'denoise' / 'latest'))}\?$"):
            find_run(name, logs)


# Files


def test_json_contains_null_instead_of_nan_and_infinity(tmp_path: Path):
    path = tmp_path / METRICS
    wild = {"a": math.nan, "b": [math.inf, 1.5], "c": {"d": -math.inf}, "e": np.float64("nan"), "f": (1, None, "NaN")}
    write_json(path, wild)
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {
        "a": None,
        "b": [None, 1.5],
        "c": {"d": None},
        "e": None,
        "f": [1, None, "NaN"],
    }
    assert read_metrics(tmp_path)["b"] == [None, 1.5]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / METRICS
    write_json(path, {"seed": 1})
    with pytest.raises(TypeError):
        write_json(path, {"seed": object()})
    assert read_metrics(tmp_path) == {"seed": 1}
    assert [file.name for file in tmp_path.iterdir()] == [METRICS]


def test_the_temporary_file_keeps_the_suffix_of_the_target(tmp_path: Path):
    with atomic_write(tmp_path / "page.png") as aside:
        assert aside.suffix == ".png"
        assert aside.parent == tmp_path
        aside.write_text("whole")
        assert not (tmp_path / "page.png").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["page.png"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_nothing(error: type[BaseException], tmp_path: Path):
    def write(path: Path) -> None:
        with atomic_write(path) as aside:
            aside.write_text("half")
            raise error

    with pytest.raises(error):
        write(tmp_path / "page.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", [None, "", '{"seed": '])
def test_unreadable_metrics_ask_whether_the_run_has_ended(text: str | None, tmp_path: Path):
    if text is not None:
        (tmp_path / METRICS).write_text(text)
    with pytest.raises(ValueError, match="has the run ended"):
        read_metrics(tmp_path)


def test_resumed_steps_are_recorded_in_order(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    assert resumed_steps(tmp_path) == []
    for step in (7, 3):
        record_resume(tmp_path, step)
    assert resumed_steps(tmp_path) == [7, 3]
