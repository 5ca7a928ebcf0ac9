"""Run one experiment: build its parts, fit, test and write the results."""

import errno
import logging
import os
import shlex
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import LambdaCallback, WeightAveraging
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf

from triptych.build import build, trust
from triptych.callbacks.bookkeeping import Bookkeeping, Start
from triptych.callbacks.checkpoint_paths import CheckpointPaths
from triptych.callbacks.divergence import Diverged
from triptych.callbacks.last_checkpoint import restore_best
from triptych.callbacks.stopping import StopTogether
from triptych.checkpoint_io import UNFINISHED
from triptych.checks import check_before_training
from triptych.data.base import DataModule
from triptych.errors import OutOfSpace, UserError, user_errors
from triptych.loggers import build_loggers, log_hyperparameters
from triptych.models.base import Model
from triptych.results.checkout import read_code
from triptych.results.checkpoints import resumable
from triptych.results.directory import DONE, ERROR, METRICS, link_latest, resumed_steps, write_json
from triptych.results.history import History
from triptych.results.memory import memory_in_use, peak_memory, reset_peak_memory
from triptych.results.provenance import environment, provenance, record_start
from triptych.results.record import read_record
from triptych.results.summary import print_summary
from triptych.terminal import quiet_lightning
from triptych.trainer import build_trainer, compiled, disable_idle_hooks, exit_codes

log = logging.getLogger(__name__)

# With deterministic algorithms torch would also fill every new tensor with NaN, to expose uninitialised reads.
torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
if not torch.cuda.is_available():
    # Set by `import lightning`; without a GPU every optimizer step would then search for NVIDIA's NVML library.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)


