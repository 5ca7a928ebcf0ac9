"""One run, by itself or as a job of a sweep: its exit code, and what it leaves of an error."""

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
from triptych.imports import without_collector
from triptych.processes import agreed, process_number, refused, speaks_for_machine
from triptych.reproduce import Reproduction
from triptych.results.directory import CONFIG, ERROR, LOCK, held, new_run_id
from triptych.results.record import read_record
from triptych.resume import Resumption
from triptych.terminal import TerminalHandler, harmless

# One name for a run or sweep, however often it is asked for; `${now:...}` alone would collide within a second.
OmegaConf.register_new_resolver("run_id", lambda: agreed("run_id", new_run_id), use_cache=True, replace=True)

MOST_NUMBERS = 1000
"""More metrics are no run's, and nobody would read their table."""

# What trains is imported inside the functions: train.py checks the config first.


class InUse(ConfigError):
    """Another process is training in the run directory, which is its own until it ends."""


def train(config: DictConfig) -> float | None:
    """Hydra's task: one run, or one job of a sweep.

    Returns:
        The best value of the monitored metric; None for a job that failed, which does not end its sweep.

    Raises:
        SystemExit: 1 for a run that diverged, 2 for the user's mistake, 130 and 143 for a run or a job interrupted.
    """
    try:
        with _alone(directory := Path(HydraConfig.get().runtime.output_dir)):
            return _train(config, directory)
    except InUse as error:
        if process_number() == 0:
            print(f"error: {harmless(error)}", file=sys.stderr)
        sys.exit(2)


def _train(config: DictConfig, directory: Path) -> float | None:
    with without_collector():
        from triptych.run import run

    settings = HydraConfig.get()
    try:
        metrics = run(config, directory, settings.runtime.choices["experiment"])
    except Exception as error:
        leave_error(directory, error)
        if settings.mode == RunMode.MULTIRUN:
            say_failed(directory, settings.job.num)
            return None
        code = complain(error)
        if code is None:
            raise
        sys.exit(code)
    return (metrics["best"] or {}).get(config.monitor)


def go_on(resumed: Resumption) -> int:
    """Go on with a run that was interrupted; returns the exit code.

    Raises:
        InUse: another process is training it.
    """
    if resumed.finished:
        print(f"{resumed.directory} is done already; to train on, ask for more: trainer.max_epochs=N")
        return 0
    try:
        train_on(resumed)
    except InUse:
        raise
    except Exception as error:
        from triptych.run import UserError

        if not isinstance(error, UserError) or _bug(error):  # what is refused stays as it was
            leave_error(resumed.directory, error)
        code = complain(error)
        if code is None:
            raise
        return code
    return 0


def train_on(resumed: Resumption) -> None:
    """Train on from the last checkpoint, or from the start where there is none.

    Raises:
        InUse: another process is training the run.
    """
    with _alone(resumed.directory):
        with without_collector():
            from triptych.run import run

        # With these Lightning starts the other processes of a distributed run.
        sys.argv[1:] = [f"resume={resumed.directory}", *resumed.overrides]
        _log_to(resumed.directory)
        _say_which(resumed)
        for path in resumed.damaged:
            print(f"{path} is damaged, and is left aside.")
        run(resumed.config, resumed.directory, resumed.experiment, resumed.checkpoint, on_start=resumed.record)


def repeat(asked: Reproduction, tolerance: float) -> int:
    """Train a finished run once more and compare; returns 0 where the metrics agree, else 1, and 2 where it is refused.

    Raises:
        ValueError: the finished run has no metrics.
        SystemExit: 130 and 143 for a run that was interrupted; it goes on as any other does.
    """
    with without_collector():
        from lightning.pytorch.utilities import rank_zero_only

        from triptych.results.agreement import comparable, compare, print_agreement
        from triptych.results.report.text import printable
        from triptych.run import run

    numbers = comparable(asked.original)
    if not any(value is not None for value in numbers.values()):
        raise ValueError(f"{asked.original.directory} has no metrics to compare with")
    if len(numbers) > MOST_NUMBERS:
        raise ValueError(f"{asked.original.directory} has {len(numbers):,} metrics, more than any run: it is damaged")
    asked.begin()
    _log_to(asked.directory)
    if asked.original.changes:
        print(
            f"The run began with other settings and was resumed with {printable(' '.join(asked.original.changes))}: "
            "one that has these from the start may come to other numbers."
        )
    try:
        with _alone(asked.directory):
            run(asked.config, asked.directory, asked.choices["experiment"], fingerprint=asked.fingerprint)
    except Exception as error:
        leave_error(asked.directory, error)
        code = complain(error)
        if code is None:
            traceback.print_exc()
            return 1
        return code
    if rank_zero_only.rank:  # type: ignore[attr-defined]
        return 0  # one process speaks for all of a distributed run
    repeated = read_record(asked.directory)
    agreement = compare(asked.original, repeated, tolerance)
    print_agreement(agreement, asked.original, repeated)
    return 1 if agreement.apart else 0


