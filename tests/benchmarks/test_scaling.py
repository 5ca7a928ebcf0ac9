"""The scaling benchmark: a run is timed, and its section of the page reports the costs."""

from pathlib import Path

import pytest
from benchmarks import scaling
from benchmarks.scaling import Axis, Cost, draw, measure, section
from tests.harness import FASTEST

AXIS = Axis("samples", "data.train_size", (10, 20), ("experiment=x", "threads=1"), "an epoch has an end")
FOUND = {AXIS: [Cost(0.5, 600.0), Cost(0.75, 1234.5)]}


def test_the_section_has_each_figure_and_reason():
    text = section(FOUND, "images/x.png", "`abc`")
    assert "| samples (`data.train_size`, experiment=x) | 10, 20 | 0.50, 0.75 | 600, 1,234 |" in text
    assert "- *samples*: an epoch has an end." in text
    assert "![Seconds" in text
    assert text.endswith("(images/x.png)")


def test_each_axis_has_two_curves_and_a_reference_line():
    above, below = draw(FOUND).axes
    assert [line.get_ydata()[-1] for line in above.lines] == [0.75, 0.75]
    assert list(below.lines[0].get_ydata()) == [600.0, 1234.5]


@pytest.mark.slow
def test_a_run_is_timed_and_a_failed_one_is_named(tmp_path: Path):
    few = ("trainer.limit_train_batches=2", "threads=1")
    cost = measure((f"experiment={FASTEST}", *scaling.COMMON, *few), tmp_path / "run")
    assert 0 < cost.seconds < 60
    assert cost.memory > 100
    with pytest.raises(RuntimeError, match="said 0 of 3: epoch 1/, epoch 2/, epoch 3/"):
        measure((f"experiment={FASTEST}", *scaling.COMMON, "monitor=val/nothing"), tmp_path / "failed")
