"""triptych reproduce: what it reads from a run directory, and complete runs that are repeated."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from tests.harness import FASTEST, REPOSITORY, cheapest, command, train

from triptych.cli import main
from triptych.job import RunInUseError, reproduce_run, resume_run
from triptych.reproduce import plan_reproduction
from triptych.results.directory import LOCK, try_lock
from triptych.results.record import read_record
from triptych.resume import parse_resumption

CONFIG = {
    "data": {"_target_": "triptych.data.base.DataModule", "root": None, "source": "auto", "cache_dir": "/etc/cache"},
    "model": {"_target_": "triptych.models.base.Model"},
    "monitor": "val/rmse",
    "callbacks": {"early_stopping": {"monitor": "${monitor}"}},
    "packages": ["stranger"],
    "threads": None,
}
METRICS = {
    "best": {"val/rmse": 1.0},
    "test": None,
    "threads": 2,
    "data": {"source": "files", "root": "/data/houses", "fingerprint": "f1"},
}


def write(directory: Path, config: Any = CONFIG, metrics: Any = METRICS, choices: Any = None) -> Path:
    """Write a run directory that is marked as done."""
    (directory / ".hydra").mkdir(parents=True, exist_ok=True)
    (directory / ".hydra/config.yaml").write_text(yaml.safe_dump(config))
    choices = {"experiment": "sums", "model": "mlp"} if choices is None else choices
    kept = {"choices": choices, "config_sources": [{"provider": "command-line", "path": "/my conf"}]}
    (directory / ".hydra/hydra.yaml").write_text(yaml.safe_dump({"hydra": {"runtime": kept}}))
    overrides = ["experiment=sums", "study=one", "threads=9", "data.root=x", "packages=[stranger]", "seed=3"]
    (directory / ".hydra/overrides.yaml").write_text(yaml.safe_dump(overrides))
    (directory / "metrics.json").write_text(json.dumps(metrics))
    (directory / "DONE").touch()
    return directory


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write(tmp_path / "logs/sums/one")


def test_saved_config_is_restored_with_the_threads_and_data_of_the_run(run: Path) -> None:
    asked = plan_reproduction("latest")
    assert asked.config.callbacks.early_stopping.monitor == "val/rmse"
    assert asked.config.threads == 2
    assert asked.config.data.root == "/data"
    assert asked.config.data.source == "files"
    assert asked.fingerprint == "f1"
    assert asked.directory.parent == run.parent
    assert not asked.directory.exists()


def test_new_directory_in_use_by_another_process_is_left_untouched(run: Path, tmp_path: Path) -> None:
    asked = plan_reproduction(str(run), output=tmp_path / "again")
    asked.directory.mkdir()
    with (
        try_lock(asked.directory / LOCK),
        pytest.raises(RunInUseError, match=r"another process is training .*again: wait for it"),
    ):
        reproduce_run(asked, 0.0)
    assert [path.name for path in (asked.directory / ".hydra").iterdir()] == [LOCK.name]


def test_run_cannot_choose_trusted_packages_or_the_cache_dir(run: Path) -> None:
    assert plan_reproduction(str(run)).config.packages == []
    assert plan_reproduction(str(run), trust=["mine"]).config.packages == ["mine"]
    assert plan_reproduction(str(run)).config.data.cache_dir is None


def test_data_root_can_be_changed(run: Path) -> None:
    asked = plan_reproduction(str(run), root="/mnt/it's here")
    assert (asked.config.data.root, asked.config.data.source) == ("/mnt/it's here", "files")
    assert asked.overrides[-1] == "data.root='/mnt/it\\'s here'"
    write(run, metrics=METRICS | {"data": METRICS["data"] | {"source": "synthetic"}})
    assert plan_reproduction(str(run)).config.data.source == "synthetic"


def test_new_directory_is_an_ordinary_run_directory(run: Path) -> None:
    asked = plan_reproduction(str(run), output=Path("again"), trust=["mine"])
    asked.begin()
    hydra = Path("again/.hydra")
    assert OmegaConf.load(hydra / "config.yaml") == asked.config
    assert yaml.safe_load((hydra / "overrides.yaml").read_text()) == [
        *("experiment=sums", "seed=3", "threads=2", "data.source=files", "data.root=/data", "packages=[mine]")
    ]
    assert read_record(Path("again")).places == read_record(run).places == ["--config-dir=/my conf"]
    write(Path("again"), config=OmegaConf.to_container(asked.config), choices=asked.choices)
    assert plan_reproduction("again").choices == {"experiment": "sums", "model": "mlp"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": {}}, "has not ended"),
        ({"metrics": METRICS | {"pruned": True}}, "stopped it early"),
        ({"metrics": METRICS | {"data": []}}, "which data"),
        ({"metrics": METRICS | {"data": METRICS["data"] | {"source": "kaggle"}}}, "which data"),
        ({"metrics": METRICS | {"data": METRICS["data"] | {"fingerprint": 1}}}, "which data"),
        ({"metrics": METRICS | {"threads": 10**9}}, "number of threads"),
        ({"metrics": METRICS | {"threads": True}}, "number of threads"),
        ({"choices": {"experiment": "../../there"}}, "not the name of an experiment"),
        ({"choices": {"experiment": ".."}}, "not the name of an experiment"),
        ({"choices": {}}, "not the name of an experiment"),
        ({"choices": "none"}, "cannot be used"),
        ({"config": CONFIG | {"monitor": "${oc.env:HOME}"}}, "more than a reference"),
    ],
)
def test_damaged_or_unfinished_run_is_refused(change: dict[str, Any], message: str, run: Path) -> None:
    write(run, **change)
    with pytest.raises(ValueError, match=message):
        plan_reproduction(str(run))


@pytest.mark.parametrize(("error", "message"), [("Diverged: nan", "diverged"), ("ValueError: no", "failed")])
def test_failed_or_diverged_run_is_refused(error: str, message: str, run: Path) -> None:
    (run / "DONE").unlink()
    (run / "error.txt").write_text(error)
    with pytest.raises(ValueError, match=message):
        plan_reproduction(str(run))


def test_output_folder_in_use_is_refused(run: Path, tmp_path: Path) -> None:
    for output in (run, tmp_path / "logs/sums/one/DONE"):
        with pytest.raises(ValueError, match="is not empty"):
            plan_reproduction(str(run), output=output)


@pytest.mark.parametrize("text", ["-1", "nan", "much", "1"])
def test_tolerance_must_be_small_and_not_negative(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", "run", "--tolerance", text])
    assert ended.value.code == 2
    assert "expected a number from 0" in capsys.readouterr().err


def test_run_without_metrics_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(run, metrics=METRICS | {"best": {}})
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", str(run), "--output", "again"])
    assert ended.value.code == 2
    assert "no metrics" in capsys.readouterr().err
    assert not Path("again").exists()


@pytest.fixture(scope="module")
def trained(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs, read-only."""
    folder = tmp_path_factory.mktemp("trained")
    train(folder / "run", *cheapest(data_root, "logger=none"))
    return folder / "run"


