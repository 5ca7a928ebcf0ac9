"""What each of several processes keeps, in the one checkpoint that the first of them writes."""

from typing import Any

import torch.distributed as dist


def of_all(own: dict[str, Any]) -> dict[str, Any]:
    """The state of the first process, and beside it in ``others`` those of the rest; of a single process its own."""
    if not (dist.is_available() and dist.is_initialized()):
        return own
    states: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, own)
    return {**states[0], "others": states[1:]}
