"""Current and peak memory of a run, on CPU or GPU."""

import sys
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
MEGABYTE = 2**20


def memory_in_use(device: torch.device) -> float | None:
    """Return the resident memory of this process, or of its tensors on a GPU, in MB of 2**20 bytes; None if unknown."""
    if device.type == "cuda":
        return round(torch.cuda.memory_allocated(device) / MEGABYTE, 1)
    return _status("VmRSS") or _largest_resident()


def peak_memory(device: torch.device, at_start: float | None = None) -> float | None:
    """Return the peak of ``memory_in_use`` in MB: of this process, or on a GPU since ``reset_peak_memory``.

    Args:
        device: the device whose memory is meant.
        at_start: an earlier result of ``memory_in_use``, a lower bound: Linux counts the pages of each core in batches,
            so the peak that it reports later may be slightly lower.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / MEGABYTE, 1)
    peak = _status("VmHWM") or _largest_resident()
    return peak if peak is None or at_start is None else max(peak, at_start)


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak of a GPU, so that earlier runs in this process do not count; no-op for the CPU."""
    if device.type == "cuda" and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats(device)


def _status(field: str) -> float | None:
    """Return a field of ``/proc/self/status`` in MB; ``getrusage`` would include the parent's peak before the fork."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((round(int(line.split()[1]) / 1024, 1) for line in lines if line.startswith(f"{field}:")), None)


def _largest_resident() -> float | None:
    """Return the peak resident size in MB, for systems without ``/proc``; None on Windows, which lacks ``resource``."""
    try:
        import resource
    except ImportError:
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(largest / (MEGABYTE if sys.platform == "darwin" else 1024), 1)
