"""Performance benchmarks: the same training is timed in several ways, and the stages of a start are separated."""

import shutil
from pathlib import Path

import pytest
import torch
from benchmarks import compiling, on_gpu, start_up, step_rate
from tests.harness import FASTEST

pytestmark = pytest.mark.slow


def test_ways_are_timed_one_after_another():
    ways = ("bare loop", "triptych")
    found = step_rate.measure(FASTEST, 1, "trainer.max_epochs=3", "trainer.limit_train_batches=5", ways=ways)
    assert tuple(found) == ways
    for (pace,) in found.values():
        assert 0 < pace.step < 1
    assert found["triptych"][0].epoch_end > 0


def test_a_run_and_the_bare_loop_take_turns():
    found = step_rate.measure_by_turns(FASTEST, 1, "trainer.max_epochs=3", "trainer.limit_train_batches=5", "threads=1")
    assert list(found) == ["triptych", "as usual"]
    turns = step_rate.Turns.last
    assert turns.turns == 3 * (4 // turns.length)  # of an epoch's five steps the first is not timed
    for ((pace, of_loop),) in found.values():
        assert 0 < pace.step < 1
        assert 0 < of_loop < 1
        assert pace.epoch_end > 0


@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_only_the_first_compiled_run_has_a_long_warm_up():
    found = compiling.measure(FASTEST, 1, "trainer.max_epochs=3", "trainer.limit_train_batches=5", "threads=1")
    plain, compiled, again = (paces[0] for paces in found.values())
    assert min(plain.step, compiled.step, again.step) > 0
    assert compiled.warm_up > max(plain.warm_up, again.warm_up)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_is_busy_for_part_of_a_step():
    given = ("trainer=gpu", "trainer.max_epochs=3", "trainer.limit_train_batches=20", "trainer.compile=false")
    found = step_rate.measure(FASTEST, 1, *given, ways=("bare loop", "triptych"))
    assert all(pace.memory > 0 for (pace,) in found.values())
    assert 0 < on_gpu.gpu_seconds_per_step(FASTEST, *given) <= found["bare loop"][0].step


def test_a_start_has_three_stages(tmp_path: Path):
    imports, data, first_step, whole = start_up.stages(FASTEST, tmp_path)
    assert min(imports, data, first_step) > 0
    assert whole == pytest.approx(imports + data + first_step, abs=0.01)


def test_a_quick_command_is_timed(tmp_path: Path):
    assert 0 < start_up.seconds_of(["-c", "import time; time.sleep(0.2)"], tmp_path) < 5
