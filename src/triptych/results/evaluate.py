"""Evaluate the best checkpoint of a run again, and compare with the metrics recorded in training."""

from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Trainer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from triptych.build import build
from triptych.precision import recorded_precision
from triptych.results import load_run
from triptych.results.record import read_record
from triptych.results.report.text import printable
from triptych.results.summary import format_number
from triptych.terminal import quiet_lightning
from triptych.trainer import exit_codes


def evaluate(run: str, split: str = "test", root: str | None = None, trust: Iterable[str] = ()) -> dict[str, float]:
    """Evaluate a run's best checkpoint, print its metrics beside those in ``metrics.json``, and return them.

    Args:
        run: a run directory or ``latest``.
        split: ``val`` or ``test``.
        root: folder of the data, if they have moved since training.
        trust: your own packages whose classes the run's config may name.

    Returns:
        the metrics by name, without the prefix ``val/`` or ``test/``.

    Raises:
        ValueError: there is no such run, the run has no such split, or the data are missing.
    """
    loaded = load_run(run, trust=trust)
    stored = read_record(loaded.directory)
    datamodule = loaded.datamodule
    if root is not None:
        datamodule = build(loaded.config["data"] | {"root": root, "source": "files"})
    datamodule.setup(split)
    if not datamodule.describe()["sizes"][split]:
        raise ValueError(f"the run has no {split} split (data.split={datamodule.split_rule})")
    # A run interrupted after its first epochs has a best checkpoint but no metrics.json yet.
    known_data = stored.metrics.get("data")
    if isinstance(known_data, dict) and known_data.get("fingerprint") != datamodule.describe()["fingerprint"]:
        print("The data are not those of the run: their fingerprints differ.")
    if (limit := _limit(loaded.config, split)) is not None:
        print(
            f"The run may have measured a part of the split (trainer.limit_{split}_batches={limit}); now all of it is."
        )
    with quiet_lightning():
        trainer = Trainer(
            devices=1,  # with several, each would see only a part of the split
            precision=recorded_precision(stored.metrics.get("precision")),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    with quiet_lightning(), exit_codes(trainer):
        # Each split by its own loop, as in training: a classifier's threshold is chosen on validation.
        measure = trainer.validate if split == "val" else trainer.test
        (metrics,) = measure(loaded.model, datamodule=datamodule, verbose=False)
    measured = {name.partition("/")[2]: value for name, value in metrics.items()}
    known = stored.test if split == "test" else stored.best

    table = Table(title=Text(f"{split} of {printable(loaded.directory.name)}"), box=None)
    for column in ("metric", "now", "in metrics.json"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, value in measured.items():
        table.add_row(name, format_number(value), format_number(known(f"{split}/{name}")))
    Console(highlight=False).print(table)
    return measured


def _limit(config: dict[str, Any], split: str) -> int | float | None:
    """Return the number (int) or share (float) of batches that the run evaluated; None if all."""
    trainer = config.get("trainer")
    limit = trainer.get(f"limit_{split}_batches") if isinstance(trainer, dict) else None
    # The int 1 is one batch, the float 1.0 is all of them.
    return limit if isinstance(limit, int) or (isinstance(limit, float) and limit != 1) else None
