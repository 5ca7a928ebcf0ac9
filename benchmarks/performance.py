"""Write the page on what a run costs: python -m benchmarks.performance --output docs/performance.md.

Each section of the page is measured and written on its own; the other sections stay unchanged.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import torch
from benchmarks import compiling, on_gpu, start_up, step_rate
from benchmarks.markdown import PERFORMANCE, last_commit, page, table

from triptych.models.metric_buffer import MOST
from triptych.results.provenance import surroundings

STEPS = """\
The same network, data, loss, augmentation, optimizer, schedule, clipping and precision in three ways, which take turns
in one process, {rounds} rounds, on synthetic data in memory, with as many houses as California's table has:

- *bare loop*: as one writes it by hand, slices of a permutation; nothing is measured, logged or kept.
- *triptych*: `triptych.run`, as `train.py` calls it, with all that is on by default: metrics, checkpoints,
  loggers, a progress bar on a terminal, the watch for a loss that is no number.
- *as usual*: Lightning's Trainer on a `DataLoader` with default collation, metrics updated and logged in each step,
  checkpoints of the best and the last epoch, early stopping, TensorBoard and CSV loggers, Rich's progress bar.

{table}

The share is the bare loop's seconds a step over those of the way, the median of the rounds, with the least and most.
An epoch's end is from its last step to the next epoch's first, without validation: two checkpoints written to the disk
itself, metrics computed, curves written, and here a picture drawn, which the usual way does not do.

What a step pays for, and what makes it cheap:

- A batch is one gather from the arrays in memory (`__getitems__`), never 256 samples stacked one by one.
- Training metrics wait: up to {most} batches are measured as one, for an update costs the same whatever its size. The
  epoch's figures are those of every sample all the same, and a checkpoint keeps what still waits.
- Lightning hears of a metric once an epoch, not in each step or batch of validation; `train/loss_step` goes straight to
  the loggers, every `trainer.log_every_n_steps` steps.
- Steps are written out and follow each other for as long as Lightning has nothing to do in between
  (`triptych.direct_steps`). Lightning's own go through four closures, look through all callbacks for each hook, and ask
  behind each whether to validate, to stop or to log. Where they remain, as with several processes, what a callback
  does not do in a step is not called all the same (`triptych.trainer.spare_idle_hooks`).
- The losses of steps wait for TensorBoard's next write, once a second: the thread that writes, woken by each, would
  take turns with the steps under way.
- The progress bar is redrawn twice a second and hears of no step in between (`triptych.progress_bar`): each redraw
  holds up the step under way.
- Adam, AdamW and SGD run as one fused kernel; convolutions run channels-last.
- On a CPU a look at the loss costs nothing. On a GPU, where the host waits for the device, it comes every
  `trainer.log_every_n_steps` steps, behind the forward pass of a single process, when least is under way. Between two
  of them no step waits: the order of an epoch lies there beside its arrays, and networks send no numbers.

Measured on {cpu} with {threads}, torch {torch}, at {commit}.
"""

GPU = """\
The same three ways on one GPU, {rounds} rounds, in bfloat16, with the samples in its memory (`data.on_device`), and
once more with the network compiled to CUDA graphs (`trainer.compile=reduce-overhead`). A batch of validation an epoch,
and as many X-rays as make an epoch of 22 steps.

{table}

*At work*: the time of the bare loop's kernels and copies, by torch's profiler, as a share of the way's step. Memory is
the most that tensors took.

What the `_best` experiments reach on one GPU, in how many minutes, and in which precision, is in the [log](log.md).

Measured on {gpu}, torch {torch}, at {commit}.
"""

START = """\
Seconds from the command, the median of {rounds}, with warm caches of the disk and of the synthetic data, on {cpu} with
{cores} cores.

{table}

*Imports*: until the run says that it reads the data; mostly torch, Lightning, torchmetrics and torchvision, imported
once the command line has been checked. *Data*: until they are read and split and the network is made. *First step*:
until the run says that the epoch of this one step is over; its checkpoint and its picture come then.
"""


COMPILING = """\
The same runs with `trainer.compile=true`, which take turns with those without, {rounds} rounds. *Wait*: by how much the
first epoch and its validation take longer than those behind them; *again* with the kernels of an earlier run in
torch's cache.

{table}

*Even*: after how many steps the faster ones have made up for the wait. So it is off by default: it pays in long runs.
"""


def step_rates(rounds: int, threads: int) -> str:
    """The section on steps."""
    header = ["task", "way", "ms a step", "share of the bare loop's rate", "ms an epoch's end"]
    rows = table(header, step_rate.rows(rounds, threads))
    return STEPS.format(
        rounds=rounds,
        table=rows,
        most=MOST,
        cpu=_cpu(),
        threads="one thread" if threads == 1 else f"{threads} threads",
        torch=torch.__version__,
        commit=last_commit(),
    )


def on_one_gpu(rounds: int, threads: int) -> str:
    """The section on a GPU."""
    header = ["task", "tricks", "way", "ms a step", "share of the bare loop's rate", "at work", "memory, MB"]
    return GPU.format(
        rounds=rounds,
        table=table(header, on_gpu.rows(rounds)),
        gpu=torch.cuda.get_device_name(),
        torch=torch.__version__,
        commit=last_commit(),
    )


def start(rounds: int, threads: int) -> str:
    """The section on start-up."""
    header = ["command", "imports", "data", "first step", "all"]
    return START.format(rounds=rounds, table=table(header, start_up.rows(rounds)), cpu=_cpu(), cores=os.cpu_count())


def compiled(rounds: int, threads: int) -> str:
    """The section on torch.compile."""
    header = ["task", "ms a step", "compiled", "times as fast", "wait, s", "compiled", "again", "even after"]
    return COMPILING.format(rounds=rounds, table=table(header, compiling.rows(rounds, threads)))


def _cpu() -> str:
    return str(surroundings(None, torch.device("cpu"))["hardware"]["cpu"])


PARTS: dict[str, tuple[str, Callable[[int, int], str]]] = {
    "steps": ("Step rate", step_rates),
    "compile": ("Compiled networks", compiled),
    "start": ("Start", start),
    "gpu": ("On a GPU", on_one_gpu),
}


def main(arguments: list[str] | None = None) -> None:
    """Measure the sections asked for and write them into the page."""
    parser = argparse.ArgumentParser(description="Measure what a run costs and write it into a page.")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="steps, compile, start, gpu; all without")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (%(default)s)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    there = [name for name in PARTS if name != "gpu" or torch.cuda.is_available()]
    for name in options.parts or there:
        title, measure = PARTS[name]
        text = measure(options.rounds, options.threads)
        old = options.output.read_text("utf-8") if options.output.exists() else ""
        options.output.write_text(page(PERFORMANCE, old, title, text), "utf-8")
        print(f"wrote {title} into {options.output}")


if __name__ == "__main__":
    main()
