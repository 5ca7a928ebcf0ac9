"""Predict new files, outside the data set, with the best checkpoint of a run."""

import errno
import hashlib
import inspect
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from triptych.results import load_run
from triptych.results.output import make_folder


def predict(
    run: str,
    source: Path,
    output: Path,
    trust: Iterable[str] = (),
    resume: bool = False,
    strict: bool = False,
    **options: Any,
) -> list[str]:
    """Predict the file or folder ``source`` into the folder ``output``.

    Args:
        run: a run directory or ``latest``.
        source: a file or folder of the kind that the run's task takes.
        output: a folder, created if missing.
        trust: your own packages whose classes the run's config may name.
        resume: resume an interrupted prediction. Pages already cleaned with the same weights are kept; a table is
            continued after its last written row.
        strict: stop at the first input that would be skipped.
        options: see ``predict_files`` of the run's DataModule.

    Returns:
        one line for each input that was skipped.

    Raises:
        ValueError: there is no such run, ``source`` does not exist, the folder cannot be created, the run's task lacks
            an option, or an input is unreadable: the only one of a file ``source`` or, with ``strict``, any.
        SystemExit: 1 when the disk is full, 130 after Ctrl-C, 143 after SIGTERM.
    """
    loaded = load_run(run, trust=trust)
    predict_files = loaded.datamodule.predict_files
    for name in options.keys() - inspect.signature(predict_files).parameters.keys():
        raise ValueError(f"--{name} is not for this run's task ({type(loaded.datamodule).__name__}): leave it out")
    if not source.exists():
        raise ValueError(f"nothing at {source}: expected a file or folder to predict")
    make_folder(output)
    with (loaded.directory / "checkpoints" / "best.ckpt").open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    started = time.perf_counter()
    skipped, inputs = [], 0
    with torch.inference_mode(), _explaining_how_to_resume(), _bar() as bar:

        def progress(done: int, total: int) -> None:
            nonlocal inputs
            inputs = total
            bar(done, total)

        lines = predict_files(
            loaded.model, source, output, resume=resume, weights=weights, progress=progress, **options
        )
        with closing(lines):
            for line in lines:
                if strict:
                    raise ValueError(f"{line} (without --strict it would be skipped)")
                skipped.append(line)
    if source.is_file() and inputs == 1 and skipped:
        raise ValueError(skipped[0])
    # If no progress was reported (inputs is 0), assume that something was written.
    if skipped and len(skipped) == inputs:
        print("predicted nothing: no input could be read")
    else:
        print(f"wrote {output} in {time.perf_counter() - started:.1f} s")
    return skipped


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar, on a terminal only; yield its update function, of the number of inputs done and in total."""
    columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task("predicting", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _explaining_how_to_resume() -> Iterator[None]:
    """On an interruption or a full disk, say how to resume and raise SystemExit with the right exit code."""

    def stop(*_: Any) -> NoReturn:
        raise SystemExit(143)

    is_main = threading.current_thread() is threading.main_thread()  # Python delivers signals to no other thread
    before = signal.signal(signal.SIGTERM, stop) if is_main else None
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        _say("Interrupted.")
        raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else error.code) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
            raise
        _say(f"{error.strerror}: make room.")
        raise SystemExit(1) from error
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


def _say(what: str) -> None:
    print(f"{what} Continue with the same command and --resume: what is written is kept.", file=sys.stderr)
