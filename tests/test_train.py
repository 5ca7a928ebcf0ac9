"""train.py as users run it: exit codes, messages, sweeps, interruption and resumption."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.harness import EXPERIMENTS, FASTEST, REPOSITORY, cheapest, command, small

from triptych.results.checkpoints import is_intact
from triptych.results.record import read_record

EXPERIMENT = FASTEST


def only_run(folder: Path) -> Path:
    """The one run directory below ``folder``."""
    (hydra,) = (path for path in folder.rglob(".hydra") if "latest" not in path.parts)
    return hydra.parent


def test_run_prints_its_table_and_exits_0(data_root: Path, tmp_path: Path) -> None:
    ended = command(*small(EXPERIMENT, data_root, pictures=True), cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    directory = only_run(tmp_path)
    assert directory.parent == tmp_path / "logs" / EXPERIMENT
    assert (directory / "DONE").exists()
    # The output shows the data, one line per epoch, the monitor on validation and test data, and the run directory.
    for part in ("data", "epoch 1/2", "(monitor)", "test", directory.name):
        assert part in ended.stdout
    assert "epoch 2/2" in (directory / "train.log").read_text()
    # No noise: neither advertisements nor warnings.
    assert "litlogger" not in ended.stdout + ended.stderr
    assert "weights_only" not in ended.stdout + ended.stderr
    assert "Warning" not in ended.stderr


def test_missing_experiment_lists_the_available_ones(tmp_path: Path) -> None:
    ended = command(cwd=tmp_path)
    assert ended.returncode == 2
    assert all(name in ended.stderr for name in EXPERIMENTS)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("optimizer.lrr=1", "did you mean optimizer.lr?"),
        ("optimizer=admaw", "did you mean adamw?"),
        ("+trainer.max_epoch=3", "did you mean trainer.max_epochs?"),
        ("trainer.max_epochs=many", "expected"),
        ("hydra.rum.dir=x", "hydra.run.dir"),
        ("--nonsense", "nonsense"),
        ("resume=nowhere", "nowhere"),
        (f"hydra.run.dir={__file__}/run", "name another with hydra.run.dir=FOLDER"),
        ("data.source=files data.root=/nowhere/at/all", "triptych data download"),
    ],
)
def test_user_error_gets_one_message_and_exit_code_2(argument: str, message: str, tmp_path: Path) -> None:
    ended = command(f"experiment={EXPERIMENT}", *argument.split(), cwd=tmp_path)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) <= 3


@pytest.mark.slow
def test_failing_job_is_named_and_does_not_stop_the_sweep(data_root: Path, tmp_path: Path) -> None:
    options = cheapest(data_root, "trainer.max_epochs=1", "mode=min", "monitor=val/loss,val/nothing", "-m")
    ended = command(*options, cwd=tmp_path)
    assert ended.returncode == 1
    (sweep,) = (tmp_path / "logs/sweeps").iterdir()
    assert [(sweep / job / "DONE").exists() for job in ("0", "1")] == [True, False]
    assert "2 runs: 1 done, 1 failed." in ended.stdout
    assert "monitor=val/nothing" in ended.stdout
    assert "monitor=val/nothing is never logged" in (sweep / "1/error.txt").read_text()


def test_diverging_run_stops_with_exit_code_1(data_root: Path, tmp_path: Path) -> None:
    options = ("optimizer=sgd", "optimizer.lr=1e30", "scheduler=constant", "trainer.max_epochs=50")
    ended = command(*cheapest(data_root, *options), cwd=tmp_path)
    assert ended.returncode == 1
    assert "learning rate 1e+30: set a smaller optimizer.lr" in ended.stderr
    assert "Traceback" not in ended.stderr
    record = read_record(only_run(tmp_path))
    assert record.state == "diverged"
    assert record.error.startswith("Diverged: the ")
    assert not (record.directory / "DONE").exists()


BUG = """
from torch.optim.lr_scheduler import ConstantLR


class Mine(ConstantLR):
    def get_lr(self):
        rate, factor = super().get_lr(), self.factor, self.total_iters
        return rate
