"""Which sweep `-m resume=` finds, and what may be given anew: the places of its config and the number of trials."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from tests.fake_sweep import begun, done, failed
from tests.harness import CONF, FASTEST, cheapest, command

from triptych.config import ConfigError
from triptych.results.directory import REPORT, SWEEP, SWEEP_LOCK
from triptych.results.record import read_record
from triptych.results.trials import DATABASE
from triptych.sweeps import JOBS, find_sweep, job_status, record_job_count, sweep_resumption

TASK = [f"experiment={FASTEST}", "seed=0,1"]


def save(folder: Path, task: list[str] = TASK, hydra: list[str] | None = None, **kept: Any) -> Path:
    """Make a sweep directory with the multirun.yaml that Hydra writes."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = {"overrides": {"task": task, "hydra": hydra or []}, **kept}
    (folder / SWEEP).write_text(yaml.safe_dump({"hydra": plan}))
    return folder


def search(folder: Path, hydra: list[str] | None = None) -> Path:
    """Make the directory of a search."""
    save(folder, [f"search={FASTEST}"], hydra)
    (folder / DATABASE).touch()
    return folder


def resume_command(folder: Path | str, *given: str) -> list[str]:
    """Return the command line that `-m resume=FOLDER` stands for, without its last argument, the sweep directory."""
    arguments = sweep_resumption(["-m", f"resume={folder}", *given], CONF)
    assert arguments is not None
    assert arguments[-1].startswith("hydra.sweep.dir=")
    return arguments[:-1]


def lying_at(place: Path, name: str = "config") -> dict[str, Any]:
    """What Hydra records of `--config-dir` and `--config-name`."""
    main = {"path": str(CONF), "schema": "file", "provider": "main"}
    more = {"path": str(place), "schema": "file", "provider": "command-line"}
    return {"runtime": {"config_sources": [main, more]}, "job": {"config_name": name}}


