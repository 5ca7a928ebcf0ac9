"""What a message about an unknown name ends with: the nearest of those that are known."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """``; did you mean NAME?``, or nothing where none is near.

    Args:
        name: what is not known.
        known: what is.
        cutoff: how alike the two have to be, 0 to 1, by ``difflib``'s ratio.
    """
    near = get_close_matches(name, list(known), 1, cutoff)
    return f"; did you mean {near[0]}?" if near else ""
