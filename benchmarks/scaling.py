"""Measure how the cost of an epoch grows: python -m benchmarks.scaling --output docs/performance.md.

Trains for a few epochs with one setting increased step by step, each run a ``train.py`` of its own on synthetic data,
and plots seconds and memory of an epoch over it.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.markdown import PERFORMANCE, last_commit, page, table
from benchmarks.pace import EXPERIMENTS
from benchmarks.start_up import seconds_until
from matplotlib.figure import Figure

TITLE = "How cost grows"
EPOCHS = 3
COMMON = (
    "data.source=synthetic",
    "test=false",
    "logger=none",
    "~callbacks.figures",
    "trainer.limit_val_batches=1",
    f"trainer.max_epochs={EPOCHS}",
    "trainer.accelerator=cpu",
)


@dataclass(frozen=True)
class Axis:
    """One setting that is increased.

    Attributes:
        name: its name in the plot and the table.
        key: its key in the config.
        values: its values, ascending.
        overrides: the run in which it is varied.
        why: why the curve is not a straight line through zero.
    """

    name: str
    key: str
    values: tuple[int, ...]
    overrides: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Cost:
    """Seconds of the fastest epoch after the first, and the run's peak resident memory in MB of 2^20 bytes."""

    seconds: float
    memory: float


XRAYS = ("experiment=pneumonia", "trainer.limit_train_batches=12")
AXES = [
    Axis(
        "training samples",
        "data.train_size",
        (600, 1200, 2400, 4800),  # all synthetic samples
        ("experiment=housing", "model=mlp", "data.batch_size=256", "threads=1"),
        "the end of an epoch (a validation batch, two checkpoints) costs the same whatever its length",
    ),
    Axis(
        "image side, pixels",
        "data.image_size",
        (32, 64, 96, 128),
        (*XRAYS, "threads=1"),
        "work grows with the square of the side, but the optimizer's depends on neither side nor batch size",
    ),
    Axis(
        "network width, channels",
        "model.network.width",
        (4, 8, 16, 32),
        (*XRAYS, "model.network.max_width=256", "threads=1"),
        "convolutions grow with the square of the width; reading and writing feature maps, and preparing the images, "
        "with the width or not at all",
    ),
    Axis(
        "loader workers",
        "data.num_workers",
        (0, 1, 2),
        (*XRAYS, "threads=1"),
        "data in memory are gathered faster than a worker can hand them over; workers help where files must be read",
    ),
    Axis(
        "processes",
        "trainer.devices",
        (1, 2, 4),
        (*XRAYS, "trainer=ddp", "threads=1"),
        "the same batches are split among more processes: time falls until they outnumber the cores, and each step "
        "waits for the gradients of the slowest",
    ),
]


def measure(overrides: tuple[str, ...], folder: Path) -> Cost:
    """Train for a few epochs.

    Raises:
        RuntimeError: the run did not complete all epochs.
    """
    signs = [f"epoch {number}/" for number in range(1, EPOCHS + 1)]
    # Run in the parent folder, as the run leaves a link to itself below logs/.
    ends = seconds_until([*overrides, f"hydra.run.dir={folder}"], folder.parent, signs)
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    return Cost(float(np.diff(ends).min()), float(metrics["peak_memory_mb"]))


def draw(found: dict[Axis, list[Cost]]) -> Figure:
    """Plot seconds and memory over each axis; where work grows, with the line through zero and the last point."""
    figure = Figure(figsize=(3.2 * len(found), 5.4), layout="constrained")
    grid = figure.subplots(2, len(found), squeeze=False)
    for (above, below), (axis, costs) in zip(grid.T, found.items(), strict=True):
        seconds = [cost.seconds for cost in costs]
        above.plot(axis.values, seconds, marker="o")
        if axis.key not in ("data.num_workers", "trainer.devices"):
            above.plot([0, axis.values[-1]], [0, seconds[-1]], linestyle=":", color="grey")
        below.plot(axis.values, [cost.memory for cost in costs], marker="o", color="tab:orange")
        above.set_title(axis.name)
        for plot in (above, below):
            plot.set_ylim(0, 1.1 * plot.get_ylim()[1])
            plot.set_xlim(left=0 if axis.values[0] else None)
            plot.set_xticks(axis.values, [f"{value:,}" for value in axis.values], fontsize="small")
        below.set_xlabel(axis.key)
    grid[0][0].set_ylabel("seconds an epoch")
    grid[1][0].set_ylabel("peak memory, MB")
    return figure


def section(found: dict[Axis, list[Cost]], picture: str, commit: str) -> str:
    """The section of the page, in Markdown."""
    rows = []
    for axis, costs in found.items():
        run = " ".join(part for part in axis.overrides if not part.startswith(("trainer.limit", "threads")))
        rows.append(
            [
                f"{axis.name} (`{axis.key}`, {run})",
                ", ".join(f"{value:,}" for value in axis.values),
                ", ".join(f"{cost.seconds:.2f}" for cost in costs),
                ", ".join(f"{cost.memory:,.0f}" for cost in costs),
            ]
        )
    header = ["what grows", "its values", "seconds an epoch", "peak memory, MB"]
    reasons = "\n".join(f"- *{axis.name}*: {axis.why}." for axis in found)
    return f"""\
Generated by `make bench-scaling` at {commit}: one run per point, on synthetic data, with one thread per process. Why
the seconds do not lie on a straight line through zero (dotted, through the last point):

{reasons}

{table(header, rows)}

![Seconds and memory of an epoch over samples, image side, width, workers and processes]({picture})"""


def main(arguments: list[str] | None = None) -> None:
    """Measure, plot, and write the section of the page."""
    parser = argparse.ArgumentParser(description="Measure how the cost of an epoch grows and write it into a page.")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    found: dict[Axis, list[Cost]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for axis in AXES:
            if axis.overrides[0].partition("=")[2] not in EXPERIMENTS:
                continue
            costs = []
            for value in axis.values:
                folder = Path(scratch) / f"{axis.key}-{value}"
                costs.append(measure((*axis.overrides, *COMMON, f"{axis.key}={value}"), folder))
                print(f"{axis.key}={value}: {costs[-1].seconds:.2f} s, {costs[-1].memory:,.0f} MB", flush=True)
            found[axis] = costs
    picture = options.output.parent / "images" / "scaling.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw(found).savefig(picture)
    old = options.output.read_text("utf-8") if options.output.exists() else ""
    text = section(found, "images/scaling.png", last_commit())
    options.output.write_text(page(PERFORMANCE, old, TITLE, text), "utf-8")
    print(f"wrote {options.output} and {picture}")


if __name__ == "__main__":
    main()