@pytest.mark.parametrize("form", ["--config-dir {}", "--config-dir={}", "-cd {}", "-cd={}"])
def test_config_dir_can_be_given_again(form: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    sweep = save(tmp_path / "sweep", **lying_at(mine))
    assert resume_command(sweep, *form.format(mine).split()) == ["-m", f"--config-dir={mine}", *TASK]


@pytest.mark.parametrize("form", ["--config-name other", "--config-name=other", "-cn other", "-cn=other"])
def test_config_name_must_be_given_again(form: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/other.yaml").write_text("defaults: [config, _self_]\n")
    sweep = save(tmp_path / "sweep", **lying_at(tmp_path / "mine", "other"))
    with pytest.raises(ConfigError, match="--config-name=other, which"):
        resume_command(sweep, "-cd", str(tmp_path / "mine"))
    places = [f"--config-dir={tmp_path / 'mine'}", "--config-name=other"]
    assert resume_command(sweep, *form.split(), "-cd", str(tmp_path / "mine")) == ["-m", *places, *TASK]


def test_searchpath_must_be_given_again(tmp_path: Path) -> None:
    line = f"hydra.searchpath=['file://{tmp_path}']"
    sweep = save(tmp_path / "sweep", hydra=["hydra.mode=MULTIRUN", line])
    with pytest.raises(ConfigError, match=r"hydra\.searchpath="):
        resume_command(sweep)
    assert resume_command(sweep, line) == ["-m", *TASK, line]


def test_untrusted_sweep_cannot_choose_the_config_dir(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    # Hydra would build loggers and sweepers from the files there, whatever they name.
    strange = tmp_path / "a stranger's"
    (strange / "hydra/job_logging").mkdir(parents=True)
    sweep = save(tmp_path / "sweep", **lying_at(strange))
    with pytest.raises(ConfigError, match="give it again after resume= if it is yours") as refused:
        resume_command(sweep)
    assert shlex.quote(f"--config-dir={strange}") in str(refused.value)
    record_property("attacks refused", 1)


def test_groups_in_the_config_dir_are_checked_too(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    (tmp_path / "mine/kinds").mkdir(parents=True)
    sweep = save(tmp_path / "sweep", ["+kinds=../../stranger"], **lying_at(tmp_path / "mine"))
    with pytest.raises(ConfigError, match="no name of an option"):
        resume_command(sweep, "-cd", str(tmp_path / "mine"))
    save(sweep, ["+kinds=one,two"], **lying_at(tmp_path / "mine"))
    assert resume_command(sweep, "-cd", str(tmp_path / "mine"))[2:] == ["+kinds=one,two"]
    record_property("attacks refused", 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [("-cd", "expected one argument"), ("-cd nowhere", "no such folder"), ("-x", "as it was started")],
)
def test_invalid_config_dir_or_flag_is_refused(given: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        resume_command(save(tmp_path / "sweep"), *given.split())


def test_search_can_be_given_more_trials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = search(tmp_path / "search", ["hydra.sweeper.trials=30", "hydra.sweeper.seed=4"])
    kept = ["-m", f"search={FASTEST}", "hydra.sweeper.seed=4"]
    assert resume_command(folder, "hydra.sweeper.trials=60") == [*kept, "hydra.sweeper.trials=60"]
    assert capsys.readouterr().out == ""
    for number in ("0", "1"):
        done(folder, number)
    assert resume_command(folder, "hydra.sweeper.trials=2")[-1] == "hydra.sweeper.trials=2"
    assert "has 2 trials already" in capsys.readouterr().out


def test_resumed_search_remembers_the_trials_last_requested(tmp_path: Path) -> None:
    folder = search(tmp_path / "search", ["hydra.sweeper.trials=30"])
    record_job_count(folder, 60)
    assert resume_command(folder) == ["-m", "hydra.sweeper.trials=60", f"search={FASTEST}"]
    assert resume_command(folder, "hydra.sweeper.trials=61") == ["-m", f"search={FASTEST}", "hydra.sweeper.trials=61"]
    for damaged in ("[60]", '{"jobs": -5}', '{"jobs": 1e3}', f'{{"jobs": {10**30}}}'):
        (folder / JOBS).write_text(damaged)
        assert resume_command(folder) == ["-m", f"search={FASTEST}", "hydra.sweeper.trials=30"]


@pytest.mark.parametrize("trials", ["0", "-1", "1.5", "many", "1,2", "9999999999", "", "²"])
def test_trials_must_be_a_positive_integer(trials: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a number from 1"):
        resume_command(search(tmp_path / "search"), f"hydra.sweeper.trials={trials}")


def test_only_a_search_accepts_trials(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a search"):
        resume_command(save(tmp_path / "sweep"), "hydra.sweeper.trials=9")


def test_resumed_sweep_reads_downloaded_files(tmp_path: Path) -> None:
    for word in ("kaggle", "'kaggle'"):
        sweep = save(tmp_path / "sweep", [f"data.source={word}", "seed=0,1"])
        assert resume_command(sweep) == ["-m", "data.source=files", "seed=0,1"]
    job = begun(tmp_path / "sweep", "0", "data.source=kaggle")
    experiment = read_record(job).overrides[0]
    assert job_status(job, [experiment, "data.source=files"]) == "begun"
    with pytest.raises(ConfigError, match="another job"):
        job_status(job, [experiment, "data.source=synthetic"])


def test_forced_override_counts_as_the_same_value(tmp_path: Path) -> None:
    job = begun(tmp_path / "sweep", "0", "data.batch_size=8")
    experiment = read_record(job).overrides[0]
    assert job_status(job, [experiment, "++data.batch_size=8"]) == "begun"


def test_sweep_path_may_be_quoted(tmp_path: Path) -> None:
    sweep = save(tmp_path / "a b")
    for quoted in (f"'{sweep}'", f'"{sweep}"'):
        assert sweep_resumption(["-m", f"resume={quoted}"], CONF) == ["-m", *TASK, f"hydra.sweep.dir='{sweep}'"]


def ended(logs: Path, name: str) -> Path:
    """Make a finished sweep of two jobs."""
    sweep = save(logs / "sweeps" / name)
    for number in ("0", "1"):
        done(sweep, number)
    record_job_count(sweep, 2)
    (sweep / REPORT).touch()
    return sweep


def test_latest_is_the_newest_sweep_with_jobs_to_run(tmp_path: Path) -> None:
    older, newest = ended(tmp_path, "2026-11-01"), ended(tmp_path, "2026-11-03")
    with pytest.raises(ConfigError, match=f"no unfinished sweep.*-m resume={newest}"):
        find_sweep("latest", tmp_path)
    (older / "1/DONE").unlink()
    assert find_sweep("latest", tmp_path) == older
    killed = save(tmp_path / "sweeps/2026-11-02")  # before its first job began
    assert find_sweep("latest", tmp_path) == killed


def no_report(sweep: Path) -> None:
    (sweep / REPORT).unlink()


def a_job_less(sweep: Path) -> None:
    record_job_count(sweep, 3)


def a_job_that_failed(sweep: Path) -> None:
    failed(sweep, "2", error="ValueError: no")


def a_job_that_only_has_its_folder(sweep: Path) -> None:
    (sweep / "2").mkdir()


@pytest.mark.parametrize("change", [no_report, a_job_less, a_job_that_failed, a_job_that_only_has_its_folder])
def test_sweep_with_jobs_to_run_is_unfinished(change: Callable[[Path], None], tmp_path: Path) -> None:
    change(ended(tmp_path, "2026-11-03"))
    assert find_sweep("latest", tmp_path).name == "2026-11-03"


def test_sweep_with_nothing_to_rerun_is_finished(tmp_path: Path) -> None:
    sweep, searched = ended(tmp_path, "2026-11-03"), ended(tmp_path, "2026-11-04")
    failed(sweep, "2", error="Diverged: the loss is nan")
    failed(searched, "2", error="ValueError: no")
    (searched / DATABASE).touch()
    with pytest.raises(ConfigError, match="no unfinished sweep"):
        find_sweep("latest", tmp_path)
    (sweep / JOBS).unlink()  # a sweep from before this file was introduced
    with pytest.raises(ConfigError, match="no unfinished sweep"):
        find_sweep("latest", tmp_path)


def test_latest_skips_a_sweep_that_another_process_runs(tmp_path: Path) -> None:
    older, newest = save(tmp_path / "sweeps/2026-11-01"), save(tmp_path / "sweeps/2026-11-03")
    with FileLock(newest / SWEEP_LOCK):
        assert find_sweep("latest", tmp_path) == older
        (newest / DATABASE).touch()  # a search, which several processes may share
        assert find_sweep("latest", tmp_path) == newest


def test_trials_with_latest_apply_to_the_newest_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "logs/sweeps/2026-11-05")
    with pytest.raises(ConfigError, match="no search below"):
        resume_command("latest", "hydra.sweeper.trials=60")
    folder = ended(tmp_path / "logs", "2026-11-03")
    search(folder)
    search(tmp_path / "logs/sweeps/2026-11-01")
    arguments = sweep_resumption(["-m", "resume=latest", "hydra.sweeper.trials=60"], CONF)
    assert arguments is not None
    assert arguments[-2:] == ["hydra.sweeper.trials=60", f"hydra.sweep.dir={folder}"]


@pytest.mark.slow
def test_sweep_with_a_user_config_resumes(data_root: Path, tmp_path: Path) -> None:
    for place, name, base in (("mine", "own", "further"), ("more", "further", FASTEST)):
        (tmp_path / place / "experiment").mkdir(parents=True)
        text = f"# @package _global_\n# One's own.\ndefaults:\n  - {base}\n  - _self_\nmonitor: val/loss\n"
        (tmp_path / place / f"experiment/{name}.yaml").write_text(text)
    several = ["seed=0,1", "trainer.max_epochs=1", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    of_one, *rest = cheapest(data_root, *several)
    assert of_one == f"experiment={FASTEST}"
    places = ["-cd", "mine", "hydra.searchpath=[more]"]
    started = command("-m", *places, "experiment=own", *rest, cwd=tmp_path)
    assert started.returncode == 0, started.stderr
    (tmp_path / "sweep/1/DONE").unlink()
    again = shlex.split(json.loads((tmp_path / "sweep/0/metrics.json").read_text())["command"])
    assert again[2:5] == [f"--config-dir={tmp_path / 'mine'}", "hydra.searchpath=[more]", "experiment=own"]
    shown = command(*again[2:], "--cfg", "job", cwd=tmp_path)
    assert "monitor: val/loss" in shown.stdout
    assert command("-m", "resume=sweep", cwd=tmp_path).returncode == 2
    resumed = command("-m", "resume=sweep", *places, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "sweep/1/DONE").exists()
