"""Write the section on streaming of docs/performance.md: python -m benchmarks.streaming --output docs/performance.md.

Trains the pneumonia experiment on synthetic X-rays: on far more than fits in memory, and in memory and from disk. Needs
Linux, whose /proc shows the memory of a run and its workers together.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.markdown import PERFORMANCE, REPOSITORY, last_commit, page, table
from PIL import Image

from triptych.data.sources import write_atomically
from triptych.data.stored import StoredImages
from triptych.data.xrays import XrayDataModule

TITLE = "Streaming"
DISTINCT = 500
"""Number of images that are drawn; the other files are links to them, as only their decoded size matters here."""
SOURCE = 256
"""Side of these images in pixels."""
MEMORY = "data.in_memory=true"
DISK = "data.in_memory=false"
CONDITIONS = ((MEMORY, 0), (DISK, 0), (DISK, 1), (DISK, 2))
EPOCHS, STEPS = 3, 15
EPOCH = re.compile(r"epoch \d+\S* +([\d.]+) s")


@dataclass(frozen=True)
class Rate:
    """Rates of one setting: ``steps`` per second in training, and ``warm``, X-rays per second of the loader alone.

    ``cold`` is the latter with nothing of the file in the page cache; None if nothing is on disk.
    """

    where: str
    workers: int
    steps: float
    warm: float
    cold: float | None


@dataclass(frozen=True)
class Large:
    """A run on more than fits in memory: decoded GB of 10**9 bytes, and peak memory in MB of 2**20 bytes.

    It ``decodes`` the X-rays itself unless an earlier run left them in the cache.
    """

    xrays: int
    side: int
    gigabytes: float
    steps: int
    decodes: bool
    own_peak: float
    total_peak: float


def write_xrays(root: Path, count: int) -> None:
    """Write this number of X-rays in Kaggle's layout below ``root``, one per patient, half of them with pneumonia."""
    rng = np.random.default_rng(0)
    first: list[Path] = []
    for number in range(count):
        part, label = ("test" if number < 20 else "train"), ("NORMAL", "PNEUMONIA")[number % 2]
        path = root / XrayDataModule.slug / "chest_xray" / part / label / f"person{number}_bacteria_1.jpeg"
        if number < 22:
            path.parent.mkdir(parents=True, exist_ok=True)
        if number < DISTINCT:
            coarse = Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8))
            coarse.resize((SOURCE, SOURCE)).save(path)
            first.append(path)
        else:
            os.link(first[number % DISTINCT], path)


def _written(root: Path, count: int) -> Path:
    """Return the folder, filled with this number of X-rays unless an earlier measurement left them there."""
    if not root.exists():
        write_atomically(root, lambda aside: write_xrays(aside, count))
    return root


def measure_rates(work: Path, xrays: int, rounds: int) -> list[Rate]:
    """The rates of CONDITIONS at the experiment's own settings, measured in turn, as other programs run too."""
    root = _written(work / f"small-{xrays}", xrays)
    limits = [f"trainer.max_epochs={EPOCHS}", f"trainer.limit_train_batches={STEPS}", "trainer.limit_val_batches=1"]
    seconds: dict[tuple[str, int], list[float]] = {condition: [] for condition in CONDITIONS}
    for number in range(rounds):
        for memory, workers in CONDITIONS:
            run = work / f"run-{memory}-{workers}-{number}".replace("=", "-")
            _train(root, work, run, [memory, f"data.num_workers={workers}", "test=false", *limits])
            # The first epoch includes start-up.
            seconds[memory, workers] += [float(text) for text in EPOCH.findall((run / "train.log").read_text())[1:]]
    steps = {condition: STEPS / statistics.median(of_condition) for condition, of_condition in seconds.items()}
    return [
        Rate(memory, workers, steps[memory, workers], *_loader_rates(root, work, memory, workers))
        for memory, workers in CONDITIONS
    ]


def _loader_rates(root: Path, work: Path, memory: str, workers: int) -> tuple[float, float | None]:
    """X-rays per second of the training loader, from the page cache and with a cold cache."""
    in_memory = memory == MEMORY
    data = XrayDataModule(
        root=str(root), source="files", cache_dir=str(work / "cache"), num_workers=workers, in_memory=in_memory
    )
    data.setup()
    images = data.samples.images
    warm = statistics.median(_epoch(data) for _ in range(3))
    if not isinstance(images, StoredImages):
        return warm, None
    with images.path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return warm, _epoch(data)


def _epoch(data: XrayDataModule) -> float:
    started = time.perf_counter()
    count = sum(len(labels) for _, labels in data.train_dataloader())
    return count / (time.perf_counter() - started)


def measure_large(work: Path, xrays: int, side: int) -> Large:
    """Train on this number of X-rays of ``side`` pixels from disk, just long enough to cover each part of a run."""
    root, run = _written(work / f"large-{xrays}", xrays), work / "run-large"
    options = [DISK, "data.num_workers=1", f"data.image_size={side}", "data.batch_size=2", "data.eval_batch_size=2"]
    limits = ["max_epochs=1", "limit_train_batches=30", "limit_val_batches=5", "limit_test_batches=1.0"]
    decodes = not any((work / "cache").glob(f"xrays-{side}-*.npz"))
    total_peak = _train(root, work, run, [*options, *(f"trainer.{limit}" for limit in limits)], watched=True)
    said = json.loads((run / "metrics.json").read_text())
    gigabytes = xrays * side**2 / 1e9
    return Large(xrays, side, gigabytes, said["steps"], decodes, said["peak_memory_mb"], total_peak)


