"""How many steps a second a run makes on a GPU, beside a loop written by hand with the same tricks.

The samples of both lie on the GPU, and both compute in bfloat16, each network as it is and compiled to CUDA graphs.
"""

import statistics
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.pace import EXPERIMENTS, Parts, composed, many, short, spread, title, unseen
from benchmarks.step_rate import bare, measure
from torch.profiler import ProfilerActivity, profile

LONGER = {
    "housing": ("trainer.max_epochs=8",),
    "denoise": ("trainer.max_epochs=3", "trainer.limit_train_batches=100"),
    "pneumonia": ("trainer.max_epochs=4",),
}
"""Epochs of some seconds together, where steps are short."""
COMMON = ("trainer=gpu", "trainer.precision=bf16-mixed", "trainer.limit_val_batches=1")
"""Pages of many sizes would each be compiled for validation."""
TRICKS = {
    "bfloat16": ("trainer.compile=false", ("bare loop", "triptych", "as usual")),
    "bfloat16, CUDA graphs": ("trainer.compile=reduce-overhead", ("bare loop", "triptych")),
}
"""What asks for each, and the ways that know it."""
PROFILED = ("trainer.max_epochs=3", "trainer.limit_train_batches=20")


def busy(experiment: str, *overrides: str) -> float:
    """Seconds a step in which the GPU computes or copies, in the loop written by hand, by torch's profiler."""
    with TemporaryDirectory() as folder, unseen():
        parts = Parts.of(composed(f"experiment={experiment}", *short(experiment), *overrides, *PROFILED))
        if parts.settings["trainer"]["compile"]:
            bare(parts, Path(folder))  # compiles
        with profile(activities=[ProfilerActivity.CUDA]) as found:
            bare(parts, Path(folder))
    # The optimizer's step is there once more as a whole.
    kernels = (event for event in found.key_averages() if not event.is_user_annotation)
    total = sum(event.self_device_time_total for event in kernels)
    return total / 1e6 / parts.epochs / parts.steps


def rows(rounds: int) -> Iterator[list[str]]:
    """A row for each trick, task and way: milliseconds a step, share of the loop's rate, utilisation, memory."""
    for trick, (compile_mode, ways) in TRICKS.items():
        for experiment in EXPERIMENTS:
            data = many(experiment) if experiment == "pneumonia" else ()
            given = (*data, *COMMON, compile_mode, *LONGER.get(experiment, ()))
            found = measure(experiment, rounds, *given, ways=ways)
            computing = busy(experiment, *given)
            for way, paces in found.items():
                step = statistics.median(pace.step for pace in paces)
                shares = [one.step / pace.step for one, pace in zip(found["bare loop"], paces, strict=True)]
                yield [
                    title(experiment),
                    trick,
                    way,
                    f"{1000 * step:.2f}",
                    "1.00" if way == "bare loop" else spread(shares),
                    f"{computing / step:.0%}",
                    f"{max(pace.memory or 0 for pace in paces):.0f}",
                ]
