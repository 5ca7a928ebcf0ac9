"""Measure a run's steps per second, beside a bare PyTorch loop and usual Lightning code.

All three train the same network on the same data with the same loss, augmentation, optimizer, schedule, clipping and
precision. They alternate within one process, so that other load on the machine affects all of them: on a CPU every few
steps, on a GPU by whole runs, because networks that are compiled to CUDA graphs, and peaks of memory, must not mix.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice, repeat
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
from lightning.pytorch import Callback, LightningModule, Trainer

from triptych.build import build
from triptych.data.datasets import ArrayDataset
from triptych.data.device_placement import place_on_device
from triptych.device import training_device
from triptych.results.memory import peak_memory, reset_peak_memory
from triptych.terminal import quiet_lightning
from triptych.trainer import compiled

WARM_UP = 6
"""Steps of the bare loop before it takes turns with a run."""
TURN = 0.05
"""Seconds that a turn lasts, roughly; at least one step."""


class BareLoop:
    """A hand-written loop: batches are slices of a permutation, and nothing is measured or saved.

    On a GPU the samples are in its memory, and no step synchronises.
    """

    def __init__(self, parts: Parts, folder: Path) -> None:
        trainer = parts.trainer(folder)
        self.device, self.precision = trainer.strategy.root_device, trainer.precision_plugin
        self.model, self.datamodule = parts.model().train().to(self.device), parts.datamodule
        self.dataset: Any = place_on_device(self.datamodule.datasets["train"], self.device, True)
        self.size, self.steps = parts.settings["data"]["batch_size"], parts.steps
        self.clip = parts.settings["trainer"]["gradient_clip_val"]
        self.optimizer = self.model.make_optimizer()
        whole = parts.epochs * parts.steps + WARM_UP
        length = {"T_max": whole, "total_steps": whole, "max_lr": parts.settings["optimizer"]["lr"]}
        schedule = {key: length.get(key, value) for key, value in parts.settings["scheduler"].items()}
        del schedule["interval"]
        self.scheduler = build(schedule, self.optimizer, kinds=(torch.optim.lr_scheduler.LRScheduler,))

    def epoch(self) -> Iterator[None]:
        """Train for an epoch, one step for each item that is taken."""
        device = self.device if isinstance(self.dataset, ArrayDataset) else "cpu"
        order = torch.randperm(len(self.dataset), device=device)
        for step in range(self.steps):
            batch = self.dataset.__getitems__(order[step * self.size : (step + 1) * self.size])
            inputs, targets = self.datamodule.prepare_batch(batch, training=True)
            self.optimizer.zero_grad()
            with self.precision.forward_context():
                loss = self.model.loss(self.model(inputs), targets)
            loss.backward()
            if self.clip:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()
            self.scheduler.step()
            yield


def bare(parts: Parts, folder: Path) -> Pace:
    """The pace of the hand-written loop on its own."""
    loop = BareLoop(parts, folder)
    seconds = []
    with compiled(loop.model.network, parts.settings["trainer"]["compile"]):
        for _ in range(parts.epochs):
            began = time.perf_counter()
            for _ in loop.epoch():
                pass
            synchronize(loop.device)
            seconds.append((time.perf_counter() - began) / loop.steps)
    return Pace(statistics.median(seconds[1:]), epoch_end=0.0, warm_up=seconds[0] - statistics.median(seconds[1:]))


class Turns(Callback):
    """Alternates a few steps of a run with as many of the bare loop, and times both.

    An epoch's first step is not timed, nor are those at its end that fill no turn.
    """

    parts: Parts
    """What the bare loop is built from; set before a run."""
    last: "Turns"

    def __init__(self) -> None:
        Turns.last = self
        with TemporaryDirectory() as folder:
            loop = BareLoop(self.parts, Path(folder))
        self.loop = chain.from_iterable(loop.epoch() for _ in repeat(None))
        half = WARM_UP // 2
        self._take(half)
        self.length = max(1, min(loop.steps - 1, round(half * TURN / self._take(half))))
        """Steps of a turn."""
        self.taken = 0
        """The run's steps in its current turn."""
        self.began = 0.0
        self.turns = 0
        self.seconds_of_run, self.seconds_of_loop = 0.0, 0.0

    def _take(self, steps: int) -> float:
        """Take steps of the bare loop; returns how many seconds they took."""
        began = time.perf_counter()
        for _ in islice(self.loop, steps):
            pass
        return time.perf_counter() - began

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx:
            self.taken += 1
            if self.taken < self.length:
                return
            self.seconds_of_run += time.perf_counter() - self.began
            self.seconds_of_loop += self._take(self.length)
            self.turns += 1
        self.taken, self.began = 0, time.perf_counter()

    def seconds_per_step(self) -> tuple[float, float]:
        """Seconds per step of the run and of the bare loop, over all turns."""
        steps = self.turns * self.length
        return self.seconds_of_run / steps, self.seconds_of_loop / steps


WAYS = ("bare loop", "triptych", "as usual")


def measure(experiment: str, rounds: int, *overrides: str, ways: Sequence[str] = WAYS) -> dict[str, list[Pace]]:
    """Run the ways one after another for the given number of rounds; returns the paces of each way, one per round."""
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


def measure_by_turns(experiment: str, rounds: int, *overrides: str) -> dict[str, list[tuple[Pace, float]]]:
    """Run each way but the bare loop by turns with it.

    Returns:
        For each way, one entry per round: its pace, and the bare loop's seconds per step.
    """
    turns = "+callbacks.turns={_target_: benchmarks.step_rate.Turns}"
    config = composed(f"experiment={experiment}", *short(experiment), CLOCK, turns, *overrides)
    with suppress_output():
        Turns.parts = Parts.of(config)
    ways: dict[str, Callable[[Path], Pace]] = {
        "triptych": lambda folder: run_triptych(config, folder),
        "as usual": lambda folder: usual(Turns.parts, folder, Turns()),
    }
    found: dict[str, list[tuple[Pace, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, train in ways.items():
            with TemporaryDirectory() as folder, suppress_output(), quiet_lightning():
                pace = train(Path(folder))
            of_run, of_loop = Turns.last.seconds_per_step()
            found[name].append((replace(pace, step=of_run), of_loop))
    return found


def rows(rounds: int, threads: int) -> Iterator[list[str]]:
    """A row per task and way: both names, ms per step, the bare loop's, share of its rate, ms of an epoch's end."""
    torch.set_num_threads(threads)
    for experiment in EXPERIMENTS:
        found = measure_by_turns(experiment, rounds, "trainer=cpu", f"threads={threads}")
        for way, paces in found.items():
            yield [
                title(experiment),
                way,
                f"{1000 * statistics.median(pace.step for pace, _ in paces):.2f}",
                f"{1000 * statistics.median(of_loop for _, of_loop in paces):.2f}",
                spread([of_loop / pace.step for pace, of_loop in paces]),
                f"{1000 * statistics.median(pace.epoch_end for pace, _ in paces):.0f}",
            ]
