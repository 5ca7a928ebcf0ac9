"""Provenance of a run: the code, packages and machine with which it was started and resumed.

Each start of a run, the first and every resume, appends an entry to ``.hydra/started.json``. If the checkout has
uncommitted changes, their patch is saved beside it: ``code.patch`` for the first start, ``code-1.patch`` for the first
resume, and so on. In ``metrics.json``, the keys ``git``, ``lock``, ``versions``, ``device``, ``threads`` and
``hardware`` describe the first start. ``resumed_with`` has one mapping per resume, in the order of ``resumed``, with
the new values of the keys that differed from the first start; ``{}`` if none did.
"""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from triptych.files import atomic_write
from triptych.results.checkout import Code, lock_hash
from triptych.results.directory import write_json
from triptych.results.untrusted import read_json

PACKAGES = ("triptych", "torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "numpy")
STARTED = Path(".hydra") / "started.json"
CPU_INFO = Path("/proc/cpuinfo")


def environment(code: Code | None, device: torch.device) -> dict[str, Any]:
    """Return the entry of one start: the given code, and the packages and machine of this process."""
    return {
        "git": code and code.summary(),
        "lock": lock_hash(),
        "versions": versions(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "hardware": hardware(device),
    }


def record_start(directory: Path, origin: dict[str, Any], patch: bytes, resumed: bool) -> None:
    """Append a start to the record in a run directory; one that is not a resume replaces the record.

    Args:
        directory: the run directory.
        origin: the ``environment``.
        patch: the uncommitted changes of the checkout; if empty, no file is written.
        resumed: whether the run is resumed from a checkpoint.
    """
    # A run from before this record existed had a first start too; its entry is empty.
    starts = (_starts(directory) or [{}]) if resumed else []
    if not resumed:
        for stale in directory.glob(".hydra/code*.patch"):
            stale.unlink()
    (directory / STARTED).parent.mkdir(exist_ok=True)
    if patch:
        name = f"code-{len(starts)}.patch" if starts else "code.patch"
        with atomic_write(directory / ".hydra" / name) as aside:
            aside.write_bytes(patch)
    write_json(directory / STARTED, {"starts": [*starts, origin]})


def provenance(directory: Path, origin: dict[str, Any]) -> dict[str, Any]:
    """Return the provenance keys of ``metrics.json``, including ``resumed_with``.

    Args:
        directory: the run directory.
        origin: the current ``environment``, used if the run had nothing to train and so recorded no start.
    """
    first, *resumes = _starts(directory) or [origin]
    changed = [{key: start.get(key) for key in origin if start.get(key) != first.get(key)} for start in resumes]
    return {key: first.get(key) for key in origin} | {"resumed_with": changed}


def _starts(directory: Path) -> list[dict[str, Any]]:
    """Return the recorded starts; empty if the file is missing or damaged."""
    try:
        starts = read_json(directory / STARTED)["starts"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return starts if isinstance(starts, list) and all(isinstance(start, dict) for start in starts) else []


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed PACKAGES."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def device_name(device: torch.device) -> str:
    """Return the device type with, in brackets, the GPU model or the machine's architecture."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({platform.machine()})"


def hardware(device: torch.device) -> dict[str, Any]:
    """Return ``platform``, ``cpu``, ``cores`` (logical), ``memory_mb`` and, on a GPU, ``gpus`` and ``driver``.

    Memory is in MB of 2**20 bytes; what the system does not report is None. ``gpus`` are all that this process sees,
    and are listed only if the run uses one.
    """
    found: dict[str, Any] = {
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_mb": _memory(),
    }
    if device.type == "cuda":
        gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        found["gpus"] = [{"name": gpu.name, "memory_mb": gpu.total_memory // 2**20} for gpu in gpus]
        found["driver"] = _first_line_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return found


def _cpu() -> str | None:
    """Return the CPU model; on Linux ``platform.processor`` is only the architecture, or empty."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
    if model is None and platform.system() == "Darwin":
        model = _first_line_of("sysctl", "-n", "machdep.cpu.brand_string")
    return model or platform.processor() or platform.machine() or None


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _first_line_of(*command: str) -> str | None:
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10, stdin=subprocess.DEVNULL
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return next(iter(result.stdout.splitlines()), None)