def _say_which(resumed: Resumption) -> None:
    """Name the run before its data are read: ``latest`` may be another than the user thinks of."""
    began = datetime.fromtimestamp((resumed.directory / CONFIG).stat().st_mtime)
    whence = (
        "which has no checkpoint yet: it starts again" if resumed.checkpoint is None else "from its last checkpoint"
    )
    if process_number() == 0:
        print(f"Going on with {harmless(resumed.directory)}, begun {began:%Y-%m-%d %H:%M}, {whence}.")


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep other processes from training in a run directory; the first process of a run does it for all.

    Raises:
        InUse: another one is.
    """
    with ExitStack() as lock:

        def hold() -> str:
            free = lock.enter_context(held(directory / LOCK))
            return "" if free else f"another process is training {directory}: wait for it, or stop it"

        if why := refused("in_use", hold):
            raise InUse(why)
        yield


def _log_to(directory: Path) -> None:
    """Log as ``conf/hydra/job_logging/triptych.yaml`` has it."""
    handlers: list[logging.Handler] = [TerminalHandler()]
    if process_number() == 0:
        handlers.append(logging.FileHandler(directory / "train.log"))
        handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers)


def leave_error(directory: Path, error: Exception) -> None:
    """Write ``error.txt``: the user's mistake as it is, else the kind of error and the message, then the traceback."""
    from triptych.run import UserError

    text = f"{error}\n"
    if not isinstance(error, UserError):
        text = f"{type(error).__name__}: {error}\n\n{''.join(traceback.format_exception(error))}"
    elif bug := _bug(error):
        text += f"\n{bug}"
    if process_number() and (directory / ERROR).exists():
        return  # the first to fail of several processes has the cause
    with suppress(OSError):  # the disk may be full, which is then the error
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ERROR).write_text(text, encoding="utf-8", errors="backslashreplace")


def say_failed(directory: Path, number: int) -> None:
    """Say on the terminal that a job of a sweep failed, and why in one line."""
    why = read_record(directory).error or f"{directory / ERROR} could not be written; is the disk full?"
    print(f"job {number} failed: {harmless(why)}", file=sys.stderr)


def _bug(error: Exception) -> str:
    """The traceback of a ValueError that no code said by a ``raise``, but Python itself, in code of one's own.

    Empty for all other mistakes, whose message is enough.
    """
    cause = error.__cause__
    frames = traceback.extract_tb(cause.__traceback__) if isinstance(cause, ValueError) else []
    said = not frames or (frames[-1].line or "raise").startswith("raise")
    return "" if said else "".join(traceback.format_exception(cause))


def complain(error: Exception) -> int | None:
    """Say in one message what the user can mend, and return the exit code; None for anything else, which is a bug."""
    from triptych.callbacks.divergence import Diverged
    from triptych.device import lacking_memory
    from triptych.run import OutOfSpace, UserError

    if lacking := lacking_memory(error):
        message, code = f"error: {lacking}", 2
    elif isinstance(error, UserError):
        message, code = f"{harmless(_bug(error))}error: {harmless(error)}", 2
    elif isinstance(error, Diverged):
        message, code = f"Diverged: {harmless(error)}", 1
    elif isinstance(error, OutOfSpace):
        message, code = f"error: nothing more could be written: {error}; make room, then go on", 1
    else:
        return None
    if speaks_for_machine():
        print(message, file=sys.stderr)
    return code