def _train(root: Path, work: Path, run: Path, overrides: Iterable[str], watched: bool = False) -> float:
    """Run the experiment; returns the peak memory of it and its workers together, in MB of 2**20 bytes.

    Only if ``watched``, else 0: to measure it, the kernel walks through all pages of a process, which slows it down.

    Raises:
        RuntimeError: the run failed.
    """
    places = [f"data.root={root}", f"data.cache_dir={work / 'cache'}", f"hydra.run.dir={run}"]
    # One thread: on cores that other programs use too, two would wait for each other.
    fixed = ["experiment=pneumonia", "data.source=files", "trainer=cpu", "threads=1"]
    command = [sys.executable, str(REPOSITORY / "train.py"), *fixed, *places, *overrides]
    print(" ".join(overrides), flush=True)
    shutil.rmtree(run, ignore_errors=True)
    with (work / "said").open("w+") as said:
        # Run there, as it leaves a link to the run in its working directory; both will be deleted.
        process = subprocess.Popen(command, cwd=work, stdout=said, stderr=subprocess.STDOUT)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _memory(process.pid) if watched else 0.0)
            time.sleep(0.5)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}:\n{said.read()[-3000:]}")
    return peak


def _memory(pid: int) -> float:
    """Resident memory of a process and its descendants, in MB of 2**20 bytes; shared pages count once.

    Of file-backed pages, mostly libraries, only the process's own count: its workers map the same files.
    """
    return (_kib(Path("/proc", str(pid), "status"), "RssFile") + _anonymous(pid)) / 1024


def _anonymous(pid: int) -> int:
    """KiB of pages without a file of a process and its descendants; each counts its share of a shared page (PSS)."""
    own = _kib(Path("/proc", str(pid), "smaps_rollup"), "Pss_Anon|Pss_Shmem")
    try:
        children = [
            child for path in Path("/proc", str(pid)).glob("task/*/children") for child in path.read_text().split()
        ]
    except OSError:  # it has ended
        children = []
    return own + sum(_anonymous(int(child)) for child in children)


def _kib(path: Path, fields: str) -> int:
    """The sum of these fields in KiB, or 0 if the process has ended."""
    try:
        return sum(map(int, re.findall(rf"^(?:{fields}): *(\d+) kB", path.read_text(), re.MULTILINE)))
    except OSError:
        return 0


def section(rates: Sequence[Rate], large: Large, commit: str, cores: int) -> str:
    """The section of the page, in Markdown."""
    base = rates[0]
    rows = [
        [
            f"`{rate.where}`",
            str(rate.workers),
            f"{rate.steps:.2f}",
            f"{rate.steps / base.steps:.0%}",
            f"{rate.warm:,.0f}",
            "" if rate.cold is None else f"{rate.cold:,.0f}",
        ]
        for rate in rates
    ]
    header = ["images", "workers", "steps a second", "of in memory", "X-rays a second, no network", "cold"]
    figures = [
        ("X-rays", f"{large.xrays:,} of {large.side} x {large.side} pixels"),
        ("decoded", f"{large.gigabytes:.1f} GB"),
        ("decoding", "in this run" if large.decodes else "in a run before it"),
        ("steps", f"{large.steps:,}"),
        ("peak of the run", f"{large.own_peak:,.0f} MB"),
        ("peak of the run and its worker, seen twice a second", f"{large.total_peak:,.0f} MB"),
    ]
    return f"""\
Generated by `make bench-streaming` at {commit}, on {cores} CPU cores shared with other programs.

`data.in_memory=false` keeps the decoded images in one file in `data.cache_dir` and reads each batch from it on demand.
The runs are `experiment=pneumonia` with its own settings, in batches of 64 X-rays of 80 x 80 pixels. The last two
columns are the throughput of the loader alone, with the file in the page cache and with a cold cache. Steps a second
vary by more than half with the load from other programs, so they only show the order of magnitude.

{table(header, rows)}

More data than fits in memory: the same experiment with its network and its figures, in batches of 2 with one worker,
for a few steps of training, validation and testing. Peaks are of resident memory in MB of 2^20 bytes, PyTorch
included.

{table(("a run from disk", "figure"), figures)}
"""


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write the section of the page."""
    parser = argparse.ArgumentParser(description="Write the part on streaming of the page on performance.")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--work", type=Path, metavar="FOLDER", help="keeps the X-rays there; default: a temporary folder"
    )
    parser.add_argument("--xrays", type=int, default=80_000, metavar="N", help="of the large set (%(default)s)")
    parser.add_argument("--side", type=int, default=512, metavar="PIXELS", help="of its X-rays (%(default)s)")
    parser.add_argument("--small", type=int, default=3000, metavar="N", help="X-rays of the small set (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="runs of each setting (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            work, needed = (options.work or Path(folder)).absolute(), options.xrays * options.side**2
            work.mkdir(parents=True, exist_ok=True)
            if (free := shutil.disk_usage(work).free) < 1.2 * needed:
                raise RuntimeError(f"{work} has {free:,} bytes free for {needed:,}: choose --work, or fewer --xrays")
            large = measure_large(work, options.xrays, options.side)
            rates = measure_rates(work, options.small, options.rounds)
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    old = options.output.read_text("utf-8") if options.output.exists() else ""
    text = section(rates, large, last_commit(), os.cpu_count() or 1)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page(PERFORMANCE, old, TITLE, text), "utf-8")
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
