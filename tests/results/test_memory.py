"""What a process takes."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from triptych.results import memory
from triptych.results.memory import memory_in_use, peak_memory

CPU = torch.device("cpu")


def test_a_large_array_shows_while_it_is_there_and_stays_in_the_peak():
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


def test_without_proc_the_peak_is_what_the_system_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    pytest.importorskip("resource")
    usual = peak_memory(CPU)
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    assert usual is not None
    assert peak_memory(CPU) >= 0.9 * usual
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert peak_memory(CPU) is None
    assert memory_in_use(CPU) is None
