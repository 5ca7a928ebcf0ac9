"""Measure the peak memory of predictions on very many or large inputs, compared with a hundredth of the input."""

import csv
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.markdown import REPOSITORY
from PIL import Image

PAGE, XRAY = 64, 80
"""Sides of the small pages and X-rays, in pixels."""
COLUMNS = {
    "longitude": (-124, -114),
    "latitude": (33, 42),
    "housing_median_age": (1, 52),
    "total_rooms": (1000, 5000),
    "total_bedrooms": (200, 900),
    "population": (300, 3000),
    "households": (100, 800),
    "median_income": (1, 12),
}
"""Kaggle's columns, without the price, with the range from which synthetic values are drawn."""


@dataclass(frozen=True)
class Task:
    """One kind of large prediction.

    Attributes:
        experiment: the experiment whose run predicts.
        size: the command-line option for the amount of input.
        usual: that option's default.
        text: what is predicted, with a placeholder for the size.
        write: writes inputs of a given size into an empty folder and returns the input for `triptych predict`.
        done: the size of what was predicted, read from the output folder.
        part: divides the size so that a hundredth of the input remains.
    """

    experiment: str
    size: str
    usual: int
    text: str
    write: Callable[[Path, int], Path]
    done: Callable[[Path], int]
    part: int = 100


@dataclass(frozen=True)
class Measured:
    """Cost of a prediction: its input in words, seconds, and peak resident memory in MB of 2**20 bytes."""

    text: str
    seconds: float
    peak: float
    small_peak: float


def write_pages(folder: Path, number: int) -> Path:
    """Write this number of small pages."""
    _write_images(folder, number, PAGE, "png")
    return folder


def write_xrays(folder: Path, number: int) -> Path:
    """Write this number of small X-rays."""
    _write_images(folder, number, XRAY, "jpeg")
    return folder


def _write_images(folder: Path, number: int, side: int, suffix: str) -> None:
    rng = np.random.default_rng(0)
    for index in range(number):
        pixels = rng.integers(0, 256, (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:06}.{suffix}")


def write_page(folder: Path, side: int) -> Path:
    """Write one page of ``side`` x ``side`` pixels."""
    block = np.random.default_rng(0).integers(0, 256, (500, 500), dtype=np.uint8)
    times = -(-side // len(block))
    Image.fromarray(np.tile(block, (times, times))[:side, :side]).save(folder / "page.png", compress_level=1)
    return folder


def write_rows(folder: Path, number: int) -> Path:
    """Write a CSV with this number of houses, all different."""
    rng = np.random.default_rng(0)
    low, high = np.array(list(COLUMNS.values())).T
    path = folder / "houses.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "ocean_proximity"])
        for _ in range(number):
            writer.writerow([*(f"{value:.4f}" for value in rng.uniform(low, high)), "INLAND"])
    return path


def pages_in(folder: Path) -> int:
    """The number of pages in the folder."""
    return sum(1 for _ in folder.glob("*.png"))


def side_of_page(folder: Path) -> int:
    """The shorter side of the page in the folder, in pixels."""
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(folder / "page.png") as page:
        return min(page.size)


def rows_in(folder: Path) -> int:
    """The number of predictions in the folder's table."""
    with (folder / "predictions.csv").open() as file:
        return sum(1 for _ in file) - 1


TASKS = (
    Task("denoise", "pages", 10_000, f"{{:,}} pages of {PAGE} x {PAGE} pixels", write_pages, pages_in),
    Task("denoise", "side", 10_000, "one page of {0:,} x {0:,} pixels", write_page, side_of_page, part=10),
    Task("pneumonia", "xrays", 10_000, f"{{:,}} X-rays of {XRAY} x {XRAY} pixels", write_xrays, rows_in),
    Task("housing", "rows", 1_000_000, "{:,} houses in a CSV", write_rows, rows_in),
)
HERE = [task for task in TASKS if (REPOSITORY / "conf" / "experiment" / f"{task.experiment}.yaml").exists()]
"""The tasks of the experiments that this copy of the project has kept."""


def train(experiment: str, work: Path) -> Path:
    """Train a network of the experiment's own size for a few steps on synthetic data; returns the run directory.

    Raises:
        RuntimeError: the run failed.
    """
    run = work / f"run-{experiment}"
    options = [f"experiment={experiment}", "debug=smoke", "trainer=cpu", f"data.cache_dir={work / 'cache'}"]
    _call([sys.executable, str(REPOSITORY / "train.py"), *options, f"hydra.run.dir={run}"], work)
    return run


def measure(task: Task, size: int, run: Path, work: Path) -> Measured:
    """Measure a prediction on inputs of this size, and one on a hundredth of them.

    Raises:
        RuntimeError: a prediction failed or was incomplete.
    """
    _, small_peak = _predict(task, max(1, size // task.part), run, work / f"{task.size}-small")
    seconds, peak = _predict(task, size, run, work / task.size)
    return Measured(task.text.format(size), seconds, peak, small_peak)


def _predict(task: Task, size: int, run: Path, work: Path) -> tuple[float, float]:
    """Seconds and peak memory in MB of one prediction."""
    inputs, output, peak = work / "inputs", work / "output", work / "peak"
    inputs.mkdir(parents=True)
    source = task.write(inputs, size)
    launch = [sys.executable, str(REPOSITORY / "benchmarks" / "peak_memory.py"), str(peak)]
    predict = [sys.executable, "-m", "triptych.cli", "predict", str(run), str(source), "--output", str(output)]
    started = time.perf_counter()
    _call([*launch, *predict], work)
    seconds = time.perf_counter() - started
    if (done := task.done(output)) != size:
        raise RuntimeError(f"predicted {task.text.format(done)} instead of {task.text.format(size)}")
    return seconds, int(peak.read_text()) / 1024


def _call(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {done.returncode}:\n{done.stdout[-3000:]}")