@pytest.fixture
def copy(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of ``trained`` that a test may change."""
    monkeypatch.setattr(sys, "argv", ["triptych"])
    return shutil.copytree(trained, tmp_path / "copy")


def reproduce(*arguments: object) -> int:
    """Run ``triptych reproduce ARGUMENTS`` in this process; return the exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_tampered_metric_is_named_and_the_new_run_is_complete(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = json.loads((copy / "metrics.json").read_text())
    name = next(iter(metrics["test"]))
    metrics["test"][name] *= 1.001
    metrics["versions"]["torch"] = "1.0"
    (copy / "metrics.json").write_text(json.dumps(metrics))
    assert reproduce(copy, "--output", "again", "--tolerance", "0") == 1
    said = capsys.readouterr().out
    assert f"Not reproduced: {name}\n" in said
    assert "torch: 1.0 then" in said
    assert reproduce(copy, "--output", "again") == 2
    assert "is not empty" in capsys.readouterr().err
    assert Path("again/DONE").exists()
    # The new run can be repeated too: metrics.json has its train.py command, sys.argv the full `reproduce` command.
    now = json.loads(Path("again/metrics.json").read_text())
    assert shlex.split(now["command"])[:3] == ["python", "train.py", f"experiment={FASTEST}"]
    assert parse_resumption(["resume=again"]).finished  # type: ignore[union-attr]
    assert sys.argv[1:] == ["reproduce", str(copy), "--output", str(Path("again").absolute())]


def test_different_data_are_refused_before_training(
    copy: Path, data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fingerprint = json.loads((copy / "metrics.json").read_text())["data"]["fingerprint"]
    text = (copy / "metrics.json").read_text()
    (copy / "metrics.json").write_text(text.replace(fingerprint, "0123456789abcdef"))
    assert reproduce(copy, "--root", data_root, "--output", "again") == 2
    said = capsys.readouterr().err
    assert all(part in said for part in ("0123456789abcdef", fingerprint, "--root"))
    assert not Path("again/checkpoints").exists()


def test_run_on_all_data_is_compared_by_its_last_logged_metrics(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["triptych"])
    train(tmp_path / "run", *cheapest(data_root, "logger=none", "data.split=all"))
    assert reproduce("run") == 0
    said = capsys.readouterr().out
    assert "Reproduced: exactly" in said
    assert "last train/loss" in said


def test_report_names_values_changed_on_resume(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["triptych"])
    train(tmp_path / "run", *cheapest(data_root, "logger=none", "scheduler=constant"))
    values = ["trainer.max_epochs=3", "trainer.accumulate_grad_batches=2"]
    resumed = parse_resumption(["resume=run", *values])
    assert resumed is not None
    assert resume_run(resumed) == 0
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["resumed_with"] == [{}]
    assert shlex.split(metrics["command"])[-2:] == values
    assert "trainer.max_epochs=2" not in metrics["command"]
    assert reproduce("run", "--output", "again") == 1
    said = capsys.readouterr().out
    assert f"resumed with {' '.join(values)}" in said
    assert f"settings: then they became {' '.join(values)}" in said


@pytest.mark.slow
def test_run_is_reproduced_exactly(tmp_path: Path) -> None:
    """From the command line, on synthetic data, as a user would."""
    data = ["data.source=synthetic", "data.train_size=500"]
    quick = ["trainer=cpu", "trainer.max_epochs=2", "threads=1", "logger=none", *data]
    first = command(f"experiment={FASTEST}", *quick, "hydra.run.dir=run", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    ended = subprocess.run(
        [sys.executable, "-m", "triptych.cli", "reproduce", "run", "--tolerance", "0"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Reproduced: exactly" in ended.stdout
    again = (tmp_path / f"logs/{FASTEST}/latest").resolve()
    then, now = (json.loads((directory / "metrics.json").read_text()) for directory in (tmp_path / "run", again))
    assert (now["best"], now["test"], now["threads"]) == (then["best"], then["test"], 1)
    assert "Reproduced" not in (again / "train.log").read_text()
    assert "epoch 2/2" in (again / "train.log").read_text()


@pytest.mark.slow
def test_interrupted_reproduction_can_be_resumed(copy: Path, tmp_path: Path) -> None:
    (copy / "metrics.csv").unlink()
    text = (copy / ".hydra/config.yaml").read_text()
    (copy / ".hydra/config.yaml").write_text(text.replace("max_epochs: 2", "max_epochs: 2000"))
    process = subprocess.Popen(
        [sys.executable, "-m", "triptych.cli", "reproduce", copy, "--output", "again"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        while not (tmp_path / "again/checkpoints/last.ckpt").exists():
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert f"resume={tmp_path / 'again'}" in said
    assert parse_resumption(["resume=again"]).checkpoint  # type: ignore[union-attr]
