"""Memory in use and peak memory of a process."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from triptych.results import memory
from triptych.results.memory import memory_in_use, peak_memory

CPU = torch.device("cpu")


def test_a_large_array_counts_while_alive_and_stays_in_the_peak():
    if not memory.STATUS.exists():
        pytest.skip("needs Linux's /proc")
    before, peak_before = memory_in_use(CPU), peak_memory(CPU)
    assert before is not None
    assert peak_before is not None
    more = int(peak_before - before) + 100
    array = np.ones(more * memory.MEGABYTE, dtype=np.uint8)
    assert memory_in_use(CPU) == pytest.approx(before + more, abs=30)
    del array
    assert memory_in_use(CPU) == pytest.approx(before, abs=30)
    assert peak_memory(CPU) == pytest.approx(peak_before + 100, abs=30)


def test_the_peak_is_at_least_the_memory_at_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    # As seen in CI: 1,387.0 MB in use at the start of a run, and a peak of 1,386.8 MB at its end.
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t 1420083 kB\nVmRSS:\t 1300000 kB\n")
    monkeypatch.setattr(memory, "STATUS", status)
    assert peak_memory(CPU) == 1386.8
    assert peak_memory(CPU, at_start=1387.0) == 1387.0
    assert peak_memory(CPU, at_start=1200.0) == 1386.8


def test_without_proc_the_peak_comes_from_getrusage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    pytest.importorskip("resource")
    usual = peak_memory(CPU)
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    assert usual is not None
    assert peak_memory(CPU) >= 0.9 * usual
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert peak_memory(CPU) is None
    assert memory_in_use(CPU) is None
    assert peak_memory(CPU, at_start=100.0) is None
