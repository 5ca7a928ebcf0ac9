"""Suggestions for unknown names in error messages: the nearest known names."""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

NEAR = 0.65
"""Similarity, by difflib's ratio, from which a dotted name is worth suggesting."""


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """``; did you mean NAME?``, or an empty string if no name is near.

    Args:
        name: the unknown name.
        known: the known names.
        cutoff: minimum similarity, 0 to 1, by ``difflib``'s ratio.
    """
    near = get_close_matches(name, list(known), 1, cutoff)
    return f"; did you mean {near[0]}?" if near else ""


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Up to three dotted names that `name` may stand for, best first, similar in their last part.

    If some have the very same last part, only those are returned: `lr` finds only `*.lr`.
    """

    def likeness(one: str, other: str) -> float:
        return SequenceMatcher(None, one, other).ratio()

    last = name.rpartition(".")[2]
    ends = {other: likeness(last, other.rpartition(".")[2]) for other in known}
    best = max(ends.values(), default=0.0)
    alike = {other: end for other, end in ends.items() if end >= (1.0 if best == 1.0 else NEAR)}
    scores = {other: (end + likeness(name, other)) / 2 if "." in name else end for other, end in alike.items()}
    near = [other for other, score in scores.items() if score >= max(scores.values()) - 0.1]
    return sorted(near, key=lambda other: (-scores[other], other))[:3]
