"""A number at the end of its bounds trains, or is refused as a mistake: what conf/ says is what the code takes."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.harness import CONF, EXPERIMENTS, FASTEST, small, train

from triptych.callbacks.divergence import Diverged
from triptych.composed import Composer
from triptych.declared import BOUNDED, TYPES
from triptych.run import UserError

OPTIONS = [f"scheduler={path.stem}" for path in sorted((CONF / "scheduler").glob("*.yaml"))]
OPTIONS += [f"optimizer={path.stem}" for path in sorted((CONF / "optimizer").glob("*.yaml"))]
NOT_HERE = ("threads", "trainer.num_nodes", "callbacks.analysis")
"""Threads of all tests, machines that are not there, and pictures that a small run leaves out."""


def ends(word: str) -> Iterator[float]:
    """The last numbers that a type with bounds takes, below and above."""
    bounded = BOUNDED.fullmatch(word)
    if word in TYPES or not bounded:
        return
    low, above, name, compare, limit = bounded.groups()
    both = [(low, above == "<=", 1)] if low else []
    both += [(limit, "=" in compare, 1 if compare[0] == ">" else -1)] if limit else []
    for end, included, inwards in both:
        step = 0 if included else inwards * (1 if name == "int" else 1e-6)
        yield int(end) + int(step) if name == "int" else float(end) + step


def keys() -> Iterator[tuple[str, str, str, str]]:
    """(experiment, option, key, value) for each number that a file of conf/ bounds, once for each file."""
    seen = set()
    for experiment, option in [
        (FASTEST, ""),
        *((FASTEST, option) for option in OPTIONS),
        *((name, "") for name in EXPERIMENTS),
    ]:
        composer = Composer(CONF, "config", None, [f"experiment={experiment}", *([option] if option else [])])
        for key, declaration in composer.compose(composer.overrides).declared.keys.items():
            if (key, declaration.file) not in seen and not key.startswith(NOT_HERE):
                values = [end for word in declaration.expected for end in ends(word)]
                yield from ((experiment, option, key, str(value)) for value in values)
            seen.add((key, declaration.file))


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "option", "key", "value"), list(keys()))
def test_a_number_at_the_end_of_its_bounds(
    experiment: str, option: str, key: str, value: str, data_root: Path, tmp_path: Path
) -> None:
    quick = (
        "trainer.max_epochs=2",
        "trainer.limit_train_batches=2",
        "callbacks.figures.every_n_epochs=0",
        "logger=none",
    )
    options = small(experiment, data_root, *quick, *([option] if option else []), f"{key}={value}")
    with suppress(UserError, Diverged):
        assert train(tmp_path / "run", *options)["epochs"] <= 2
