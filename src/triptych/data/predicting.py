"""Files of a user's own, of any number: found, read ahead by a few threads, and taken in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor

from triptych.data.errors import DataError
from triptych.data.images import find_images

THREADS = 4
"""Threads that read and write while the network works."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Predictor(Protocol):
    """What ``predict_files`` needs of a trained model."""

    hparams: Any

    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        """From a batch of inputs, as training sees them, to named columns."""


Progress = Callable[[int, int], None]
"""Told how many inputs are done, and of how many."""


def unseen(done: int, total: int) -> None:
    """The Progress that nobody looks at."""


def find_inputs(source: Path, output: Path) -> dict[Path, str]:
    """The images at ``source``, by path, with the names that they have below it; sorted by name.

    What lies in ``output`` is no input, where that folder is inside ``source``.

    Raises:
        DataError: there is no image.
    """
    if source.is_file():
        return {source: source.name}
    names = {path: path.relative_to(source) for path in find_images(source)}
    top, out = source.resolve(), output.resolve()
    if out != top and out.is_relative_to(top):
        names = {path: name for path, name in names.items() if not (top / name).is_relative_to(out)}
        if not names:
            raise DataError(f"no images in {source} but those in {output}, where predictions go: put some there")
    return {path: name.as_posix() for path, name in names.items()}


def refuse_namesakes(paths: Iterable[Path], name: Callable[[Path], str]) -> None:
    """Refuse two inputs for which ``name`` gives the same: one's output would replace the other's.

    Raises:
        DataError: there are two.
    """
    seen: dict[str, Path] = {}
    for path in paths:
        # On macOS and Windows names that differ in case alone are one.
        other = seen.setdefault(name(path).casefold(), path)
        if other != path:
            raise DataError(f"{other} and {path} would both become {name(path)}: rename one")


def ahead(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], count: int
) -> Iterator[tuple[Item, Future[Result]]]:
    """Each item with what ``function`` makes of it in the pool, in order, never more than ``count`` at a time.

    So any number of items takes the memory of a few. An item is asked for only when there is room for it.
    """
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) == count:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for _, future in waiting:
            future.cancel()
