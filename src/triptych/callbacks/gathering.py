"""Gather the state of all processes of a distributed run for the checkpoint that the first one writes."""

from typing import Any

import torch.distributed as dist


def gather_states(own: dict[str, Any]) -> dict[str, Any]:
    """The state of the first process, with the states of the rest in ``others``; a single process has only its own."""
    if not (dist.is_available() and dist.is_initialized()):
        return own
    states: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, own)
    return {**states[0], "others": states[1:]}
