"""The streaming section of the performance page."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.streaming import CONDITIONS, DISK, DISTINCT, MEMORY, Large, Rate, _memory, section, write_xrays

from triptych.data.xrays import XrayDataModule


def test_symlinked_x_rays_form_a_valid_data_set(tmp_path: Path):
    write_xrays(tmp_path, DISTINCT + 20)
    data = XrayDataModule(root=str(tmp_path), source="files", image_size=8, cache_dir=str(tmp_path / "cache"))
    data.setup()
    assert data.describe()["sizes"] == {"train": 450, "val": 50, "test": 20}
    assert len(set(data.groups(data.samples))) == DISTINCT + 20
    assert len(data.samples.images.reshape(-1, 64)) == DISTINCT + 20  # type: ignore[union-attr]


def test_rates_are_compared_with_that_in_memory():
    rates = [Rate(MEMORY, 0, 4.0, 100_000, None), Rate(DISK, 2, 3.0, 50_000, 1234)]
    text = section(rates, Large(80_000, 512, 20.97, 60, True, 1400.4, 1500.6), "`abc`", 2)
    assert "| `data.in_memory=true` | 0 | 4.00 | 100% | 100,000 |  |" in text
    assert "| `data.in_memory=false` | 2 | 3.00 | 75% | 50,000 | 1,234 |" in text
    assert "| X-rays | 80,000 of 512 x 512 pixels |" in text
    assert "| decoded | 21.0 GB |" in text
    assert "| peak of the run and its worker, seen twice a second | 1,501 MB |" in text
    assert CONDITIONS[0] == (MEMORY, 0), "the first is what the others are compared with"


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")
def test_memory_includes_child_processes():
    before = _memory(os.getpid())
    assert before > 20
    holding = "held = b'x' * (60 * 2**20); print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        grown = _memory(os.getpid()) - before
        child.communicate(b"\n")
    assert 50 < grown < 90
    assert _memory(os.getpid()) - before < 30
