"""Tiled inference on large pages: tiles overlap by the receptive field of the network, so that no seams appear."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

LARGEST_PROBE = 1024
"""Side in pixels of the largest page that ``tiling_of`` tries."""
TOLERANCE = 1e-3
"""Largest difference of a pixel between tiled and whole inference, where white is 1."""


class Tiling(NamedTuple):
    """How a network can process a page in tiles.

    Attributes:
        step: tiles start at multiples of it, in pixels, so that pooling windows are aligned as on the whole page.
        halo: largest distance, in pixels, at which an input pixel can still affect an output pixel.
    """

    step: int
    halo: int


class Window(NamedTuple):
    """One tile along an axis: the network reads ``start`` to ``stop``, and its output fills ``first`` to ``last``.

    ``start`` and ``stop`` count pixels of the page with the border that the network needs, ``first`` and ``last`` those
    of the page itself.
    """

    start: int
    stop: int
    first: int
    last: int


Tile = tuple[slice, slice, Tensor]
"""The rows and columns of a page that a tile fills, and its pixels (rows, columns)."""


@torch.inference_mode()
def tiling_of(network: Any) -> Tiling | None:
    """How ``network``, in evaluation mode, can be tiled; None if each output pixel may depend on the whole page.

    The receptive field is found by running the network, whatever its layers: NaN in one input pixel reaches every
    output pixel that depends on it, even with weight 0; a norm over the page carries it everywhere. Then tiled and
    whole inference are compared on noise, to be sure.

    Args:
        network: an image-to-image network of one channel with ``input_size`` and ``output_size``.
    """
    smallest = network.input_size(1)
    step = network.input_size(network.output_size(smallest) + 1) - smallest
    side = 64
    while side <= LARGEST_PROBE:
        reaches: list[int] = []
        for phase in range(step):
            reach = _reach(network, network.input_size(side), phase)
            if reach is None:
                break
            reaches.append(reach)
        else:
            tiling = Tiling(step, max(reaches))
            return tiling if _agrees(network, tiling) else None
        side *= 2
    return None


def _reach(network: Any, side: int, phase: int) -> int | None:
    """How far a pixel near the middle of a page of this side affects the output; None if up to the border."""
    place = side // 2 + phase
    page = torch.zeros(1, 1, side, side, device=_device(network))
    page[..., place, place] = torch.nan
    reached = network(page)[0, 0].isnan()
    border = (side - network.output_size(side)) // 2
    reach = border
    for axis in (0, 1):
        places = reached.any(dim=axis).nonzero().flatten()
        if not len(places):
            continue  # it affects no output pixel
        if places[0] == 0 or places[-1] == reached.shape[1 - axis] - 1:
            return None
        reach = max(reach, place - border - int(places[0]), int(places[-1]) + border - place)
    return reach


def _agrees(network: Any, tiling: Tiling) -> bool:
    """Whether noise gives the same output, within TOLERANCE, in tiles and as a whole."""
    side = smallest_side(network, tiling)
    padded = network.input_size(side + 2 * tiling.step)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 1, padded, padded, generator=generator).to(_device(network))
    whole = network(noise)[0, 0]
    tiles = in_tiles(network, tiling, lambda rows, columns: noise[0, 0, rows, columns], tuple(whole.shape), side)
    return all(bool(((whole[rows, columns] - tile).abs() < TOLERANCE).all()) for rows, columns, tile in tiles)


def in_tiles(
    network: Any, tiling: Tiling, shown: Callable[[slice, slice], Tensor], size: tuple[int, ...], side: int
) -> Iterator[Tile]:
    """Run the network tile by tile.

    Args:
        network: the network that ``tiling`` belongs to.
        tiling: from ``tiling_of``.
        shown: returns rows and columns of the page with the border that the network needs, float (height, width).
        size: height and width of the page.
        side: maximum side of the network's input, in pixels.

    Raises:
        ValueError: ``side`` is too small to leave a pixel between the overlaps.
    """
    heights, widths = (windows(network, tiling, length, side) for length in size)
    for row in heights:
        for column in widths:
            answer = network(shown(slice(row.start, row.stop), slice(column.start, column.stop))[None, None])[0, 0]
            rows, columns = slice(row.first, row.last), slice(column.first, column.last)
            top, left = row.first - row.start, column.first - column.start
            yield rows, columns, answer[top : top + row.last - row.first, left : left + column.last - column.first]


def windows(network: Any, tiling: Tiling, size: int, side: int) -> list[Window]:
    """The tiles along an axis of ``size`` pixels.

    Raises:
        ValueError: ``side`` is too small.
    """
    whole = network.input_size(size)
    if whole <= side:
        return [Window(0, whole, 0, size)]
    least = smallest_side(network, tiling)
    if side < least:
        raise ValueError(
            f"tiles of {side} pixels are too small: the network sees {tiling.halo} pixels to each side of one; "
            f"choose at least {least}"
        )
    length = least + (side - least) // tiling.step * tiling.step
    border = (whole - network.output_size(whole)) // 2
    found = [Window(0, length, 0, length - tiling.halo - border)]
    while found[-1].stop < whole:
        # Overlap the last tile by two halos, or by more where this tile would extend beyond the page.
        start = min(found[-1].stop - 2 * tiling.halo, whole - length) // tiling.step * tiling.step
        stop = start + length
        found.append(Window(start, stop, found[-1].last, size if stop == whole else stop - tiling.halo - border))
    return found


def smallest_side(network: Any, tiling: Tiling) -> int:
    """The shortest possible side of a tile; longer ones differ from it by multiples of ``step``."""
    smallest = network.input_size(1)
    return smallest + max(0, -(-(2 * tiling.halo + tiling.step - smallest) // tiling.step)) * tiling.step


def _device(network: Any) -> torch.device:
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
