"""Records of runs: their state, settings and metrics, read from their directories."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fake_sweep import CONFIG, begun, done, failed

from triptych.results.directory import DONE, METRICS
from triptych.results.record import Record, config_places, read_record, read_records


def test_a_finished_run_is_recorded(tmp_path: Path):
    record = read_record(done(tmp_path, "7", "optimizer.lr=1e-3", "+trainer.x=1", value=48_000))
    assert (record.name, record.state, record.error) == ("7", "done", "")
    assert (record.monitor, record.mode) == ("val/rmse", "min")
    assert record.settings == {"experiment": "housing", "optimizer.lr": "1e-3", "trainer.x": "1"}
    assert record.command == "python train.py experiment=housing optimizer.lr=1e-3 +trainer.x=1"
    assert (record.best("val/rmse"), record.test("test/rmse"), record.number("seconds")) == (48_000, 49_500, 61.7)
    assert (record.best("val/none"), record.test("val/rmse"), record.number("experiment")) == (None, None, None)


def test_study_and_search_choices_are_not_settings(tmp_path: Path):
    record = read_record(begun(tmp_path, "0", "study=activations", "study.arm=relu", "+search=housing", "seed=1"))
    assert record.settings == {"experiment": "housing", "seed": "1"}
    assert record.command == "python train.py experiment=housing seed=1"


def test_the_command_includes_changes_made_on_resume(tmp_path: Path):
    run = begun(tmp_path, "0", "study.arm=a b", "trainer.max_epochs=2", "+trainer.x=1", "optimizer.lr=0.1")
    for number, lines in {
        "1": "[trainer.max_epochs=3]",
        "10": "[trainer.max_epochs=9]",
        "2": "[seed=1, trainer.x=2]",
    }.items():
        (run / f".hydra/resume-{number}").mkdir()
        (run / f".hydra/resume-{number}/overrides.yaml").write_text(lines)
    (run / ".hydra/resume-x").mkdir()
    record = read_record(run)
    assert record.changes == ["trainer.max_epochs=3", "seed=1", "trainer.x=2", "trainer.max_epochs=9"]
    assert record.command == (
        "python train.py experiment=housing +trainer.x=1 optimizer.lr=0.1 seed=1 trainer.x=2 trainer.max_epochs=9"
    )


def test_the_command_includes_custom_config_locations(tmp_path: Path):
    run = begun(tmp_path, "0", "seed=1")
    sources = [{"path": "/conf", "provider": "main"}, {"path": "/a b/$(mine)", "provider": "command-line"}]
    hydra = {
        "runtime": {"config_sources": sources},
        "job": {"config_name": "other"},
        "overrides": {"hydra": ["hydra.mode=MULTIRUN", "hydra.searchpath=[/more]"]},
    }
    (run / ".hydra/hydra.yaml").write_text(json.dumps({"hydra": hydra}))
    assert read_record(run).command == (
        "python train.py '--config-dir=/a b/$(mine)' --config-name=other 'hydra.searchpath=[/more]' "
        "experiment=housing seed=1"
    )
    assert read_record(run).arguments == ["experiment=housing", "seed=1"]
    for name in ("config", "config.yaml"):
        hydra["job"] = {"config_name": name}
        assert not any("config-name" in place for place in config_places(hydra))


@pytest.mark.parametrize(
    "hydra",
    [
        *(None, [], 3, {"runtime": 1}, {"job": {"config_name": None}}, {"overrides": {"hydra": "hydra.searchpath="}}),
        {"runtime": {"config_sources": [3, {"path": "x"}, {"provider": "main", "path": "x"}]}},
        {"runtime": {"config_sources": {"provider": "command-line"}}, "overrides": {"hydra": [1, "hydra.x=1"]}},
    ],
)
def test_malformed_hydra_configs_give_no_config_location(hydra: Any):
    assert config_places(hydra) == []


def test_downloaded_data_count_as_files(tmp_path: Path):
    records = [read_record(begun(tmp_path, word, f"data.source={word}")) for word in ("kaggle", "'kaggle'", "files")]
    assert {record.settings["data.source"] for record in records} == {"files"}
    assert records[0].command.endswith("data.source=kaggle")


def test_settings_and_config_are_those_of_the_last_resume(tmp_path: Path):
    study = CONFIG | {"study": {"arm": "relu"}, "mode": "min"}
    run = begun(tmp_path, "0", "trainer.max_epochs=8", "+trainer.x=1", "data.cache_dir=a", config=study)
    for number, lines in {
        "2": "[data.batch_size=50]",
        "10": "[data.batch_size=100, trainer.max_epochs=2, data.cache_dir=b]",
    }.items():
        folder = run / f".hydra/resume-{number}"
        folder.mkdir()
        (folder / "overrides.yaml").write_text(lines)
        (folder / "config.yaml").write_text(json.dumps(study | {"mode": "max", "resume": number}))
    record = read_record(run)
    assert record.settings == {
        "experiment": "housing",
        "trainer.max_epochs": "2",
        "trainer.x": "1",
        "data.cache_dir": "a",  # not updated, or the report would separate this job from its sweep
        "data.batch_size": "100",
    }
    assert (record.config["resume"], record.mode, record.arm) == ("10", "max", "relu")
    (run / ".hydra/resume-10/config.yaml").write_text("{")  # killed while resuming
    assert read_record(run).config["resume"] == "2"


def test_a_symlink_is_named_after_its_run(tmp_path: Path):
    (tmp_path / "latest").symlink_to(begun(tmp_path, "2026-07-01_a"))
    assert read_record(tmp_path / "latest").name == "2026-07-01_a"


@pytest.mark.parametrize(
    ("error", "state", "line"),
    [
        ("ValueError: no\n\nTraceback", "failed", "ValueError: no"),
        ("Diverged: the loss is nan\n", "diverged", "Diverged: the loss is nan"),
        ("", "interrupted", ""),
    ],
)
def test_failed_diverged_and_interrupted_runs_are_told_apart(error: str, state: str, line: str, tmp_path: Path):
    record = read_record(failed(tmp_path, "0", error=error))
    assert (record.state, record.error) == (state, line)
    assert record.monitor == "val/rmse"  # from its config


def test_a_pruned_run_does_not_count_as_failed(tmp_path: Path):
    assert read_record(done(tmp_path, "0", pruned=True)).state == "pruned"


@pytest.mark.parametrize("missing", [DONE, METRICS])
def test_a_finished_run_needs_both_marker_and_metrics(missing: str, tmp_path: Path):
    run = done(tmp_path, "0")
    (run / missing).unlink()
    record = read_record(run)
    assert record.state == "interrupted"
    assert record.damage == ("it is done, but its metrics.json is missing" if missing == METRICS else "")


def test_truncated_metrics_are_reported_as_damage(tmp_path: Path):
    run = done(tmp_path, "0")
    assert read_record(run).damage == ""
    (run / METRICS).write_text((run / METRICS).read_text()[:40])
    record = read_record(run)
    assert (record.state, record.damage) == ("interrupted", "it is done, but its metrics.json is damaged")


@pytest.mark.parametrize("value", [None, True, "1", [1], float("nan"), float("inf")])
def test_only_finite_numbers_are_numbers(value: Any, tmp_path: Path):
    record = Record(tmp_path, "done", metrics={"best": {"val/rmse": value}, "test": None, "seconds": value})
    assert (record.best("val/rmse"), record.test("test/rmse"), record.number("seconds")) == (None, None, None)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00", b"[1, 2]", b"{", b"[" * 100_000, b"- " * 100_000, b"!!python/object/apply:os.abort []"],
)
def test_damaged_files_count_as_empty(content: bytes, tmp_path: Path):
    run = done(tmp_path, "0")
    for name in (METRICS, ".hydra/overrides.yaml", ".hydra/config.yaml", "error.txt"):
        (run / name).write_bytes(content)
    record = read_record(run)
    assert record.state in ("failed", "interrupted")
    assert (record.metrics, record.config, record.monitor, record.mode) == ({}, {}, "", "min")


def test_runs_are_listed_once_in_numeric_order(tmp_path: Path):
    for name in ("10", "9", "0", "best"):
        done(tmp_path / "sweep", name)
    (tmp_path / "sweep" / "11" / ".hydra").mkdir(parents=True)  # killed at its start
    (tmp_path / "sweep" / "checkpoints").mkdir()
    records = read_records([tmp_path / "sweep" / "9", tmp_path / "sweep"])
    assert [record.name for record in records] == ["9", "0", "10", "11", "best"]
    assert records[3].state == "interrupted"


def test_a_job_that_failed_before_starting_is_listed(tmp_path: Path):
    done(tmp_path, "0")
    for name in ("1", "notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "error.txt").write_text("its process was killed\n")
    records = read_records([tmp_path])
    assert [(record.name, record.state, record.error) for record in records] == [
        ("0", "done", ""),
        ("1", "failed", "its process was killed"),
    ]


def test_a_folder_without_runs_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="is neither a run nor a sweep"):
        read_records([tmp_path])


def test_metrics_of_the_wrong_type_are_none(tmp_path: Path):
    run = done(tmp_path, "0")
    (run / METRICS).write_text(json.dumps({"best": [1], "test": "x", "monitor": 3}))
    record = read_record(run)
    assert (record.best("val/rmse"), record.test("test/rmse"), record.monitor) == (None, None, "3")


@pytest.mark.parametrize(
    ("study", "arm"),
    [
        ({"arm": "group norm"}, "group norm"),
        ({"arm": "1e-3"}, "1e-3"),
        ({"arm": 64}, "64"),
        ({"claim": "it is so"}, ""),
        ({"arm": ["a"]}, ""),
        (None, ""),
    ],
)
def test_a_run_of_a_study_has_an_arm(tmp_path: Path, study: Any, arm: str):
    assert read_record(begun(tmp_path, "0", config=CONFIG | {"study": study})).arm == arm
