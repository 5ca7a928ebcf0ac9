"""Hyperparameter searches, with a launcher that trains nothing and with train.py."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml
from filelock import FileLock
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from tests.harness import EXPERIMENTS, REPOSITORY, command

from hydra_plugins.triptych import search
from hydra_plugins.triptych.search import SearchSweeper
from hydra_plugins.triptych.space import parameter
from triptych.results.directory import DONE, ERROR, METRICS, write_json
from triptych.results.trials import open_study

PARSER = OverridesParser.create()
SPACE = {"lr": "tag(log, interval(1e-4, 1.0))", "depth": "range(1, 6)", "fixed": 7}
FILES = {
    "config.yaml": """
        defaults: [_self_, model: small, debug: null]
        monitor: val/rmse
        mode: min
        lr: 0.1
        depth: 3
        fixed: 1
        """,
    "model/small.yaml": "size: 1\n",
    "model/large.yaml": "size: 9\n",
    "debug/smoke.yaml": "# @package _global_\nfixed: 0\n",
}


def setting(overrides: Sequence[str], key: str) -> Any:
    (found,) = (line.partition("=")[2] for line in overrides if line.partition("=")[0] == key)
    return yaml.safe_load(found)


def error(overrides: Sequence[str]) -> float:
    """The validation error of a job, minimal at a learning rate of 0.01 and a depth of 4."""
    return 1 + (math.log10(float(setting(overrides, "lr"))) + 2) ** 2 + abs(setting(overrides, "depth") - 4)


class Runs:
    """A launcher that only writes the files that runs would leave.

    Args:
        folder: of the sweep.
        outcome: what ``metrics.json`` holds for the overrides; an exception ends the run, or the launcher.
    """

    def __init__(self, folder: Path, outcome: Callable[[Sequence[str]], dict[str, Any]] | None = None) -> None:
        self.folder = folder
        self.outcome = outcome or (lambda job: {"best": {"val/rmse": error(job)}})
        self.batches: list[list[int]] = []
        self.jobs: dict[int, list[str]] = {}

    def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> None:
        self.batches.append(list(range(initial_job_idx, initial_job_idx + len(jobs))))
        for number, job in enumerate(jobs, initial_job_idx):
            self.jobs[number] = list(job)
            directory = self.folder / str(number)
            (directory / ".hydra").mkdir(parents=True, exist_ok=True)
            (directory / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(job)))
            try:
                metrics = self.outcome(job)
            except Exception as problem:
                (directory / ERROR).write_text(str(problem))
            else:
                write_json(directory / METRICS, metrics)
                (directory / DONE).touch()


class Searches:
    """Creates sweepers on one directory, as separate processes would."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "sweep"
        for name, text in FILES.items():
            path = root / "conf" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [line.removeprefix(" " * 8) for line in text.splitlines()]
            path.write_text("\n".join(lines).strip() + "\n")
        self.loader = ConfigLoaderImpl(create_config_search_path(str(root / "conf")))

    def __call__(self, *arguments: str, concurrency: int = 1, **options: Any) -> "SearchSweeper":
        sweeper = SearchSweeper(**{"trials": 6, "params": SPACE, "startup_trials": 3} | options)
        given = [f"hydra.sweep.dir={self.folder}", f"+hydra.launcher.n_jobs={concurrency}"]
        fixed = [line for line in arguments if not PARSER.parse_overrides([line])[0].is_sweep_override()]
        config = self.loader.load_configuration("config", [*given, *fixed], RunMode.MULTIRUN)
        sweeper.config, sweeper.folder = config, self.folder
        sweeper.hydra_context = SimpleNamespace(config_loader=self.loader)  # type: ignore[assignment]
        sweeper.arguments = list(arguments)  # type: ignore[attr-defined]
        return sweeper

    def run(self, sweeper: SearchSweeper, runs: Runs | None = None) -> Runs:
        sweeper.launcher = runs = runs or Runs(self.folder)  # type: ignore[assignment]
        sweeper.sweep(sweeper.arguments)  # type: ignore[attr-defined]
        return runs

    def states(self) -> list[str]:
        return [trial.state.name for trial in open_study(self.folder).get_trials()]