"""


def test_bug_in_user_code_is_shown_with_its_traceback(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BUG)
    mine = ("packages=[mine]", "scheduler=constant", "scheduler._target_=mine.Mine")
    begun = command(*cheapest(data_root, *mine, f"hydra.run.dir={tmp_path}/run"), cwd=tmp_path)
    resumed = command(f"resume={tmp_path}/run", "packages=[mine]", cwd=tmp_path)
    for ended in (begun, resumed):
        assert ended.returncode == 2
        *trace, last = ended.stderr.splitlines()
        assert last == "error: too many values to unpack (expected 2)"
        assert any("mine.py" in line and "get_lr" in line for line in trace)
    assert "mine.py" in (tmp_path / "run/error.txt").read_text()
    assert read_record(tmp_path / "run").error == last.removeprefix("error: ")


def test_every_job_of_a_sweep_is_checked_before_the_first_starts(data_root: Path, tmp_path: Path) -> None:
    ended = command(*cheapest(data_root, "optimizer=adam,admaw", "-m"), cwd=tmp_path)
    assert ended.returncode == 2
    assert not (tmp_path / "logs").exists()


def _started(options: list[str], cwd: Path) -> subprocess.Popen[str]:
    """Start a run in the background; return once at least two epochs have ended and been saved."""
    run = subprocess.Popen(
        [sys.executable, REPOSITORY / "train.py", *options],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.stdout is not None
    for line in run.stdout:
        # An epoch is reported before it is saved.
        if line.startswith("epoch 3/"):
            break
    return run


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_says_how_to_resume_and_resumes(
    sent: signal.Signals, code: int, data_root: Path, tmp_path: Path
) -> None:
    run = _started(cheapest(data_root, "trainer.max_epochs=2000"), tmp_path)
    run.send_signal(sent)
    output, _ = run.communicate(timeout=120)
    assert run.returncode == code, output
    directory = only_run(tmp_path)
    assert f"python train.py resume={directory}" in output
    assert "Received" not in output
    assert not (directory / "DONE").exists()
    assert (directory / "checkpoints/last.ckpt").exists()
    before = (directory / ".hydra/config.yaml").read_bytes()

    # `latest` is the newest run without DONE; values may change, config groups may not.
    refused = command("resume=latest", "optimizer=sgd", cwd=tmp_path)
    assert refused.returncode == 2
    epoch = torch.load(directory / "checkpoints/last.ckpt", weights_only=True)["epoch"]
    too_few = command("resume=latest", "trainer.max_epochs=1", cwd=tmp_path)
    assert too_few.returncode == 2
    assert "max_epochs=1" in too_few.stderr
    ended = command("resume=latest", f"trainer.max_epochs={epoch + 2}", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    metrics = json.loads((directory / "metrics.json").read_text())
    assert len(metrics["resumed"]) == 1
    assert (directory / ".hydra/config.yaml").read_bytes() == before
    assert (directory / ".hydra/resume-1/overrides.yaml").exists()

    again = command(f"resume={directory}", cwd=tmp_path)
    assert again.returncode == 0
    assert "has already finished" in again.stdout


@pytest.mark.slow
def test_full_disk_gives_a_message_and_leaves_an_intact_checkpoint(data_root: Path, tmp_path: Path) -> None:
    """A limit on file sizes stands in for a full disk; the checkpoint, the largest file, hits it."""
    options = cheapest(data_root, "trainer.max_epochs=3")
    assert command(*options, cwd=tmp_path).returncode == 0
    whole = only_run(tmp_path)
    size = (whole / "checkpoints/last.ckpt").stat().st_size

    script = (
        "import resource, sys, runpy\n"
        "from triptych.callbacks.random_state import RandomState\n"
        "def fill(*_):\n"
        f"    resource.setrlimit(resource.RLIMIT_FSIZE, ({size // 2}, resource.RLIM_INFINITY))\n"
        "RandomState.on_validation_end = lambda self, trainer, model: trainer.current_epoch == 1 and fill()\n"
        f"sys.argv[0] = {str(REPOSITORY / 'train.py')!r}\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    full = subprocess.run(
        [sys.executable, "-c", script, *options, f"hydra.run.dir={tmp_path / 'full'}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert full.returncode == 1, full.stderr
    assert "nothing more could be written" in full.stderr
    assert "Traceback" not in full.stderr
    assert f"resume={tmp_path / 'full'}" in full.stdout
    checkpoints = tmp_path / "full/checkpoints"
    assert all(is_intact(path) for path in checkpoints.glob("*.ckpt"))
    resumed = command(f"resume={tmp_path / 'full'}", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    one, other = (json.loads((path / "metrics.json").read_text()) for path in (whole, tmp_path / "full"))
    assert one["test"] == other["test"]
    assert len(other["resumed"]) == 1


@pytest.mark.slow
def test_damaged_checkpoint_falls_back_to_the_previous_one(data_root: Path, tmp_path: Path) -> None:
    options = cheapest(data_root, "trainer.max_epochs=2000")
    run = _started(options, tmp_path)
    time.sleep(1)
    run.kill()
    run.communicate()
    directory = only_run(tmp_path)
    last, previous = (directory / f"checkpoints/{name}.ckpt" for name in ("last", "previous"))
    step = torch.load(previous, weights_only=True)["global_step"]
    epoch = torch.load(previous, weights_only=True)["epoch"]
    content = last.read_bytes()
    middle = len(content) // 2
    last.write_bytes(content[:middle] + bytes(512) + content[middle + 512 :])
    ended = command(f"resume={directory}", f"trainer.max_epochs={epoch + 3}", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert f"{last} is damaged" in ended.stdout
    assert json.loads((directory / "metrics.json").read_text())["resumed"] == [step]

    # With no intact checkpoint left, the run is refused rather than restarted.
    last.write_bytes(b"")
    refused = command(f"resume={directory}", f"trainer.max_epochs={epoch + 4}", cwd=tmp_path)
    assert refused.returncode == 2
    assert str(last) in refused.stderr
