"""Run a trained network on files that are not of its data set."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from triptych.results import load_run


def predict(run: str, source: Path, output: Path, trust: Iterable[str] = (), **options: Any) -> list[str]:
    """Predict what lies at ``source`` into the folder ``output``; returns a line for each input that was skipped.

    Args:
        run: a run directory or ``latest``.
        source: a file or folder of the kind that the run's task takes.
        output: a folder, made if missing.
        trust: packages of your own whose classes the run's config names.
        options: see ``predict_files`` of the run's DataModule.

    Raises:
        ValueError: there is no such run, nothing at ``source``, or a file where the folder should be.
    """
    loaded = load_run(run, trust=trust)
    if not source.exists():
        raise ValueError(f"nothing at {source}: expected a file or folder to predict")
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file: --output names a folder")
    output.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with torch.inference_mode():
        skipped = list(loaded.datamodule.predict_files(loaded.model, source, output, **options))
    print(f"wrote {output} in {time.perf_counter() - started:.1f} s")
    return skipped
