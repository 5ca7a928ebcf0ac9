"""Predictions that are ended by SIGKILL or SIGTERM, and resumed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.harness import EXPERIMENTS, REPOSITORY, small, train


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start ``triptych predict ARGUMENTS`` as a subprocess."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    command = [sys.executable, "-m", "triptych.cli", "predict", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the process; return its exit code and stderr."""
    _, said = process.communicate(timeout=240)
    return process.returncode, said


def wait_for(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    """Wait until ``happened()``, and fail if the process ends before."""
    for _ in range(24_000):
        if happened():
            break
        assert process.poll() is None, "ended too early to be stopped"
        time.sleep(0.01)


def trained(experiment: str, data_root: Path, folder: Path) -> Path:
    if experiment not in EXPERIMENTS:
        pytest.skip(f"the {experiment} panel is not here")
    train(folder, *small(experiment, data_root, "trainer.max_epochs=1", "logger=none", "test=false"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_table_prediction_resumes_after_its_last_row(sign: signal.Signals, data_root: Path, tmp_path: Path):
    run = trained("housing", data_root, tmp_path / "run")
    header, *rows = (data_root / "california-housing-prices/housing.csv").read_text().splitlines()
    source = tmp_path / "houses.csv"
    source.write_text("\n".join([header, *(rows * 400)[:60_000]]) + "\n")

    process = start(run, source, "--output", tmp_path / "out")
    wait_for(process, (tmp_path / "out" / "predictions.csv.part.json").exists)
    process.send_signal(sign)
    code, said = ended(process)
    assert code == (143 if sign == signal.SIGTERM else -9)
    assert ("--resume" in said) == (sign == signal.SIGTERM)
    assert not (tmp_path / "out" / "predictions.csv").exists()
    begun = (tmp_path / "out" / "predictions.csv.part").stat()

    assert ended(start(run, source, "--output", tmp_path / "out", "--resume")) == (0, "")
    assert ended(start(run, source, "--output", tmp_path / "whole")) == (0, "")
    written = tmp_path / "out" / "predictions.csv"
    assert written.stat().st_ino == begun.st_ino  # the same file, appended to
    assert written.read_bytes() == (tmp_path / "whole" / "predictions.csv").read_bytes()
    # Temporary files left by a kill are hidden, and never taken for predictions.
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == ["predictions.csv"]


@pytest.mark.slow
def test_pages_of_a_killed_prediction_are_complete_and_kept(data_root: Path, tmp_path: Path):
    run = trained("denoise", data_root, tmp_path / "run")
    pages, out = tmp_path / "pages", tmp_path / "out"
    pages.mkdir()
    for number in range(60):
        Image.effect_noise((300, 300), 60 + number).save(pages / f"{number}.png")

    process = start(run, pages, "--output", out)
    wait_for(process, lambda: len(list(out.glob("[0-9]*.png"))) >= 3)
    process.kill()
    assert ended(process)[0] == -9
    there = {path: path.stat().st_mtime_ns for path in out.glob("[0-9]*.png")}
    assert 3 <= len(there) < 60
    for path in there:
        with Image.open(path) as image:
            image.load()  # raises if the file is truncated
            assert image.size == (300, 300)

    assert ended(start(run, pages, "--output", out, "--resume")) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in there} == there
    assert {path.name for path in out.glob("[0-9]*.png")} == {path.name for path in pages.iterdir()}
