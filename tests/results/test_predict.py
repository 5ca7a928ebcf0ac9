"""The predict command: skipped inputs, --strict, interruptions, options, and the progress bar."""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from triptych.cli import main
from triptych.results import Run
from triptych.results import predict as module
from triptych.results.predict import predict

Behaviour = Callable[[], None]


class Copier:
    """Writes a file for each of four inputs, skips the second, and calls ``behaviour`` before the third."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.closed = False
        self.given: dict[str, Any] = {}

    def predict_files(
        self, model: Any, source: Path, output: Path, tile: int | None = None, **options: Any
    ) -> Iterator[str]:
        self.given = {"tile": tile, **options}
        try:
            for number in range(4):
                if number == 2:
                    self.behaviour()
                if number == 1:
                    yield "1 is damaged"
                else:
                    (output / str(number)).touch()
                options["progress"](number + 1, 4)
        finally:
            self.closed = True


@pytest.fixture
def copier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copier:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.ckpt").write_bytes(b"weights")
    made = Copier(lambda: None)
    run = Run(tmp_path, {}, SimpleNamespace(), made)
    monkeypatch.setattr(module, "load_run", lambda *_, **__: run)
    return made


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_skipped_inputs_are_returned_and_the_rest_is_written(copier: Copier, tmp_path: Path):
    assert predict("run", tmp_path, tmp_path / "a" / "b", resume=True, tile=3) == ["1 is damaged"]
    assert written(tmp_path / "a" / "b") == ["0", "2", "3"]
    assert copier.given["resume"] is True
    assert copier.given["tile"] == 3
    assert len(copier.given["weights"]) == 64


def test_strict_stops_at_the_first_unreadable_input(copier: Copier, tmp_path: Path):
    with pytest.raises(ValueError, match=r"^1 is damaged \(without --strict it would be skipped\)$"):
        predict("run", tmp_path, tmp_path / "out", strict=True)
    assert written(tmp_path / "out") == ["0"]
    assert copier.closed


class Reader:
    """Reads text files, reports empty ones as unreadable, and writes nothing."""

    def predict_files(self, model: Any, source: Path, output: Path, **options: Any) -> Iterator[str]:
        paths = [source] if source.is_file() else sorted(source.iterdir())
        for number, path in enumerate(paths, start=1):
            if not path.read_text():
                yield f"{path.name} is empty"
            options["progress"](number, len(paths))


@pytest.fixture
def pages(copier: Copier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two unreadable pages."""
    run = Run(tmp_path, {}, SimpleNamespace(), Reader())
    monkeypatch.setattr(module, "load_run", lambda *_, **__: run)
    (tmp_path / "pages").mkdir()
    for name in ("a", "b"):
        (tmp_path / "pages" / name).touch()
    return tmp_path / "pages"


def test_a_single_unreadable_input_is_an_error(pages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["predict", "run", str(pages / "a"), "--output", str(tmp_path / "out")])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "error: a is empty\n")


def test_a_folder_without_readable_inputs_reports_no_output(
    pages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert predict("run", pages, tmp_path / "out") == ["a is empty", "b is empty"]
    assert capsys.readouterr().out == "predicted nothing: no input could be read\n"
    (pages / "b").write_text("words")
    assert predict("run", pages, tmp_path / "out") == ["a is empty"]
    assert capsys.readouterr().out.startswith("wrote ")


@pytest.mark.parametrize("taken", ["file", "file/below"])
def test_an_impossible_output_folder_is_refused(taken: str, pages: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=rf"{taken} .*--output"):
        predict("run", pages, tmp_path / taken)


def test_an_option_of_another_task_is_refused(copier: Copier, tmp_path: Path):
    with pytest.raises(ValueError, match=r"--submission is not for this run's task \(Copier\): leave it out"):
        predict("run", tmp_path, tmp_path / "out", submission=True)
    assert not (tmp_path / "out").exists()


def stop_with(error: BaseException) -> Behaviour:
    def stop() -> None:
        raise error

    return stop


def sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)  # the signal ends it


@pytest.mark.parametrize(
    ("behaviour", "code", "said"),
    [
        (stop_with(KeyboardInterrupt()), 130, "Interrupted."),
        (sigterm, 143, "Interrupted."),
        (stop_with(OSError(errno.ENOSPC, "No space left on device")), 1, "No space left on device: make room."),
    ],
    ids=["Ctrl-C", "SIGTERM", "disk full"],
)
def test_an_interruption_says_how_to_resume(
    behaviour: Behaviour, code: int, said: str, copier: Copier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before = signal.getsignal(signal.SIGTERM)
    copier.behaviour = behaviour
    with pytest.raises(SystemExit) as ended:
        predict("run", tmp_path, tmp_path / "out")
    assert ended.value.code == code
    assert capsys.readouterr().err.startswith(f"{said} Continue with the same command and --resume")
    assert written(tmp_path / "out") == ["0"]
    assert copier.closed
    assert signal.getsignal(signal.SIGTERM) == before


def test_other_file_errors_are_raised(copier: Copier, tmp_path: Path):
    copier.behaviour = stop_with(PermissionError(errno.EACCES, "no"))
    with pytest.raises(PermissionError):
        predict("run", tmp_path, tmp_path / "out")


@pytest.mark.parametrize("terminal", [True, False])
def test_the_progress_bar_is_shown_only_in_terminals(
    terminal: bool, copier: Copier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    predict("run", tmp_path, tmp_path / "out")
    printed = capsys.readouterr().out
    assert ("4/4" in printed) == terminal
    assert printed.splitlines()[-1].startswith("wrote ")
    assert terminal or len(printed.splitlines()) == 1