@pytest.fixture
def searches(tmp_path: Path) -> Searches:
    return Searches(tmp_path)


def drawn(line: str, usual: object = None, count: int = 60) -> list[Any]:
    """The values, parsed by Hydra, that ``count`` jobs get when ``line`` is searched."""
    (override,) = PARSER.parse_overrides([line])
    part = parameter(override, usual, PARSER)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    lines = [part.draw(study.ask()) for _ in range(count)]
    assert all(text.startswith(line.partition("=")[0] + "=") for text in lines)
    return [override.value() for override in PARSER.parse_overrides(lines)]


def test_an_interval_gives_floats_with_few_digits():
    values = drawn("lr=interval(0.5, 2)")
    assert all(isinstance(value, float) and 0.5 <= value <= 2 for value in values)
    assert len(set(values)) > 50
    assert all(len(repr(value)) <= 7 for value in values)


def test_a_log_interval_is_sampled_uniformly_in_the_logarithm():
    values = drawn("+lr=tag(log, interval(1e-4, 1))", count=200)
    assert 80 <= sum(value < 0.01 for value in values) <= 120


@pytest.mark.parametrize(
    ("line", "usual", "whole"),
    [
        ("depth=interval(2, 5)", 3, {2, 3, 4, 5}),
        ("depth=int(interval(2, 5))", None, {2, 3, 4, 5}),
        ("depth=range(2, 5)", 3, {2, 3, 4}),
        ("depth=range(8, 2, -2)", 3, {8, 6, 4}),
        ("depth=tag(log, range(1, 4))", 3, {1, 2, 3}),
        ("depth=choice(64, 128)", 3, {64, 128}),
    ],
)
def test_integers_stay_integers(line: str, usual: object, whole: set[int]):
    values = drawn(line, usual)
    assert set(values) == whole
    assert all(type(value) is int for value in values)


def test_integer_bounds_give_floats_if_the_setting_is_a_float():
    assert all(isinstance(value, float) for value in drawn("lr=interval(1, 3)", usual=0.1))
    assert all(isinstance(value, float) for value in drawn("lr=interval(1, 3)", usual=True))


def test_a_range_with_a_fractional_step_is_discrete():
    assert set(drawn("lr=range(0, 1, 0.25)")) == {0.0, 0.25, 0.5, 0.75}


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("flag=choice(true, false)", [True, False]),
        ("flag=true,null", [True, None]),
        ("name=choice('128', 128)", ["128", 128]),
        ("name=choice('a b', 'c,d', 'true', \"it's\", 'x=[y]')", ["a b", "c,d", "true", "it's", "x=[y]"]),
        ("size=choice(1, 2.5, full)", [1, 2.5, "full"]),
        ("list=choice([1,2],[3])", [[1, 2], [3]]),
    ],
)
def test_a_choice_keeps_the_type_of_each(line: str, values: list[Any]):
    found = drawn(line)
    assert {(type(value), str(value)) for value in found} == {(type(value), str(value)) for value in values}


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (["lr=tag(lgo, interval(0, 1))"], {}, "lgo"),
        (["lr=tag(log, interval(0, 1))"], {}, "lr=tag"),
        (["depth=tag(log, range(1, 9, 2))"], {}, "steps of 1"),
        (["lr=tag(log, choice(1, 2))"], {}, "cannot be drawn on a log scale"),
        ([], {"trials": 0}, "hydra.sweeper.trials=0"),
        ([], {"startup_trials": -1}, "hydra.sweeper.startup_trials=-1"),
        ([], {"pruning": {"startup": 3}}, "hydra.sweeper.pruning"),
        ([], {"objectives": {"val/rmse": "min"}}, "choose one of minimize, maximize"),
        ([], {"objectives": {"test/rmse": "minimize"}}, "never on test"),
        ([], {"params": {"fixed": 3}}, "nothing to search"),
    ],
)
def test_a_user_error_gives_one_message_and_leaves_nothing(
    arguments: list[str],
    options: dict[str, Any],
    message: str,
    searches: Searches,
    capsys: pytest.CaptureFixture[str],
):
    with pytest.raises(SystemExit) as ended:
        searches.run(searches(*arguments, **options))
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert not searches.folder.exists()