def run(
    config: DictConfig,
    directory: Path,
    experiment: str,
    resume_from: Path | None = None,
    on_start: Callable[[], None] | None = None,
    fingerprint: str | None = None,
) -> dict[str, Any]:
    """Train, test and write ``metrics.json`` and ``DONE``.

    Args:
        config: the complete, composed config of the run.
        directory: the run directory.
        experiment: name of the experiment.
        resume_from: the checkpoint to resume from.
        on_start: called once training starts.
        fingerprint: the fingerprint that the data must have, for a run that reproduces another.

    Returns:
        The content of ``metrics.json``.

    Raises:
        UserError: the config, the data or the checkpoint cannot be used.
        Diverged: the loss became NaN or infinite.
        OutOfSpace: a file could not be written for lack of space.
        SystemExit: 130 after Ctrl-C, 143 after SIGTERM; a checkpoint has been saved.
    """
    began = time.perf_counter()
    memory_at_start = memory_in_use(torch.device("cpu"))
    if rank_zero_only.rank:  # type: ignore[attr-defined]
        # Only rank 0 of a distributed run logs.
        logging.getLogger(__package__).setLevel(logging.ERROR)
    # Read now: the source files may be edited before the run ends.
    code = None if rank_zero_only.rank else read_code()  # type: ignore[attr-defined]
    directory.mkdir(parents=True, exist_ok=True)
    # The config was read back from a run directory, which is untrusted: its values may be of any type.
    saved = on_start is not None or fingerprint is not None
    with quiet_lightning(), user_errors(saved):
        settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        settings = {"callbacks": {}, "logger": {}} | settings  # keys that ~callbacks and logger=[] remove
        trust(settings["packages"])
        start = Start.read(resume_from)
        threads = _set_threads(settings["threads"], start)
        seed_everything(settings["seed"], workers=True, verbose=False)
        log.info("%s: reading the data", experiment)
        datamodule: DataModule = build(settings["data"], kinds=(LightningDataModule,))
        datamodule.setup("fit")
        data = datamodule.describe()
        _check_fingerprint(data, fingerprint)
        model = _model(settings, datamodule)
        check_before_training(model, datamodule, settings)
        history = History(directory / "metrics.csv", start.step)
        loggers = [history, *build_loggers(settings["logger"], directory, start.step)]
        trainer = build_trainer(settings, directory, loggers, validates=data["sizes"]["val"] > 0)
        if resume_from and trainer.is_global_zero:
            restore_best(resume_from.parent, start.step)
    _prepare_processes(trainer, threads)
    device = trainer.strategy.root_device
    if device.type == "cuda":
        reset_peak_memory(device)
        memory_at_start = memory_in_use(device)
    if trainer.is_global_zero:
        link_latest(directory, experiment)
        for stale in (directory / "checkpoints").glob(f"*{UNFINISHED}"):
            stale.unlink()  # left by a run that was killed
    origin = environment(code, device)

    def record() -> None:
        record_start(directory, origin, code.patch if code else b"", resumed=resume_from is not None)
        if on_start:
            on_start()

    bookkeeping = Bookkeeping(directory, start, began, record)
    trainer.callbacks.append(bookkeeping)  # type: ignore[attr-defined]
    parameters = model.parameter_count()
    sizes = ", ".join(f"{name} {size}" for name, size in data["sizes"].items())
    log.info("%s data (%s), %s with %d weights, in %s", data["source"], sizes, _class(model), parameters, directory)

    with quiet_lightning(), explaining_how_to_resume(trainer, directory):
        with compiled(model.network, settings["trainer"].get("compile", False)):
            fit(trainer, model, datamodule, resume_from)
        # If nothing was left to train, Lightning has not counted the last epoch of the checkpoint as completed.
        epochs: Any = trainer.fit_loop.epoch_progress.current
        epochs.completed = epochs.processed
        if trainer.received_sigterm:
            raise SIGTERMException  # it arrived after Lightning's last check
        bookkeeping.begin()  # a no-op unless the run was killed after its last epoch
        test = _test(trainer, model, datamodule) if settings["test"] and data["sizes"]["test"] else None

    best = history.best(settings["monitor"], settings["mode"])
    log_hyperparameters(loggers, settings, best.get(settings["monitor"]), trainer.global_step)
    metrics = {
        "experiment": experiment,
        "monitor": settings["monitor"],
        "best": best,
        "test": test,
        "pruned": any(getattr(callback, "pruned", False) for callback in trainer.callbacks),  # type: ignore[attr-defined]
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "seconds": round(bookkeeping.seconds, 2),
        "memory_at_start_mb": memory_at_start,
        "peak_memory_mb": peak_memory(device, memory_at_start),
        "parameters": parameters,
        "data": data,
        "resumed": resumed_steps(directory),
        "seed": settings["seed"],
        "precision": str(trainer.precision),
        "command": read_record(directory).command,
        **provenance(directory, origin),
    }
    if trainer.is_global_zero:
        write_json(directory / METRICS, metrics)
        (directory / ERROR).unlink(missing_ok=True)
        (directory / DONE).touch()
        print_summary(metrics, directory)
    return metrics


def _set_threads(threads: int | None, start: Start) -> int | None:
    """Set the number of CPU threads, by default that of the run that is resumed; returns it, None if torch chooses."""
    threads = start.threads if threads is None else threads
    if threads is not None:
        if threads < 1:
            raise ValueError(f"threads={threads}: expected a number from 1, or null")
        torch.set_num_threads(threads)
    return threads


def _check_fingerprint(data: dict[str, Any], fingerprint: str | None) -> None:
    """Raise a ValueError if the data, as described, do not have the fingerprint; None accepts any."""
    if fingerprint not in (None, data["fingerprint"]):
        raise ValueError(
            f"the data in {data['root']} are not those of the run: their fingerprint is {data['fingerprint']}, "
            f"and was {fingerprint}; say with --root in which folder the run's data lie now"
        )


def _model(settings: dict[str, Any], datamodule: DataModule) -> Model:
    """Build the config's model with the arguments that its data provide; ValueError if it is made for other data."""
    arguments = {name: settings[name] for name in ("optimizer", "scheduler", "monitor")}
    from_data = datamodule.model_arguments()
    try:
        model: Model = build(settings["model"], kinds=(LightningModule,), **arguments, **from_data)
    except ValueError as error:
        lacks = "missing a required argument" in str(error)
        if not lacks and not any(f"'{name}'" in str(error) for name in from_data):
            raise
        source = f"which {type(datamodule).__name__} {'does not tell' if lacks else 'tells'}"
        raise ValueError(f"{error}, {source}: this model is for other data; choose another from conf/model") from error
    return model


