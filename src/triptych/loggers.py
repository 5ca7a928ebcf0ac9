"""The loggers of a run: TensorBoard, W&B, MLflow, or a user's own."""

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from triptych.build import build, resolve
from triptych.dotted import leaves


def build_loggers(configs: dict[str, Any], directory: Path, first_step: int) -> list[Logger]:
    """The loggers of the config, writing into the run directory.

    Raises:
        ValueError: a logger's package is not installed.
    """
    loggers = []
    for name, config in (configs or {}).items():
        more: dict[str, Any] = {"save_dir": str(directory)}
        if issubclass(resolve(config["_target_"], (Logger,)), TensorBoardLogger):
            # Hides what the run logged from this step on before it was interrupted.
            more["purge_step"] = first_step
        try:
            loggers.append(build(config, kinds=(Logger,), **more))
        except ModuleNotFoundError as error:
            raise ValueError(
                f"logger={name} needs a package that is not installed ({error}): `make setup EXTRAS={name}` adds it"
            ) from error
    return loggers


def log_hyperparameters(loggers: list[Logger], settings: dict[str, Any], score: float | None, step: int) -> None:
    """Log the hyperparameters, in TensorBoard's HParams tab beside the best monitored metric, and close the loggers."""
    groups = {name: settings[name] for name in ("data", "model", "optimizer", "scheduler")}
    groups |= {"seed": settings["seed"], "trainer.max_epochs": settings["trainer"]["max_epochs"]}
    knobs = {key: value if isinstance(value, int | float) else str(value) for key, value in leaves(groups)}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            # Under a name of its own, as under the monitor's it would be one more point of that curve. At the last
            # step, so that resuming the run replaces it.
            logger.log_hyperparams(knobs, {} if score is None else {f"best/{settings['monitor']}": score}, step)
        else:
            logger.log_hyperparams(knobs)
        logger.finalize("success")
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.close()
        if isinstance(logger, WandbLogger):
            # Or the next job of a sweep, in the same process, would log to this job's W&B run.
            logger.experiment.finish()