def test_trials_are_numbered_runs_and_the_search_improves(searches: Searches, capsys: pytest.CaptureFixture[str]):
    runs = searches.run(searches(trials=20, startup_trials=8))
    assert runs.batches == [[number] for number in range(20)]
    study = open_study(searches.folder)
    assert [trial.value for trial in study.trials] == [pytest.approx(error(runs.jobs[n])) for n in range(20)]
    assert len({setting(job, "depth") for job in runs.jobs.values()}) >= 4
    assert study.best_value < 1.2
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trial ")]
    assert len(lines) == 20
    assert f"best: trial {study.best_trial.number}" in lines[-1]


def test_batches_are_as_large_as_the_launcher_runs_at_once(searches: Searches):
    assert searches.run(searches(concurrency=4)).batches == [[0, 1, 2, 3], [4, 5]]


def test_the_total_of_trials_is_reached_and_never_exceeded(searches: Searches):
    searches.run(searches(trials=3))
    assert searches.run(searches(trials=3)).batches == []
    assert searches.run(searches(trials=5)).batches == [[3], [4]]
    assert searches.states() == ["COMPLETE"] * 5


def test_the_command_line_overrides_the_search(searches: Searches):
    runs = searches.run(searches("depth=4", "fixed=choice(8, 9)", "+extra=x", trials=8))
    for job in runs.jobs.values():
        assert setting(job, "depth") == 4
        assert setting(job, "fixed") in (8, 9)
        assert "+extra=x" in job
    assert {setting(job, "fixed") for job in runs.jobs.values()} == {8, 9}


def test_debug_settings_override_the_search(searches: Searches):
    runs = searches.run(searches("debug=smoke", trials=1))
    assert not any(line.startswith("fixed=") for line in runs.jobs[0])


def test_a_config_group_can_be_searched(searches: Searches):
    runs = searches.run(searches("model=choice(small, large)", trials=8))
    assert {setting(job, "model") for job in runs.jobs.values()} == {"small", "large"}


def test_logger_settings_may_change_between_calls(searches: Searches):
    searches.run(searches("+logger.place=here", trials=1))
    runs = searches.run(searches("+logger.place=there", trials=2))
    assert [setting(job, "+logger.place") for job in runs.jobs.values()] == ["there"]
    assert searches.states() == ["COMPLETE", "COMPLETE"]


def test_changed_settings_of_a_search_are_refused(searches: Searches, capsys: pytest.CaptureFixture[str]):
    searches.run(searches(trials=1))
    for arguments, options in ((["fixed=8"], {}), ([], {"objectives": {"val/rmse": "maximize"}})):
        with pytest.raises(SystemExit) as ended:
            searches.run(searches(*arguments, **options))
        assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "fixed=7 then, fixed=8 now" in told
    assert "val/rmse=minimize then, val/rmse=maximize now" in told


def test_failed_pruned_and_unmeasured_trials_count(searches: Searches):
    outcomes = iter(
        [
            {"best": {"val/rmse": 1.0}},
            ValueError("no such column"),
            {"best": {"val/rmse": 9.0}, "pruned": True},
            {"best": {}},
            ValueError("Diverged: the loss is nan"),
        ]
    )

    def outcome(job: Sequence[str]) -> dict[str, Any]:
        found = next(outcomes)
        if isinstance(found, Exception):
            raise found
        return found

    searches.run(searches(trials=5), Runs(searches.folder, outcome))
    assert searches.states() == ["COMPLETE", "FAIL", "PRUNED", "FAIL", "FAIL"]


