"""Finished runs: their directories, metrics, pictures, and the way back from a directory to a trained model."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.results.checkpoints import refuse_bomb
from triptych.results.directory import METRICS, find_run, read_metrics
from triptych.results.saved_config import read_config


@dataclass(frozen=True)
class Run:
    """A trained network with what belongs to it.

    Attributes:
        directory: the run directory.
        config: the run's whole config, as plain dicts and lists.
        model: the LightningModule with its best weights, in evaluation mode, on the CPU.
        datamodule: the LightningDataModule as the run had it; call ``setup()`` to read the data.
    """

    directory: Path
    config: dict[str, Any]
    model: Any
    datamodule: Any


def load_run(run: str | Path, checkpoint: str = "best", trust: Iterable[str] = ()) -> Run:
    """Load a finished run from its directory, without running any code that the directory may hold.

    >>> run = load_run("latest")                          # doctest: +SKIP
    >>> run.model.predict(run.datamodule.examples(4)[0])  # doctest: +SKIP

    Args:
        run: a run directory, or ``latest`` for the newest of any experiment.
        checkpoint: ``best`` or ``last``.
        trust: packages of your own whose classes the run's config names.

    Raises:
        ValueError: there is no such run or checkpoint, or its config names a class that is not allowed.
    """
    from lightning.pytorch import LightningDataModule, LightningModule

    from triptych.build import build, resolve
    from triptych.build import trust as trust_packages

    trust_packages(trust)
    directory = find_run(str(run))
    path = directory / "checkpoints" / f"{checkpoint}.ckpt"
    if not path.is_file():
        raise ValueError(f"no checkpoint {path}: the run ended before its first one")
    config = read_config(directory, trains=False)
    data = config["data"]
    if (directory / METRICS).exists():
        # The data of the run, wherever TRIPTYCH_DATA points by now; never synthetic ones in place of files.
        data = data | _data_used(directory)
    datamodule = build(data, kinds=(LightningDataModule,))
    model_class: Any = resolve(config["model"]["_target_"], (LightningModule,))
    refuse_bomb(path)
    try:
        # A checkpoint can name a function of Lightning's that makes the model in its own way: none here.
        model = model_class.load_from_checkpoint(path, map_location="cpu", weights_only=True, _instantiator=None)
    except Exception as error:
        # Torch and zip errors of every kind, for a checkpoint of any origin.
        raise ValueError(f"{path} is no checkpoint of this run ({type(error).__name__}: {error})") from error
    return Run(directory, config, model.eval(), datamodule)


def _data_used(directory: Path) -> dict[str, str]:
    """Where the data of a run lay and what they were, as its ``metrics.json`` tells."""
    used = read_metrics(directory).get("data")
    root, source = (used.get(name) if isinstance(used, dict) else None for name in ("root", "source"))
    # Never ``kaggle``: what was downloaded then lies in files.
    if not isinstance(root, str) or source not in ("files", "synthetic"):
        raise ValueError(f"{directory / METRICS} does not say what data the run had: it is damaged")
    return {"root": str(Path(root).parent), "source": source}
