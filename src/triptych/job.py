"""Start, resume or repeat one run, alone or as a job of a sweep: exit codes, error reports, the directory's lock."""

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from triptych.config import ConfigError
from triptych.errors import OutOfSpace, UserError
from triptych.imports import without_collector
from triptych.processes import broadcast, broadcast_refusal, global_rank, is_local_rank_zero
from triptych.reproduce import Reproduction
from triptych.results.directory import CONFIG, ERROR, LOCK, new_run_id, try_lock
from triptych.results.record import read_record
from triptych.resume import Resumption
from triptych.terminal import TerminalHandler, harmless

# Cached: one ID per run or sweep, however often it is resolved; `${now:...}` alone would collide within a second.
OmegaConf.register_new_resolver("run_id", lambda: broadcast("run_id", new_run_id), use_cache=True, replace=True)

MAX_METRICS = 1000
"""Upper limit on the number of metrics of a run; a record with more is taken to be damaged."""

# Training code is imported inside the functions: train.py checks the config first.


class RunInUseError(ConfigError):
    """Another process is training in the run directory, and holds its lock until it ends."""


def train(config: DictConfig) -> float | None:
    """Hydra's task function: train one run, or one job of a sweep.

    Returns:
        The best value of the monitored metric; None for a failed job, which does not end its sweep.

    Raises:
        SystemExit: 1 if a run diverged or the disk is full, 2 for a user error, 130 or 143 after an interruption.
    """
    try:
        with _locked(directory := Path(HydraConfig.get().runtime.output_dir)):
            return _train(config, directory)
    except RunInUseError as error:
        if global_rank() == 0:
            print(f"error: {harmless(error)}", file=sys.stderr)
        sys.exit(2)


def _train(config: DictConfig, directory: Path) -> float | None:
    with without_collector():
        from triptych.run import run

    settings = HydraConfig.get()
    try:
        metrics = run(config, directory, settings.runtime.choices["experiment"])
    except Exception as error:
        write_error(directory, error)
        if settings.mode == RunMode.MULTIRUN:
            print_job_failure(directory, settings.job.num)
            return None
        code = report_user_error(error)
        if code is None:
            raise
        sys.exit(code)
    return (metrics["best"] or {}).get(config.monitor)


def resume_run(resumed: Resumption) -> int:
    """Resume an interrupted run; returns the exit code.

    Raises:
        RunInUseError: another process is training it.
    """
    if resumed.finished:
        print(f"{resumed.directory} has already finished; to train it further, set trainer.max_epochs=N")
        return 0
    try:
        resume_training(resumed)
    except RunInUseError:
        raise
    except Exception as error:
        if not isinstance(error, UserError) or _bug_traceback(error):  # a refused resume leaves the directory as it was
            write_error(resumed.directory, error)
        code = report_user_error(error)
        if code is None:
            raise
        return code
    return 0


def resume_training(resumed: Resumption) -> None:
    """Resume training from the last checkpoint, or from the start if there is none.

    Raises:
        RunInUseError: another process is training the run.
    """
    with _locked(resumed.directory):
        with without_collector():
            from triptych.run import run

        # Lightning starts the other ranks of a distributed run with these arguments.
        sys.argv[1:] = [f"resume={resumed.directory}", *resumed.overrides]
        _configure_logging(resumed.directory)
        _print_resumed_run(resumed)
        for path in resumed.damaged:
            print(f"{path} is damaged and is ignored.")
        run(resumed.config, resumed.directory, resumed.experiment, resumed.checkpoint, on_start=resumed.record)