class Killed(BaseException):
    """Stands for the death of the process."""


def test_a_resumed_search_equals_an_uninterrupted_one(searches: Searches, tmp_path: Path):
    other = Searches(tmp_path / "other")
    whole = other.run(other(trials=9))

    def outcome(job: Sequence[str], runs: Runs) -> dict[str, Any]:
        if len(runs.jobs) in (2, 5, 6) and len(runs.jobs) not in stopped:
            stopped.add(len(runs.jobs))
            raise Killed
        return {"best": {"val/rmse": error(job)}}

    stopped: set[int] = set()
    runs = Runs(searches.folder)
    runs.outcome = lambda job: outcome(job, runs)
    for _ in range(3):
        with pytest.raises(Killed):
            searches.run(searches(trials=9), runs)
    searches.run(searches(trials=9), runs)
    assert runs.jobs == whole.jobs
    assert searches.states() == ["COMPLETE"] * 9
    # Running trials were launched again under the same number.
    assert [batch[0] for batch in runs.batches] == [0, 1, 1, 2, 3, 4, 4, 5, 5, 6, 7, 8]


def test_a_finished_but_unreported_run_is_reported_not_relaunched(searches: Searches, monkeypatch: pytest.MonkeyPatch):
    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(SearchSweeper, "_tell", killed)
        with pytest.raises(Killed):
            searches.run(searches(trials=3))
    assert searches.states() == ["RUNNING"]
    assert searches.run(searches(trials=3)).batches == [[1], [2]]
    assert searches.states() == ["COMPLETE"] * 3


def test_a_process_killed_while_sampling_leaves_no_gap(searches: Searches):
    searches.run(searches(trials=1))
    open_study(searches.folder).ask()  # without settings or controller
    runs = searches.run(searches(trials=3))
    assert runs.batches == [[1], [2]]
    assert set(open_study(searches.folder).trials[1].params) == {"lr", "depth"}


def test_trials_of_another_process_are_taken_over_when_it_dies(searches: Searches, monkeypatch: pytest.MonkeyPatch):
    searches.run(searches(trials=2))
    study = open_study(searches.folder)
    abandoned = study.ask()
    abandoned.suggest_float("lr", 1e-4, 1.0, log=True)
    abandoned.set_user_attr(search.CONTROLLER, "other")
    lock = FileLock(searches.folder / "controllers" / "other.lock")
    lock.acquire()
    runs, waits = Runs(searches.folder), []

    def wait(seconds: float) -> None:
        waits.append(list(runs.batches))
        if len(waits) == 3:
            lock.release()

    monkeypatch.setattr(search.time, "sleep", wait)
    searches.run(searches(trials=4), runs)
    assert waits == [[[3]]] * 3
    assert runs.batches == [[3], [2]]
    assert float(setting(runs.jobs[2], "lr")) == pytest.approx(abandoned.params["lr"], rel=1e-4)
    assert searches.states() == ["COMPLETE"] * 4