def _prepare_processes(trainer: Trainer, threads: int | None) -> None:
    """Let several processes stop together, keep their random states, and have the configured number of threads."""
    if trainer.world_size > 1:
        StopTogether().attach(trainer)
        os.environ.pop("PL_GLOBAL_SEED", None)  # or Lightning would reseed from it once the processes have connected
    if threads is not None and isinstance(trainer.strategy, ParallelStrategy):
        os.environ["OMP_NUM_THREADS"] = str(threads)  # or Lightning would divide the cores among the processes


def fit(trainer: Trainer, model: Model, datamodule: DataModule, resume_from: Path | None) -> None:
    """Fit the model, starting from a checkpoint if there is one.

    Raises:
        UserError: the config is inconsistent, which shows by the end of the first batch, or the checkpoint is not one
            of this run.
    """
    started: list[int] = []
    if resume_from:
        trainer.callbacks.append(CheckpointPaths(resume_from.parent))  # type: ignore[attr-defined]
    batches = trainer.fit_loop.epoch_loop.batch_progress.total
    begin = LambdaCallback(on_train_start=lambda *_: started.append(batches.completed))
    trainer.callbacks.append(begin)  # type: ignore[attr-defined]
    disable_idle_hooks(trainer)
    try:
        trainer.fit(model, datamodule, ckpt_path=resume_from, weights_only=True)
    except MisconfigurationException as error:
        done = "current_epoch" in str(error)  # Lightning's message if the checkpoint has more epochs than asked for
        text = str(error).strip().replace("=None", "=null")  # as written on the command line
        raise UserError(f"{text}{' Ask for more: trainer.max_epochs=N' if done else ''}") from error
    except ValueError as error:
        if started and batches.completed > started[0]:
            raise
        raise UserError(str(error)) from error
    except (RuntimeError, TypeError, AttributeError, LookupError) as error:
        if resume_from is None or started:
            raise
        if "loading state_dict" in str(error):
            raise UserError(
                f"the weights in {resume_from} are not those of this network: a resumed run keeps its "
                "network; start a new run to change it"
            ) from error
        # Many classes restore their state here, and each raises its own error for a state that does not fit.
        raise UserError(f"{resume_from} is not a checkpoint of this run ({type(error).__name__}: {error})") from error


@contextmanager
def explaining_how_to_resume(trainer: Trainer, directory: Path) -> Iterator[None]:
    """Turn an interruption into its exit code, and log for it and for any crash how to resume the run.

    Raises:
        OutOfSpace: a file could not be written for lack of space.
    """
    try:
        with exit_codes(trainer):
            yield
    except UserError:
        raise
    except BaseException as error:
        what = "Interrupted" if isinstance(error, SystemExit) else "Stopped"
        checkpoint, _ = resumable(directory)
        saved = "the start" if checkpoint is None else f"step {Start.read(checkpoint).step}"
        more = " with other settings, such as optimizer.lr=..." if isinstance(error, Diverged) else ""
        how = f"python train.py {shlex.quote(f'resume={directory}')}{more}"
        log.warning("%s at step %d. Continue from %s with: %s", what, trainer.global_step, saved, how)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OutOfSpace(f"{error.filename or directory}: {error.strerror}") from error
        raise


def _test(trainer: Trainer, model: Model, datamodule: DataModule) -> dict[str, float]:
    """Metrics on the test split of the best checkpoint, or of the current weights if none was saved."""
    best = getattr(trainer.checkpoint_callback, "best_model_path", "") or None
    # The checkpoint's weights are the averaged ones, which were validated; beside them it holds those being trained,
    # which this callback would load instead.
    trainer.callbacks = [one for one in trainer.callbacks if not isinstance(one, WeightAveraging)]  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*callbacks used to create the checkpoint need to be provided.*Averaging")
        results = trainer.test(model, datamodule, ckpt_path=best, weights_only=True, verbose=False)
    return dict(results[0]) if results else {}


def _class(model: Model) -> str:
    return type(model.network).__name__
