"""How much memory a run takes."""

import sys
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
MEGABYTE = 2**20


def memory_in_use(device: torch.device) -> float | None:
    """What this process has resident now, or on a GPU what its tensors take, in MB of 2**20 bytes; None if unknown."""
    if device.type == "cuda":
        return round(torch.cuda.memory_allocated(device) / MEGABYTE, 1)
    return _status("VmRSS") or _largest_resident()


def peak_memory(device: torch.device, at_start: float | None = None) -> float | None:
    """The most that ``memory_in_use`` has been: of this process, or on a GPU since ``reset_peak_memory``.

    Args:
        device: whose memory.
        at_start: what ``memory_in_use`` said earlier. Linux counts the pages of each core in batches, so the peak that
            it tells later may lie a little below.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / MEGABYTE, 1)
    peak = _status("VmHWM") or _largest_resident()
    return peak if peak is None or at_start is None else max(peak, at_start)


def reset_peak_memory(device: torch.device) -> None:
    """Forget on a GPU what an earlier run of this process took; a process's own peak stays."""
    if device.type == "cuda" and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats(device)


def _status(field: str) -> float | None:
    """A field of Linux's account of this process. ``getrusage`` counts what its parent took before it was started."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((round(int(line.split()[1]) / 1024, 1) for line in lines if line.startswith(f"{field}:")), None)


def _largest_resident() -> float | None:
    """The largest resident size so far, for systems without ``/proc``; Windows has no ``resource``."""
    try:
        import resource
    except ImportError:
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(largest / (MEGABYTE if sys.platform == "darwin" else 1024), 1)
