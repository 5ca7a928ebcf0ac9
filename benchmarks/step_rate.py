"""How many steps a second a run makes, beside a bare PyTorch loop and beside the way it is usually written.

All three train the same network on the same data with the same loss, augmentation, optimizer, schedule, clipping and
precision. Their turns alternate within one process, so that what else the machine does falls on all of them.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from benchmarks.pace import CLOCK, EXPERIMENTS, SHORT, Pace, Parts, composed, ours, unseen
from benchmarks.usual import usual

from triptych.build import build
from triptych.terminal import quiet_lightning


def bare(parts: Parts, folder: Path) -> Pace:
    """Seconds a step of a loop as one writes it by hand: slices of a permutation, and nothing is measured or kept."""
    model, datamodule = parts.model().train(), parts.datamodule
    dataset: Any = datamodule.datasets["train"]
    size, steps = parts.settings["data"]["batch_size"], parts.steps
    clip = parts.settings["trainer"]["gradient_clip_val"]
    precision = parts.trainer(folder).precision_plugin
    optimizer = model.make_optimizer()
    length = {"T_max": 10 * steps, "total_steps": 10 * steps, "max_lr": parts.settings["optimizer"]["lr"]}
    schedule = {key: length.get(key, value) for key, value in parts.settings["scheduler"].items() if key != "interval"}
    scheduler = build(schedule, optimizer, kinds=(torch.optim.lr_scheduler.LRScheduler,))
    epochs = []
    for _ in range(3):
        order = torch.randperm(len(dataset))
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
        epochs.append((time.perf_counter() - began) / steps)
    return Pace(statistics.median(epochs[1:]), epoch_end=0.0, warm_up=epochs[0] - statistics.median(epochs[1:]))


def measure(experiment: str, rounds: int, *overrides: str) -> dict[str, list[Pace]]:
    """Let the three take turns, so many rounds; what each took in each."""
    config = composed(f"experiment={experiment}", *SHORT.get(experiment, ()), *overrides, CLOCK)
    with unseen():
        parts = Parts.of(config)
    turns: dict[str, Callable[[Path], Pace]] = {
        "bare loop": lambda folder: bare(parts, folder),
        "triptych": lambda folder: ours(config, folder),
        "as usual": lambda folder: usual(parts, folder),
    }
    found: dict[str, list[Pace]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            with TemporaryDirectory() as folder, unseen(), quiet_lightning():
                found[name].append(turn(Path(folder)))
    return found


def rows(rounds: int, threads: int) -> Iterator[list[str]]:
    """A row for each task and way: both, milliseconds a step, share of the bare loop's rate, an epoch's end."""
    torch.set_num_threads(threads)
    for experiment in EXPERIMENTS:
        found = measure(experiment, rounds, f"threads={threads}")
        network = [override for override in SHORT.get(experiment, ()) if override.startswith("model=")]
        for way, paces in found.items():
            shares = [bare.step / pace.step for bare, pace in zip(found["bare loop"], paces, strict=True)]
            spread = "" if way == "bare loop" else f" ({min(shares):.2f} to {max(shares):.2f})"
            end = statistics.median(pace.epoch_end for pace in paces)
            yield [
                " ".join([f"experiment={experiment}", *network]),
                way,
                f"{1000 * statistics.median(pace.step for pace in paces):.2f}",
                f"{statistics.median(shares):.2f}{spread}",
                "" if way == "bare loop" else f"{1000 * end:.0f}",
            ]
