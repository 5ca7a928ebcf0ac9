"""Inputs of predictions: any number of a user's files, found, prefetched by a few threads and returned in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor

from triptych.data.errors import DataError
from triptych.data.images import find_images

THREADS = 4
"""Threads that read and write files while the network runs."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Predictor(Protocol):
    """Interface of a trained model that ``predict_files`` needs."""

    hparams: Any

    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        """Map a batch of inputs, prepared as in training, to named columns."""


Progress = Callable[[int, int], None]
"""Callback that receives the number of inputs done and the total."""


def no_progress(done: int, total: int) -> None:
    """Progress callback that does nothing."""


def find_inputs(source: Path, output: Path) -> dict[Path, str]:
    """Map the path of each image at ``source`` to its name relative to it, sorted by name.

    Files in ``output`` are left out if that folder lies inside ``source``.

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
    """Reject inputs to which ``name`` gives the same output name: one output would replace the other.

    Raises:
        DataError: there are two such inputs.
    """
    seen: dict[str, Path] = {}
    for path in paths:
        # On macOS and Windows, names that differ only in case are the same.
        other = seen.setdefault(name(path).casefold(), path)
        if other != path:
            raise DataError(f"{other} and {path} would both become {name(path)}: rename one")


def submit_ahead(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], count: int
) -> Iterator[tuple[Item, Future[Result]]]:
    """Yield each item with the future of ``function(item)`` in the pool, in order, at most ``count`` at a time.

    This bounds memory for any number of items: ``items`` is consumed lazily, one item whenever there is room.
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
