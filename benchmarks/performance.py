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

from triptych.models.metric_buffer import MAX_BATCHES
from triptych.results.provenance import environment

STEPS = """\
The same network, data, loss, augmentation, optimizer, schedule, clipping and precision, trained in three ways on
synthetic data in memory, with as many houses as California's table:

- *bare loop*: written by hand, with batches as slices of a permutation; nothing is measured, logged or saved.
- *triptych*: `triptych.run`, as `train.py` calls it, with everything that is on by default: metrics, checkpoints,
  loggers, a progress bar on a terminal, the check for a NaN or infinite loss.
- *as usual*: Lightning's Trainer on a `DataLoader` with default collation, metrics updated and logged in every step,
  checkpoints of the best and the last epoch, early stopping, TensorBoard and CSV loggers, Rich's progress bar.

{table}

The other two are run {rounds} times each, by turns of about {turn} s (at least a step) with the bare loop in the same
process, so that other programs affect both alike; the milliseconds are medians. The share is the bare loop's seconds a
step divided by those of the way, all turns of a run together: the median over the runs, with the least and the most.
What a way does in other threads slows the bare loop as well, most of all Rich's progress bar. An epoch's end lasts from
its last step to the next epoch's first, without validation: two checkpoints are flushed to disk, metrics computed,
curves written, and here a figure drawn, which the usual way does not do.

What a step costs, and what makes it cheap:

- A batch is one gather from the arrays in memory (`__getitems__`), never 256 samples stacked one by one.
- Training metrics are buffered: up to {most} batches, fewer if they are large, are measured as one, because an update
  costs nearly the same whatever its size. The epoch's metrics still cover every sample, and a checkpoint includes what
  is buffered.
- Metrics are passed to Lightning once an epoch, not in each step or batch of validation; `train/loss_step` goes
  straight to the loggers, every `trainer.log_every_n_steps` steps.
- Steps are written out and follow each other for as long as Lightning has nothing to do in between
  (`triptych.direct_steps`). Lightning's own pass through four closures, search all callbacks for each hook, and check
  after each step whether to validate, to stop or to log. Where Lightning's are used, as with several processes, hooks
  that a callback does not override are still skipped (`triptych.trainer.disable_idle_hooks`).
- The losses of steps are held back until TensorBoard's next write, once a second: the writer's thread, woken by each
  of them, would compete with the training steps.
- The progress bar is redrawn twice a second and is not updated in between (`triptych.progress_bar`): each redraw
  holds up the current step.
- Adam, AdamW and SGD run as one fused kernel; convolutions run channels-last.
- On a CPU, checking the loss costs nothing. On a GPU it makes the host wait for the device, so only losses that are
  logged are checked, with a single process right after the forward pass, when the least work is queued.
  Between two checks no step waits: an epoch's sample order lies on the GPU beside the arrays, and networks copy no
  constants to it.

Measured on {cpu} with {threads}, torch {torch}, at {commit}.
"""

GPU = """\
The same three ways on one GPU, one after another ({rounds} rounds), in bfloat16, with the samples in its memory
(`data.on_device`), and again with the network compiled to CUDA graphs (`trainer.compile=reduce-overhead`). Each epoch
has one validation batch; there are enough X-rays for 22 steps an epoch.

{table}

*At work*: the time of the bare loop's kernels and copies, measured by torch's profiler, as a share of the way's step.
Memory is the peak allocated to tensors.

What the `_best` experiments reach on one GPU, in how many minutes and at which precision, is in the [log](log.md).

Measured on {gpu}, torch {torch}, at {commit}.
"""

START = """\
Seconds since the command was started, the median of {rounds}, with the disk cache warm and the synthetic data already
generated, on {cpu} with {cores} cores.

{table}

*Imports*: until the run reports that it is reading the data; mostly torch, Lightning, torchmetrics and torchvision,
imported once the command line has been checked. *Data*: until the data are read and split and the network is built.
*First step*: until the run reports the end of its epoch of one step; the checkpoint and the figure follow.
"""


COMPILING = """\
The same runs with and without `trainer.compile=true`, in turn ({rounds} rounds). *Wait*: how much longer the first
epoch and its validation take than the later ones; *again*: the same with an earlier run's kernels in torch's cache.

{table}

*Even*: how many steps it takes to make up for the wait. Only long runs benefit, so compiling is off by default.
"""


def step_rates(rounds: int, threads: int) -> str:
    """The section on steps."""
    header = ["task", "way", "ms a step", "bare loop, ms", "share of its rate", "ms an epoch's end"]
    rows = table(header, step_rate.rows(rounds, threads))
    return STEPS.format(
        rounds=rounds,
        table=rows,
        turn=step_rate.TURN,
        most=MAX_BATCHES,
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
    return str(environment(None, torch.device("cpu"))["hardware"]["cpu"])


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
