"""Resuming a sweep: what `-m resume=SWEEP` stands for, what it refuses, and that it loses nothing."""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from tests.harness import CONF, REPOSITORY, cheapest, command

from triptych.config import ConfigError
from triptych.resume import parse_resumption
from triptych.sweeps import job_status, sweep_resumption

TASK = ["experiment=housing", "model=mlp,tabular", "optimizer.lr=0.1,0.2", "+model.x='a b'", "~callbacks.figures"]


def save(folder: Path, task: list[str], hydra: list[str]) -> Path:
    """Make a sweep directory with the command line that started the sweep."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": {"task": task, "hydra": hydra}}}))
    return folder


def test_command_line_that_resumes_no_sweep_is_ignored(tmp_path: Path) -> None:
    assert sweep_resumption(["-m", "experiment=housing"], CONF) is None
    assert sweep_resumption(["resume=latest"], CONF) is None


def test_saved_command_line_is_restored_with_the_folder(tmp_path: Path) -> None:
    hydra = ["hydra.mode=MULTIRUN", "hydra.sweep.dir=elsewhere", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    folder = save(tmp_path / "a=b 'c'\\", TASK, hydra)
    arguments = sweep_resumption(["--multirun", f"resume={folder}"], CONF)
    assert arguments is not None
    assert arguments[:-1] == ["-m", *TASK, *hydra[2:]]
    (last,) = OverridesParser.create().parse_overrides(arguments[-1:])
    assert (last.key_or_group, last.value()) == ("hydra.sweep.dir", str(folder))


def test_launcher_can_be_changed(tmp_path: Path) -> None:
    folder = save(tmp_path / "one", TASK, ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"])
    arguments = sweep_resumption(["-m", f"resume={folder}", "hydra.launcher.n_jobs=3"], CONF)
    assert arguments is not None
    assert arguments[-3:-1] == ["hydra/launcher=joblib", "hydra.launcher.n_jobs=3"]
    arguments = sweep_resumption(["-m", f"resume={folder}", "hydra/launcher=local"], CONF)
    assert arguments is not None
    assert arguments[1:-1] == [*TASK, "hydra/launcher=local"]


def test_latest_is_the_newest_sweep(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no sweep below"):
        sweep_resumption(["-m", "resume=latest"], CONF)
    for time_stamp in ("2026-11-02_10", "2026-11-22_09", "2026-11-21_23"):
        folder = save(tmp_path / "logs/sweeps" / time_stamp, TASK, [])
    os.utime(folder / "multirun.yaml")
    arguments = sweep_resumption(["-m", "resume=latest"], CONF)
    assert arguments is not None
    assert "2026-11-22_09" in arguments[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("resume=nowhere", "not a sweep"),
        ("resume=run", "without -m"),
        ("resume=sweep resume=sweep", "more than once"),
        ("resume=sweep seed=1", "as it was started"),
        ("resume=sweep hydra.sweep.dir=x", "as it was started"),
        ("resume=sweep hydra/launcher=basic", "choose one of joblib, local, ray"),
    ],
)
def test_invalid_resume_of_a_sweep_is_refused(arguments: str, message: str, tmp_path: Path) -> None:
    save(tmp_path / "sweep", TASK, [])
    (tmp_path / "run/.hydra").mkdir(parents=True)
    (tmp_path / "run/.hydra/config.yaml").touch()
    with pytest.raises(ConfigError, match=message):
        sweep_resumption(["-m", *arguments.split()], CONF)
    with pytest.raises(ConfigError, match="-m resume=sweep"):
        parse_resumption(["resume=sweep"])


@pytest.mark.parametrize(
    "line",
    [
        "+callbacks.more={_target_: os.system}",
        "model.network._target_=os.system",
        "monitor=${oc.env:HOME}",
        "optimizer.lr='${oc.env:HOME}',0.1",
        "packages=[stranger]",
        "++packages=[stranger]",
        "+packages.0=stranger",
        "experiment=../../stranger",
        "+experiment=housing,/tmp/stranger",
        "logger=[tensorboard,../stranger]",
        "optimizer='../stranger'",
        "data@model=california",
        "hydra.searchpath=[/tmp]",
        "hydra.sweep.subdir=x",
        "hydra.job.env_set.PYTHONPATH=/tmp",
        "hydra.callbacks.x.y=1",
        "hydra/job_logging=default",
        "hydra/launcher=../stranger",
        "hydra.launcher._target_=os.system",
        "hydra.launcher.setup=[reboot]",
        "hydra.launcher.address=strangers.example:6379",
        "hydra.launcher.additional_parameters={wrap: reboot}",
        "hydra.sweeper.params={packages: stranger}",
        "hydra.sweeper.params.packages='[stranger]'",
        "hydra.sweeper.params.experiment=../stranger",
        "+hydra.sweeper.params.+packages='[stranger]'",
        "callbacks.checkpoint.filename=../../made",
        "callbacks.checkpoint.filename=best,'../../made'",
        "callbacks.checkpoint.filename='{epoch:/>9}'",
        "+callbacks.checkpoint={filename:../../made}",
        "+trainer.default_root_dir=/tmp",
        "logger.tensorboard.name=~/made",
        "+logger.mlflow.tracking_uri=http://127.0.0.1:9",
        "data.cache_dir=/tmp",
        "hydra.sweeper.params.data.cache_dir=/tmp",
        "data.source=files,'kaggle'",
    ],
)
def test_untrusted_sweep_directory_is_refused(
    line: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    for task, hydra in (([line], []), ([], [line])):
        folder = save(tmp_path, task, hydra)
        with pytest.raises(ConfigError) as error:
            sweep_resumption(["-m", f"resume={folder}"], CONF)
        assert line.strip("'") in str(error.value) or "cannot be used" in str(error.value)
    record_property("attacks refused", 1)


@pytest.mark.parametrize("name", ["0", "search.db", "figures", "0/metrics.csv"])
def test_sweep_with_links_out_of_it_is_refused(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    folder = save(tmp_path / "sweep", ["seed=0,1"], [])
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(tmp_path)
    with pytest.raises(ConfigError, match=r"leads? out|link out"):
        sweep_resumption(["-m", f"resume={folder}"], CONF)
    record_property("attacks refused", 1)


def test_cache_dir_can_be_given_again(tmp_path: Path) -> None:
    folder = save(tmp_path, ["data.cache_dir=/scratch", "seed=0,1"], [])
    arguments = sweep_resumption(["-m", f"resume={folder}", "data.cache_dir=/scratch"], CONF)
    assert arguments is not None
    assert arguments[1:3] == ["seed=0,1", "data.cache_dir=/scratch"]


@pytest.mark.parametrize(
    "text",
    ["", "hydra: 3", "hydra: {overrides: {task: [1], hydra: []}}", "!!python/object/apply:os.getcwd []", "[" * 9000],
)
def test_damaged_sweep_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "multirun.yaml").write_text(text)
    with pytest.raises(ConfigError, match="cannot be used"):
        sweep_resumption(["-m", f"resume={tmp_path}"], CONF)


def test_trusted_packages_can_be_given_again(tmp_path: Path) -> None:
    folder = save(tmp_path, ["packages=[mine]", "seed=0,1"], [])
    arguments = sweep_resumption(["-m", f"resume={folder}", "packages=[mine]"], CONF)
    assert arguments is not None
    assert arguments[1:3] == ["seed=0,1", "packages=[mine]"]


def test_status_of_a_job_is_read_from_its_directory(tmp_path: Path) -> None:
    job = tmp_path / "3"
    assert job_status(job, ["seed=1"]) == "new"
    (job / ".hydra").mkdir(parents=True)
    (job / ".hydra/config.yaml").touch()
    assert job_status(job, ["seed=1"]) == "new"
    (job / ".hydra/overrides.yaml").write_text("[seed=1, threads=2, model=mlp]")
    assert job_status(job, ["model=mlp", "seed=1"]) == "begun"
    assert job_status(job, ["seed=1", "threads=2", "model=mlp", "hydra.launcher.n_jobs=3"]) == "begun"
    (job / "error.txt").write_text("ValueError: no")
    assert job_status(job, ["seed=1", "model=mlp"]) == "begun"
    (job / "error.txt").write_text("Diverged: the loss is nan")
    assert job_status(job, ["seed=1", "model=mlp"]) == "ended"
    (job / "error.txt").unlink()
    (job / "DONE").touch()
    assert job_status(job, ["seed=1", "model=mlp"]) == "ended"
    for other in (["seed=2", "model=mlp"], ["seed=1"], ["seed=1", "model=mlp", "threads=1"]):
        with pytest.raises(ConfigError, match=f"{job} is the directory of another job"):
            job_status(job, other)


def test_settings_that_may_change_do_not_make_another_job(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    recorded = "[seed=1, data.cache_dir=/old, logger.wandb.project=old, +logger.mlflow.run_id=old, 'packages=[old]']"
    (tmp_path / ".hydra/overrides.yaml").write_text(recorded)
    for given in ([], ["data.cache_dir=/new"], ["logger.wandb.project=new", "packages=[new]"]):
        assert job_status(tmp_path, ["seed=1", *given]) == "begun"
    with pytest.raises(ConfigError, match="directory of another job"):
        job_status(tmp_path, ["seed=1", "logger=wandb"])


def test_added_logger_setting_can_be_given_again(tmp_path: Path) -> None:
    folder = save(tmp_path, ["+logger.mlflow.tracking_uri=http://old", "seed=0,1"], [])
    anew = "+logger.mlflow.tracking_uri=http://new"
    arguments = sweep_resumption(["-m", f"resume={folder}", anew], CONF)
    assert arguments is not None
    assert arguments[1:3] == ["seed=0,1", anew]


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the inode and modification time (ns) of each file."""
    found = {path: path.stat() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {str(path.relative_to(folder)): (state.st_ino, state.st_mtime_ns) for path, state in found.items()}


@pytest.mark.slow
def test_sweep_resumes_and_leaves_finished_jobs_untouched(data_root: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    monitors = "monitor=val/loss,val/nothing,train/loss"
    old, new = (f"data.cache_dir={tmp_path / name}" for name in ("old", "new"))
    options = cheapest(data_root, "trainer.max_epochs=1", monitors, old, f"hydra.sweep.dir={sweep}")
    several = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    ended = command("-m", *options, *several, cwd=tmp_path)
    assert ended.returncode == 1
    # TensorBoard's file names contain the process id.
    writers = [next((sweep / str(job)).rglob("events*")).name.split(".")[-2] for job in (0, 2)]
    assert len(set(writers)) == 2
    assert "Traceback" not in ended.stderr

    # As if killed before the last job was done. Finished jobs must not be written to.
    (sweep / "2/DONE").unlink()
    before, again = files(sweep / "0"), files(sweep / "2/.hydra")
    del again["started.json"]  # each start adds an entry
    resumed = command("-m", f"resume={sweep}", "hydra.launcher.n_jobs=3", new, cwd=tmp_path)
    assert resumed.returncode == 1
    assert "1 of 3 jobs have ended already" in resumed.stdout
    assert files(sweep / "0") == before
    assert (sweep / "2/DONE").exists()
    assert again.items() <= files(sweep / "2/.hydra").items()
    assert f"cache_dir: {tmp_path / 'new'}\n" in (sweep / "2/.hydra/resume-1/config.yaml").read_text()
    assert "job 1 failed: " in resumed.stderr
    assert sorted(path.parent.name for path in sweep.glob("*/.hydra")) == ["0", "1", "2"]


def _sweep(arguments: list[str], cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, REPOSITORY / "train.py", "-m", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_for(line: str, sweep: subprocess.Popen[str], times: int = 1) -> None:
    assert sweep.stdout is not None
    for text in sweep.stdout:
        times -= line in text
        if not times:
            return
    pytest.fail(f"it ended without saying {line!r}")


def _results(sweep: Path, jobs: int) -> list[Any]:
    found = [json.loads((sweep / str(job) / "metrics.json").read_text()) for job in range(jobs)]
    return [{name: metrics[name] for name in ("best", "test", "epochs", "steps")} for metrics in found]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "joblib"])
def test_killed_sweep_ends_as_an_uninterrupted_one(launcher: str, data_root: Path, tmp_path: Path) -> None:
    # Enough epochs that no machine ends the sweep before the last kill.
    options = cheapest(data_root, "trainer.max_epochs=100", "model.dropout=0.2", "seed=0,1,2")
    concurrency = 2 if launcher == "joblib" else 1
    options += ["callbacks.early_stopping=null", f"hydra/launcher={launcher}", f"hydra.launcher.n_jobs={concurrency}"]
    whole = command("-m", *options, f"hydra.sweep.dir={tmp_path / 'whole'}", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    killed, moments = tmp_path / "killed", random.Random(0)
    arguments = [*options, f"hydra.sweep.dir={killed}"]
    for _ in range(3):
        sweep = _sweep(arguments, tmp_path)
        arguments = [f"resume={killed}"]
        _wait_for("reading the data", sweep)
        time.sleep(moments.uniform(0, 1.5))
        sweep.kill()
        sweep.communicate()
    ended = command("-m", f"resume={killed}", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert _results(killed, 3) == _results(tmp_path / "whole", 3)
    assert sorted(path.parent.name for path in killed.glob("*/.hydra")) == ["0", "1", "2"]


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_sweep_saves_its_jobs_and_says_how_to_resume(
    sent: signal.Signals, code: int, data_root: Path, tmp_path: Path
) -> None:
    options = cheapest(data_root, "trainer.max_epochs=1000", "callbacks.early_stopping=null", "seed=0,1,2")
    several = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    sweep = _sweep([*options, *several], tmp_path)
    _wait_for("epoch 2/", sweep, times=2)
    sweep.send_signal(sent)
    output, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == code, output
    (folder,) = (tmp_path / "logs/sweeps").iterdir()
    told = next(line for line in output.splitlines() if "-m resume=" in line)
    assert shlex.split(told)[-1] == f"resume={folder.relative_to(tmp_path)}"
    for job in ("0", "1"):
        assert (folder / job / "checkpoints/last.ckpt").exists()
        assert not (folder / job / "error.txt").exists()
    assert not (folder / "2").exists()


@pytest.mark.slow
def test_basic_launcher_of_hydra_runs_but_cannot_resume(data_root: Path, tmp_path: Path) -> None:
    options = cheapest(data_root, "trainer.max_epochs=1", "seed=0,1", "hydra/launcher=basic")
    ended = command("-m", *options, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    (sweep,) = (tmp_path / "logs/sweeps").iterdir()
    refused = command("-m", f"resume={sweep}", cwd=tmp_path)
    assert refused.returncode == 2
    assert "hydra/launcher=basic cannot resume" in refused.stderr
