"""Measure a run's steps per second on a GPU, beside a hand-written loop with the same tricks.

Both keep the samples in GPU memory and compute in bfloat16, with the network as it is and compiled to CUDA graphs.
"""

import statistics
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.pace import EXPERIMENTS, Parts, composed, large_data_overrides, short, spread, suppress_output, title
from benchmarks.step_rate import bare, measure
from torch.profiler import ProfilerActivity, profile

LONGER = {
    "housing": ("trainer.max_epochs=8",),
    "denoise": ("trainer.max_epochs=3", "trainer.limit_train_batches=100"),
    "pneumonia": ("trainer.max_epochs=4",),
}
"""Enough epochs for runs of several seconds, where steps are short."""
COMMON = ("trainer=gpu", "trainer.precision=bf16-mixed", "trainer.limit_val_batches=1")
"""One validation batch only: the network would be compiled again for every page size."""
TRICKS = {
    "bfloat16": ("trainer.compile=false", ("bare loop", "triptych", "as usual")),
    "bfloat16, CUDA graphs": ("trainer.compile=reduce-overhead", ("bare loop", "triptych")),
}
"""For each trick, the override that asks for it and the ways that support it."""
PROFILED = ("trainer.max_epochs=3", "trainer.limit_train_batches=20")


def gpu_seconds_per_step(experiment: str, *overrides: str) -> float:
    """Seconds per step in which the GPU computes or copies, in the hand-written loop, by torch's profiler."""
    with TemporaryDirectory() as folder, suppress_output():
        parts = Parts.of(composed(f"experiment={experiment}", *short(experiment), *overrides, *PROFILED))
        if parts.settings["trainer"]["compile"]:
            bare(parts, Path(folder))  # warm-up, which compiles
        with profile(activities=[ProfilerActivity.CUDA]) as found:
            bare(parts, Path(folder))
    # The profiler lists the optimizer's step once more as a whole.
    kernels = (event for event in found.key_averages() if not event.is_user_annotation)
    total = sum(event.self_device_time_total for event in kernels)
    return total / 1e6 / parts.epochs / parts.steps


def rows(rounds: int) -> Iterator[list[str]]:
    """A row per trick, task and way: ms per step, share of the bare loop's rate, utilisation, peak memory."""
    for trick, (compile_mode, ways) in TRICKS.items():
        for experiment in EXPERIMENTS:
            data = large_data_overrides(experiment) if experiment == "pneumonia" else ()
            given = (*data, *COMMON, compile_mode, *LONGER.get(experiment, ()))
            found = measure(experiment, rounds, *given, ways=ways)
            computing = gpu_seconds_per_step(experiment, *given)
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
