"""Measure a finished run again."""

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
    """Print and return the metrics of a run's best checkpoint, beside those that its ``metrics.json`` holds.

    Args:
        run: a run directory or ``latest``.
        split: ``val`` or ``test``.
        root: where the data lie, if not where they lay in training.
        trust: packages of your own whose classes the run's config names.

    Raises:
        ValueError: there is no such run, or the data are not there.
    """
    loaded = load_run(run, trust=trust)
    stored = read_record(loaded.directory)
    datamodule = loaded.datamodule
    if root is not None:
        datamodule = build(loaded.config["data"] | {"root": root, "source": "files"})
    datamodule.setup(split)
    if not datamodule.describe()["sizes"][split]:
        raise ValueError(f"the run has no {split} split (data.split={datamodule.split_rule})")
    # A run that was interrupted behind its first epochs has a best checkpoint, and no metrics.json yet.
    known_data = stored.metrics.get("data")
    if isinstance(known_data, dict) and known_data.get("fingerprint") != datamodule.describe()["fingerprint"]:
        print("The data are not those of the run: their fingerprints differ.")
    if (limit := _limit(loaded.config, split)) is not None:
        print(
            f"The run may have measured a part of the split (trainer.limit_{split}_batches={limit}); now all of it is."
        )
    with quiet_lightning():
        trainer = Trainer(
            devices=1,  # of several each would measure a part of the split
            precision=recorded_precision(stored.metrics.get("precision")),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    with quiet_lightning(), exit_codes(trainer):
        # Each split as training measured it: validation is what a classifier's threshold is chosen on.
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
    """Of how many batches, or of which share of them, the run measured the split; None for all."""
    trainer = config.get("trainer")
    limit = trainer.get(f"limit_{split}_batches") if isinstance(trainer, dict) else None
    # One batch is 1, all are 1.0.
    return limit if isinstance(limit, int) or (isinstance(limit, float) and limit != 1) else None
