"""Measure a run's steps per second, beside a bare PyTorch loop and usual Lightning code.

All three train the same network on the same data with the same loss, augmentation, optimizer, schedule, clipping and
precision. They alternate within one process, so that other load on the machine affects all of them.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from benchmarks.pace import (
    CLOCK,
    EXPERIMENTS,
    Pace,
    Parts,
    composed,
    run_triptych,
    short,
    spread,
    suppress_output,
    synchronize,
    title,
)
from benchmarks.usual import usual

from triptych.build import build
from triptych.data.datasets import ArrayDataset
from triptych.data.device_placement import place_on_device
from triptych.device import training_device
from triptych.results.memory import peak_memory, reset_peak_memory
from triptych.terminal import quiet_lightning
from triptych.trainer import compiled


def bare(parts: Parts, folder: Path) -> Pace:
    """The pace of a hand-written loop: slices of a permutation, and nothing is measured or saved.

    On a GPU the samples are in its memory, and the loop itself synchronises only at the end of an epoch.
    """
    trainer = parts.trainer(folder)
    device, precision = trainer.strategy.root_device, trainer.precision_plugin
    model, datamodule = parts.model().train().to(device), parts.datamodule
    dataset: Any = place_on_device(datamodule.datasets["train"], device, True)
    size, steps = parts.settings["data"]["batch_size"], parts.steps
    clip = parts.settings["trainer"]["gradient_clip_val"]
    optimizer = model.make_optimizer()
    whole = parts.epochs * steps
    length = {"T_max": whole, "total_steps": whole, "max_lr": parts.settings["optimizer"]["lr"]}
    schedule = {key: length.get(key, value) for key, value in parts.settings["scheduler"].items() if key != "interval"}
    scheduler = build(schedule, optimizer, kinds=(torch.optim.lr_scheduler.LRScheduler,))
    seconds = []
    with compiled(model.network, parts.settings["trainer"]["compile"]):
        for _ in range(parts.epochs):
            order = torch.randperm(len(dataset), device=device if isinstance(dataset, ArrayDataset) else "cpu")
            began = time.perf_counter()
            for step in range(steps):
                batch = dataset.__getitems__(order[step * size : (step + 1) * size])
                inputs, targets = datamodule.prepare_batch(batch, training=True)
                optimizer.zero_grad()
                with precision.forward_context():
                    loss = model.loss(model(inputs), targets)
                loss.backward()
                if clip:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
                optimizer.step()
                scheduler.step()
            synchronize(device)
            seconds.append((time.perf_counter() - began) / steps)
    return Pace(statistics.median(seconds[1:]), epoch_end=0.0, warm_up=seconds[0] - statistics.median(seconds[1:]))


WAYS = ("bare loop", "triptych", "as usual")


def measure(experiment: str, rounds: int, *overrides: str, ways: Sequence[str] = WAYS) -> dict[str, list[Pace]]:
    """Run the ways in turn for the given number of rounds; returns the paces of each way, one per round."""
    config = composed(f"experiment={experiment}", *short(experiment), CLOCK, *overrides)
    device = training_device(config.trainer.accelerator)
    with suppress_output():
        parts = Parts.of(config)
    turns: dict[str, Callable[[Path], Pace]] = {
        "bare loop": lambda folder: bare(parts, folder),
        "triptych": lambda folder: run_triptych(config, folder),
        "as usual": lambda folder: usual(parts, folder),
    }
    found: dict[str, list[Pace]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name in ways:
            reset_peak_memory(device)
            with TemporaryDirectory() as folder, suppress_output(), quiet_lightning():
                pace = turns[name](Path(folder))
            found[name].append(replace(pace, memory=peak_memory(device)))
    return found


def rows(rounds: int, threads: int) -> Iterator[list[str]]:
    """A row per task and way: both names, ms per step, share of the bare loop's rate, ms of an epoch's end."""
    torch.set_num_threads(threads)
    for experiment in EXPERIMENTS:
        found = measure(experiment, rounds, "trainer=cpu", f"threads={threads}")
        for way, paces in found.items():
            shares = [bare.step / pace.step for bare, pace in zip(found["bare loop"], paces, strict=True)]
            end = statistics.median(pace.epoch_end for pace in paces)
            yield [
                title(experiment),
                way,
                f"{1000 * statistics.median(pace.step for pace in paces):.2f}",
                "1.00" if way == "bare loop" else spread(shares),
                "" if way == "bare loop" else f"{1000 * end:.0f}",
            ]
