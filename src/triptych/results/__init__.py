"""Finished runs: their directories, metrics and reports, and ``load_run`` to load a trained model from one."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.results.checkpoints import refuse_bomb
from triptych.results.directory import METRICS, find_run, read_metrics
from triptych.results.saved_config import read_config


@dataclass(frozen=True)
class Run:
    """A trained model with its config and data.

    Attributes:
        directory: the run directory.
        config: the run's whole config, as plain dicts and lists.
        model: the LightningModule with the checkpoint's weights, in evaluation mode, on the CPU.
        datamodule: the LightningDataModule, configured as in the run; call ``setup()`` to read the data.
    """

    directory: Path
    config: dict[str, Any]
    model: Any
    datamodule: Any


def load_run(run: str | Path, checkpoint: str = "best", trust: Iterable[str] = ()) -> Run:
    """Load a run from its directory, without executing any code that the directory may contain.

    >>> run = load_run("latest")                          # doctest: +SKIP
    >>> run.model.predict(run.datamodule.examples(4)[0])  # doctest: +SKIP

    Args:
        run: a run directory, or ``latest`` for the newest of any experiment.
        checkpoint: ``best`` or ``last``.
        trust: your own packages whose classes the run's config may name.

    Raises:
        ValueError: there is no such run or checkpoint, one of its files is damaged, or its config names a class that is
            not allowed.
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
        # The data that the run used, wherever TRIPTYCH_DATA points now; synthetic data never replace missing files.
        data = data | _data_used(directory)
    datamodule = build(data, kinds=(LightningDataModule,))
    model_class: Any = resolve(config["model"]["_target_"], (LightningModule,))
    refuse_bomb(path)
    try:
        # An untrusted checkpoint can name an `_instantiator`, a function that builds the model: None overrides it.
        model = model_class.load_from_checkpoint(path, map_location="cpu", weights_only=True, _instantiator=None)
    except Exception as error:
        # An untrusted checkpoint can raise any error of torch or zipfile.
        raise ValueError(f"{path} is not a checkpoint of this run ({type(error).__name__}: {error})") from error
    return Run(directory, config, model.eval(), datamodule)


def _data_used(directory: Path) -> dict[str, str]:
    """Return the ``root`` and ``source`` of the data that a run used, according to its ``metrics.json``."""
    used = read_metrics(directory).get("data")
    root, source = (used.get(name) if isinstance(used, dict) else None for name in ("root", "source"))
    # ``kaggle`` does not occur: once downloaded, the data are recorded as ``files``.
    if not isinstance(root, str) or source not in ("files", "synthetic"):
        raise ValueError(f"{directory / METRICS} does not say what data the run had: it is damaged")
    return {"root": str(Path(root).parent), "source": source}
