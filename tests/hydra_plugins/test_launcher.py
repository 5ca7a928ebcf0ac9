"""The process launcher: how jobs are started, monitored and stopped, with a task that trains nothing."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from tests.fake_sweep import begun
from tests.harness import CONF, EXPERIMENTS, REPOSITORY

from hydra_plugins.triptych import _job
from hydra_plugins.triptych.launcher import ProcessLauncher
from triptych.errors import UserError
from triptych.job import write_error
from triptych.results.directory import LOCK, try_lock
from triptych.results.sweep import SweepSummary
from triptych.resume import Resumption
from triptych.sweeps import JOBS


def end(directory: Path, best: float) -> None:
    """Write the files of a successful run."""
    metrics = {"monitor": "val/loss", "best": {"val/loss": best}}
    (directory / "metrics.json").write_text(json.dumps(metrics))
    (directory / "DONE").touch()


def task(config: DictConfig) -> None:
    """A job that ends in the way its seed selects."""
    directory = Path(HydraConfig.get().runtime.output_dir)
    facts = [os.getpid(), config.threads, os.environ.get("CUDA_VISIBLE_DEVICES"), sys.stdout.isatty(), time.time()]
    (directory / "facts.json").write_text(json.dumps([*facts, sys.argv[1:]]))
    if config.seed in (1, 5):
        write_error(directory, UserError("a mistake"))
        if config.seed == 5:
            end(directory, 5)
    elif config.seed == 6:
        (directory / "error.txt").write_text("Diverged: the loss is NaN\n")
    elif config.seed == 2:
        os._exit(7)
    elif config.seed == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    elif config.seed == 4:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            (directory / "saved").touch()
            raise
    else:
        end(directory, float(config.seed))


def two() -> int:
    return 2


Make = Callable[..., ProcessLauncher]


@pytest.fixture
def launcher(tmp_path: Path) -> Make:
    """A function that makes a launcher for the sweep in tmp_path; its processes are forked, which is fast."""
    Plugins.instance()  # Hydra's first plugin lookup re-executes their modules and would undo patches

    def make(n_jobs: int = 1, *overrides: str, more: Path | None = None) -> ProcessLauncher:
        GlobalHydra.instance().clear()
        path = create_config_search_path(str(CONF))
        if more is not None:
            path.prepend("command-line", f"file://{more}", SearchPathQuery(provider="schema"))
        loader = ConfigLoaderImpl(path)
        given = [f"experiment={EXPERIMENTS[0]}", f"hydra.sweep.dir={tmp_path}", "hydra.mode=MULTIRUN", *overrides]
        config = loader.load_configuration("config", given, RunMode.MULTIRUN)
        made = ProcessLauncher(n_jobs)
        made.setup(hydra_context=HydraContext(loader, Callbacks()), task_function=task, config=config)
        made.processes = multiprocessing.get_context("fork")
        return made

    return make


def jobs(*seeds: int) -> list[list[str]]:
    return [[f"experiment={EXPERIMENTS[0]}", f"seed={seed}"] for seed in seeds]


def facts(folder: Path, number: int) -> list[object]:
    return json.loads((folder / str(number) / "facts.json").read_text())


def exit_code(sweep: Path) -> int:
    """End the sweep with its report; returns the exit code."""
    try:
        SweepSummary().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}}))
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_each_job_has_its_own_process_and_returns_its_best_value(launcher: Make, tmp_path: Path) -> None:
    results = launcher().launch(jobs(10, 11), initial_job_idx=5)
    assert [result.return_value for result in results] == [10, 11]
    assert len({os.getpid(), *(facts(tmp_path, number)[0] for number in (5, 6))}) == 3
    assert exit_code(tmp_path) == 0


def test_a_failing_job_stops_no_other_and_records_its_error(
    launcher: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    results = launcher(2).launch(jobs(1, 2, 3, 12), 0)
    assert [result.return_value for result in results] == [None, None, None, 12]
    first_lines = [(tmp_path / str(number) / "error.txt").read_text().splitlines()[0] for number in range(3)]
    assert first_lines[0] == "a mistake"
    assert "exit code 7" in first_lines[1]
    assert "SIGKILL (out of memory?)" in first_lines[2]
    assert "job 2 failed: its process was killed" in capfd.readouterr().err


def test_a_job_that_cannot_be_composed_fails_alone(launcher: Make, tmp_path: Path) -> None:
    first = [*jobs(10)[0], "no.such.key=1"]
    assert [result.return_value for result in launcher().launch([first, *jobs(11)], 0)] == [None, 11]
    assert "no.such.key" in (tmp_path / "0" / "error.txt").read_text()
    assert not (tmp_path / "0" / ".hydra").exists()
    assert exit_code(tmp_path) == 1
    assert "no.such.key" in (tmp_path / "report.md").read_text()


def test_a_job_without_a_directory_is_named_and_the_exit_code_is_1(
    launcher: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "1").touch()
    results = launcher().launch(jobs(10, 11, 12), 0)
    assert [result.return_value for result in results] == [10, None, 12]
    assert "job 1 failed: " in capfd.readouterr().err
    assert exit_code(tmp_path) == 1
    told = capfd.readouterr()
    assert "2 runs: 2 done" in told.out
    (line,) = told.err.splitlines()
    assert line.startswith("job 1 failed")
    assert f"File exists: '{tmp_path / '1'}'" in line


def test_a_job_refused_by_a_finished_run_is_named_and_the_exit_code_is_1(
    launcher: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    launcher().launch(jobs(10, 5), 0)
    assert exit_code(tmp_path) == 1
    assert "job 1 failed, which the report cannot tell: a mistake" in capfd.readouterr().err


def test_concurrent_jobs_share_cores_and_gpus(launcher: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hydra_plugins.triptych.launcher._cores", lambda: 8)
    monkeypatch.setattr("hydra_plugins.triptych.launcher.count_gpus", two)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    launcher(3).launch([*jobs(10, 11), [*jobs(12)[0], "threads=5"]], 0)
    assert [facts(tmp_path, number)[1:4] for number in range(3)] == [
        [2, "4", False],
        [2, "7", False],
        [5, "4", False],
    ]
    overrides = (tmp_path / "0/.hydra/overrides.yaml").read_text()
    assert "threads=2" in overrides
    assert len(launcher(-1).slots()) == 2
    assert launcher(-1, "trainer=cpu").slots() == [None] * 8


def test_the_share_of_cores_depends_on_the_whole_sweep(
    launcher: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hydra_plugins.triptych.launcher._cores", lambda: 8)
    make = partial(launcher, -1, "trainer=cpu")
    make().launch(jobs(10, 2), 0)
    assert [facts(tmp_path, number)[1] for number in range(2)] == [4, 4]
    (tmp_path / "1/.hydra/overrides.yaml").write_text("")  # as if it had never started
    make().launch(jobs(10, 11), 0)
    assert facts(tmp_path, 1)[1] == 4
    make().launch(jobs(10, 11, 12), 0)  # only one job left, but of a sweep of three
    assert facts(tmp_path, 2)[1] == 2


def test_all_batches_of_a_sweep_use_the_same_number_of_threads(
    launcher: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hydra_plugins.triptych.launcher._cores", lambda: 8)
    swept, searched = launcher(6, "trainer=cpu"), launcher(4, "trainer=cpu", "hydra/sweeper=search")
    swept.launch(jobs(10, 11), 0)
    swept.launch(jobs(12), 2)
    searched.launch(jobs(13), 3)
    searched.launch(jobs(14, 15), 4)
    assert [facts(tmp_path, number)[1] for number in range(6)] == [4, 4, 4, 2, 2, 2]


def test_the_number_of_planned_jobs_is_recorded(launcher: Make, tmp_path: Path) -> None:
    launcher().launch(jobs(10, 11), 0)
    assert json.loads((tmp_path / JOBS).read_text()) == {"jobs": 2}
    launcher(1, "hydra/sweeper=search", "hydra.sweeper.trials=7").launch(jobs(12), 2)
    assert json.loads((tmp_path / JOBS).read_text()) == {"jobs": 7}


def test_a_job_keeps_the_location_of_its_config(
    launcher: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    line = f"hydra.searchpath=['file://{mine}']"
    launcher(1, line, more=mine).launch([[*jobs(10)[0], "+study.arm=a"]], 0)
    # Lightning starts the other processes of a distributed run with these arguments.
    assert facts(tmp_path, 0)[-1] == [f"--config-dir={mine}", line, *jobs(10)[0]]

    def interrupt() -> None:
        while not (tmp_path / "1/facts.json").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(SystemExit, match="130"):
        launcher(more=mine).launch(jobs(4), 1)
    told = next(text for text in capfd.readouterr().out.splitlines() if text.startswith("Interrupted"))
    assert told.endswith(f"python train.py -m --config-dir={mine} resume={tmp_path}")


def test_sequential_jobs_keep_the_thread_setting(launcher: Make, tmp_path: Path) -> None:
    launcher().launch(jobs(10), 0)
    assert facts(tmp_path, 0)[1] is None
    assert "threads" not in (tmp_path / "0/.hydra/overrides.yaml").read_text()


def test_finished_jobs_are_skipped_and_the_rest_is_run(launcher: Make, tmp_path: Path) -> None:
    launcher().launch(jobs(10, 2), 0)
    before = facts(tmp_path, 0)
    # The second job never trained: without Hydra's files it is started afresh.
    (tmp_path / "1/.hydra/overrides.yaml").write_text("")
    results = launcher(2).launch([jobs(10)[0], jobs(14)[0], jobs(12)[0]], 0)
    assert [result.return_value for result in results] == [10, 14, 12]
    assert facts(tmp_path, 0) == before


def test_a_job_trained_by_another_process_is_skipped(
    launcher: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    parts = {name: {"_target_": f"some.{name}"} for name in ("data", "model")}
    directory = begun(tmp_path, "0", "seed=10", config=parts)
    (directory / ".hydra/overrides.yaml").write_text(yaml.safe_dump(jobs(10)[0]))
    with try_lock(directory / LOCK):
        results = launcher().launch(jobs(10, 11), 0)
    assert [result.return_value for result in results] == [None, 11]
    assert "job 0 is left alone: another process is training" in capfd.readouterr().err
    assert not (directory / "error.txt").exists()
    assert exit_code(tmp_path) == 1  # job 0 has not ended


def test_a_begun_job_resumes_with_the_newly_given_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = "+logger.whole={name: kept}"
    loggers = {"own": {"save_dir": "/old", "name": "old"}, "whole": {"name": "kept"}}
    parts = {name: {"_target_": f"some.{name}"} for name in ("data", "model")}
    parts["data"]["cache_dir"] = "/old"
    directory = begun(tmp_path, "0", whole, "seed=3", config={**parts, "logger": loggers, "seed": 3})
    resumed: list[Resumption] = []
    monkeypatch.setattr("triptych.job.resume_training", resumed.append)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    anew = ("data.cache_dir=/new", "+logger.own.save_dir=/new", "packages=[mine]")
    _job._resume(_job.Job(0, ("seed=3", whole, *anew), directory, "begun"))
    (config,) = (one.config for one in resumed)
    assert (config.data.cache_dir, config.packages, config.seed) == ("/new", ["mine"], 3)
    assert config.logger == {"own": {"save_dir": "/new", "name": "old"}, "whole": {"name": "kept"}}


def test_fail_fast_ends_the_sweep_at_the_first_failure(
    launcher: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        launcher(2, "sweep.fail_fast=true").launch(jobs(4, 2, 10, 11), 0)
    assert "job 1 failed, and ends the sweep; not run: 2, 3" in capfd.readouterr().err
    assert not (tmp_path / "0/error.txt").exists()  # stopped (else this test would not end) rather than failed
    assert not (tmp_path / "2").exists()


def test_divergence_in_a_study_is_not_a_failure(launcher: Make, tmp_path: Path) -> None:
    given = ("sweep.fail_fast=true", "+study.claim=Large steps diverge.")
    results = launcher(1, *given).launch(jobs(6, 10), 0)
    assert [result.return_value for result in results] == [None, 10]
    with pytest.raises(SystemExit, match="1"):
        launcher(1, *given).launch([*jobs(6, 10), *jobs(1, 11)], 0)
    assert not (tmp_path / "3").exists()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_jobs_and_the_sweep(
    sent: signal.Signals, code: int, launcher: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        while not (tmp_path / "0/facts.json").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), sent)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(SystemExit, match=str(code)):
        launcher().launch(jobs(4, 10), 0)
    assert f"python train.py -m resume={tmp_path}" in capfd.readouterr().out
    assert (tmp_path / "0/saved").exists() == (sent == signal.SIGINT)
    assert not (tmp_path / "0/error.txt").exists()
    assert not (tmp_path / "1").exists()


@pytest.mark.parametrize(
    ("n_jobs", "override", "message"),
    [(0, "seed=0", "n_jobs=0"), (1, "hydra.sweep.subdir=here", "named by their numbers")],
)
def test_unsupported_settings_are_refused(
    n_jobs: int, override: str, message: str, launcher: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        launcher(n_jobs, override).launch(jobs(10), 0)
    assert message in capfd.readouterr().err


def test_a_directory_of_another_job_is_not_resumed(
    launcher: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    launcher().launch(jobs(10), 0)
    with pytest.raises(SystemExit, match="2"):
        launcher().launch(jobs(11, 12), 0)
    message = capfd.readouterr().err
    assert str(tmp_path / "0") in message
    assert "files of the sweep have changed" in message
    assert not (tmp_path / "1").exists()


def test_only_one_process_at_a_time_drives_a_sweep(
    launcher: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = launcher()
    first.launch(jobs(10), 0)
    with pytest.raises(SystemExit, match="2"):
        launcher().launch(jobs(10, 11), 0)
    assert "another process is running the sweep" in capfd.readouterr().err
    # Several processes share a search.
    launcher(1, "hydra/sweeper=search").launch(jobs(10, 11), 0)
    assert (tmp_path / "1/DONE").exists()
    first.lock.release()
    launcher().launch(jobs(10, 11, 12), 0)
    assert (tmp_path / "2/DONE").exists()


def test_a_job_dies_with_its_sweep(tmp_path: Path) -> None:
    script = tmp_path / "sweep.py"
    script.write_text(
        "import multiprocessing, os, sys, time\n"
        "from hydra_plugins.triptych._job import _exit_with_parent\n"
        "def job():\n"
        "    _exit_with_parent()\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(100)\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.get_context('fork').Process(target=job).start()\n"
        "    time.sleep(100)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    with subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True) as sweep:
        assert sweep.stdout is not None
        int(sweep.stdout.readline())
        sweep.kill()
        # The job holds the other end of this pipe: it ends when the job does, and not after 100 seconds.
        started = time.monotonic()
        assert sweep.stdout.read() == ""
        assert time.monotonic() - started < 50