def test_two_concurrent_searches_share_the_total(searches: Searches, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(SearchSweeper, "poll", 0.01)
    runs = [Runs(searches.folder), Runs(searches.folder)]
    met = threading.Barrier(2, timeout=30)
    for each in runs:
        # The first trial of each process ends only once both have one.
        each.outcome = lambda job, each=each: (
            len(each.jobs) == 1 and met.wait(),
            {"best": {"val/rmse": error(job)}},
        )[1]
    threads = [
        threading.Thread(target=searches.run, args=(searches(trials=9, concurrency=2), each), daemon=True)
        for each in runs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted([*runs[0].jobs, *runs[1].jobs]) == list(range(9))
    assert runs[0].jobs
    assert runs[1].jobs
    assert searches.states() == ["COMPLETE"] * 9
    for batch in (*runs[0].batches, *runs[1].batches):
        assert batch == list(range(batch[0], batch[0] + len(batch)))
    assert list((searches.folder / "controllers").iterdir()) == []


def test_several_objectives_are_all_reported(searches: Searches, capsys: pytest.CaptureFixture[str]):
    runs = Runs(searches.folder)
    runs.outcome = lambda job: {"best": {"val/rmse": error(job)}, "parameters": 10 ** setting(job, "depth")}
    searches.run(searches(trials=12, objectives={"val/rmse": "minimize", "parameters": "minimize"}), runs)
    study = open_study(searches.folder)
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MINIMIZE"]
    for trial in study.trials:
        assert trial.values == [pytest.approx(error(runs.jobs[trial.number])), 10 ** trial.params["depth"]]
    assert "parameters" in capsys.readouterr().out


def test_the_experiments_monitor_and_mode_are_the_objective(searches: Searches):
    runs = Runs(searches.folder, lambda job: {"best": {"val/auroc": 1 / error(job)}})
    searches.run(searches("monitor=val/auroc", "mode=max", trials=2), runs)
    study = open_study(searches.folder)
    assert study.direction.name == "MAXIMIZE"
    assert study.trials[0].value == pytest.approx(1 / error(runs.jobs[0]))


with_housing = pytest.mark.skipif("housing" not in EXPERIMENTS, reason="searches settings of housing's network")
TINY = ["trainer=cpu", "threads=1", "trainer.max_epochs=2", "model=mlp", "model.network.width=choice(4,8)"]


@with_housing
@pytest.mark.slow
def test_train_py_searches_and_resuming_adds_no_trials(data_root: Path, tmp_path: Path):
    given = ["search=housing", f"data.root={data_root}", "hydra.sweep.dir=found", "hydra.sweeper.trials=3", *TINY]
    refused = command(*given, cwd=tmp_path)
    assert refused.returncode == 2
    assert "python train.py -m search=housing" in refused.stderr
    ended = command("-m", *given, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    folder = tmp_path / "found"
    study = open_study(folder)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3
    for number, trial in enumerate(study.trials):
        overrides = yaml.safe_load((folder / str(number) / ".hydra" / "overrides.yaml").read_text())
        config = yaml.safe_load((folder / str(number) / ".hydra" / "config.yaml").read_text())
        assert f"model.network.width={trial.params['model.network.width']}" in overrides
        assert config["model"]["network"]["width"] in (4, 8)
        assert config["optimizer"]["lr"] == pytest.approx(trial.params["optimizer.lr"], rel=1e-4)
        assert config["test"] is False
        assert json.loads((folder / str(number) / METRICS).read_text())["pruned"] is False
    before = {path: path.stat().st_mtime_ns for path in folder.glob(f"*/{METRICS}")}
    again = command("-m", "resume=found", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.glob(f"*/{METRICS}")} == before


@with_housing
@pytest.mark.slow
def test_a_search_killed_twice_resumes_to_its_total(data_root: Path, tmp_path: Path):
    folder = tmp_path / "found"
    given = ["-m", "search=housing", f"data.root={data_root}", "hydra.sweep.dir=found", "hydra.sweeper.trials=6", *TINY]
    arguments = [*given, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "trainer.max_epochs=6"]
    for done in (1, 3):
        with subprocess.Popen(
            [sys.executable, REPOSITORY / "train.py", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")},
            stdout=subprocess.DEVNULL,
        ) as process:
            while len(list(folder.glob(f"*/{DONE}"))) < done and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        assert not (folder / "5" / DONE).exists(), "it was killed too late"
        arguments = ["-m", "resume=found"]
    ended = command(*arguments, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    study = open_study(folder)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 6
    assert sorted(path.parent.name for path in folder.glob(f"*/{DONE}")) == list("012345")
