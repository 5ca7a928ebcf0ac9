"""Values at the bounds declared in conf/ train, or are refused as user errors: the code accepts what conf/ declares."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.harness import CONF, EXPERIMENTS, FASTEST, small, train

from triptych.callbacks.divergence import Diverged
from triptych.composed import Composer
from triptych.declared import BOUNDED, TYPES, Declaration
from triptych.errors import UserError

OPTIONS = [
    f"{group}={path.stem}" for group in ("scheduler", "optimizer") for path in sorted((CONF / group).glob("*.yaml"))
]
NOT_HERE = ("threads", "trainer.num_nodes", "callbacks.analysis")
"""Keys left out: threads are shared by all tests, there is one machine, and small runs draw no analysis."""
QUICK = ("trainer.max_epochs=2", "trainer.limit_train_batches=2", "logger=none")


def declared(*overrides: str) -> dict[tuple[str, str], Declaration]:
    """Return the declarations in the config files of a run, by key and file."""
    composer = Composer(CONF, "config", None, overrides)
    keys = composer.compose(composer.overrides).declared.keys
    return {(key, found.file): found for key, found in keys.items() if not key.startswith(NOT_HERE)}


def ends(declaration: Declaration) -> Iterator[float]:
    """Yield the extreme values that the declared bounds still allow."""
    for word in declaration.expected:
        bounded = BOUNDED.fullmatch(word)
        if word in TYPES or not bounded:
            continue
        low, above, name, compare, limit = bounded.groups()
        both = [(low, above == "<=", 1)] if low else []
        both += [(limit, "=" in compare, 1 if compare[0] == ">" else -1)] if limit else []
        for end, included, inwards in both:
            step = 0 if included else inwards * (1 if name == "int" else 1e-6)
            yield int(end) + int(step) if name == "int" else float(end) + step


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "option"),
    [
        (FASTEST, ""),
        *((FASTEST, option) for option in OPTIONS),
        *((name, "") for name in EXPERIMENTS if name != FASTEST),
    ],
)
def test_values_at_their_bounds_train_or_are_refused(
    experiment: str, option: str, data_root: Path, tmp_path: Path
) -> None:
    chosen = [option] if option else []
    found = declared(f"experiment={experiment}", *chosen)
    if option:
        found = {place: one for place, one in found.items() if place[0].startswith(f"{option.partition('=')[0]}.")}
    elif experiment != FASTEST:
        found = {place: found[place] for place in found.keys() - declared(f"experiment={FASTEST}").keys()}
    for (key, file), declaration in sorted(found.items()):
        for value in ends(declaration):
            options = small(experiment, data_root, *QUICK, *chosen, f"{key}={value}")
            refused = ""
            try:
                with suppress(Diverged):
                    assert train(tmp_path / f"{key}={value}", *options)["epochs"] <= 2
            except UserError as error:
                refused = str(error)
            except Exception as error:
                error.add_note(f"{key}={value}, which {file} takes")
                raise
            assert not refused or key.rpartition(".")[2] in refused, f"{key}={value} is refused without being named"