def reproduce_run(reproduction: Reproduction, tolerance: float) -> int:
    """Train a finished run again and compare; returns 0 if the metrics agree, 1 if not or it crashed, 2 if refused.

    Raises:
        ValueError: the finished run has no metrics, or more than MOST_NUMBERS.
        RunInUseError: another process is training in the new directory.
        SystemExit: 130 or 143 after an interruption; the new run can be resumed like any other.
    """
    with without_collector():
        from lightning.pytorch.utilities import rank_zero_only

        from triptych.results.agreement import comparable, compare, print_agreement
        from triptych.results.report.text import printable
        from triptych.run import run

    original, directory = reproduction.original, reproduction.directory
    numbers = comparable(original)
    if not any(value is not None for value in numbers.values()):
        raise ValueError(f"{original.directory} has no metrics to compare with")
    if len(numbers) > MAX_METRICS:
        raise ValueError(f"{original.directory} has {len(numbers):,} metrics, more than any run: it is damaged")
    with _locked(directory):
        reproduction.begin()
        _configure_logging(directory)
        if original.changes:
            changes = printable(" ".join(original.changes))
            print(
                f"The run started with other settings and was resumed with {changes}: a run with these from the start "
                "may reach other numbers."
            )
        try:
            experiment = reproduction.choices["experiment"]
            run(reproduction.config, directory, experiment, fingerprint=reproduction.fingerprint)
        except Exception as error:
            write_error(directory, error)
            code = report_user_error(error)
            if code is None:
                traceback.print_exc()
                return 1
            return code
    if rank_zero_only.rank:  # type: ignore[attr-defined]
        return 0  # rank 0 compares and reports for all
    repeated = read_record(directory)
    agreement = compare(original, repeated, tolerance)
    print_agreement(agreement, original, repeated)
    return 1 if agreement.differing_metrics else 0


def _print_resumed_run(resumed: Resumption) -> None:
    """Print which run is resumed before its data are read: ``latest`` may not be the one the user expects."""
    began = datetime.fromtimestamp((resumed.directory / CONFIG).stat().st_mtime)
    starting_point = (
        "which has no checkpoint yet: it starts again" if resumed.checkpoint is None else "from its last checkpoint"
    )
    if global_rank() == 0:
        print(f"Resuming {harmless(resumed.directory)}, started {began:%Y-%m-%d %H:%M}, {starting_point}.")


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lock a run directory against training by other processes; rank 0 does so for all ranks of a run.

    Raises:
        RunInUseError: another process holds the lock.
    """
    with ExitStack() as lock:

        def find_other() -> str:
            free = lock.enter_context(try_lock(directory / LOCK))
            return "" if free else f"another process is training {directory}: wait for it, or stop it"

        if why := broadcast_refusal("in_use", find_other):
            raise RunInUseError(why)
        yield


def _configure_logging(directory: Path) -> None:
    """Set up logging like ``conf/hydra/job_logging/triptych.yaml``."""
    handlers: list[logging.Handler] = [TerminalHandler()]
    if global_rank() == 0:
        handlers.append(logging.FileHandler(directory / "train.log"))
        handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers)


def write_error(directory: Path, error: Exception) -> None:
    """Write ``error.txt``: a user error's message, and the traceback of a bug; else type, message and traceback."""
    text = f"{error}\n"
    if not isinstance(error, UserError):
        text = f"{type(error).__name__}: {error}\n\n{''.join(traceback.format_exception(error))}"
    elif bug := _bug_traceback(error):
        text += f"\n{bug}"
    if global_rank() and (directory / ERROR).exists():
        return  # the process that failed first knows the cause
    with suppress(OSError):  # a full disk may be the very error
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ERROR).write_text(text, encoding="utf-8", errors="backslashreplace")


def print_job_failure(directory: Path, number: int) -> None:
    """Print that a job of a sweep failed, and why in one line."""
    why = read_record(directory).error or f"{directory / ERROR} could not be written; is the disk full?"
    print(f"job {number} failed: {harmless(why)}", file=sys.stderr)


def _bug_traceback(error: Exception) -> str:
    """The traceback of a ValueError from Python itself and not from a ``raise`` statement: a bug in the user's code.

    Empty for all other user errors, whose message is enough.
    """
    cause = error.__cause__
    frames = traceback.extract_tb(cause.__traceback__) if isinstance(cause, ValueError) else []
    is_deliberate = not frames or (frames[-1].line or "raise").startswith("raise")
    return "" if is_deliberate else "".join(traceback.format_exception(cause))


def report_user_error(error: Exception) -> int | None:
    """Print one message for an error the user can fix and return the exit code; None for any other, which is a bug."""
    from triptych.callbacks.divergence import Diverged
    from triptych.device import lacking_memory

    if lacking := lacking_memory(error):
        message, code = f"error: {lacking}", 2
    elif isinstance(error, UserError):
        message, code = f"{harmless(_bug_traceback(error))}error: {harmless(error)}", 2
    elif isinstance(error, Diverged):
        message, code = f"Diverged: {harmless(error)}", 1
    elif isinstance(error, OutOfSpace):
        message, code = f"error: nothing more could be written: {error}; free some space, then resume", 1
    else:
        return None
    if is_local_rank_zero():
        print(message, file=sys.stderr)
    return code
