"""The processes of one run, as the environment tells of them before torch is imported.

Lightning starts processes of its own on one machine. torchrun and SLURM start them all, on any number of machines, and
each comes to the door alone.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

_stores: list[Any] = []
"""Kept open, for the process group is going to meet there too."""


def process_number() -> int:
    """The number of this process among all of the run, from 0; the first speaks and writes for all."""
    # SLURM sets its own for a process that torchrun started, too.
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def process_count() -> int:
    """How many processes were started for this run, by torchrun or by `srun`."""
    return int(os.environ["WORLD_SIZE" if by_torchrun() else "SLURM_NTASKS"])


def speaks_for_machine() -> bool:
    """Whether this is the first process on its machine: another machine may lack files that the first one has."""
    return int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0))) == 0


def by_torchrun() -> bool:
    """Whether torchrun has started the processes."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def by_slurm() -> bool:
    """Whether `srun` has started several processes; those of an interactive shell or of torchrun are not its own."""
    shell = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return int(os.environ.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in os.environ and not shell


def started_apart() -> bool:
    """Whether something else than Lightning has started the processes."""
    return by_torchrun() or by_slurm()


def agreed(key: str, make: Callable[[], str]) -> str:
    """One text in all processes of the run: the first makes it, and the others ask for it by its key."""
    if not started_apart():
        return make()
    store = _store()
    key = _key(key)
    if process_number() == 0:
        store.set(key, make())
    return store.get(key).decode()


def refused(key: str, ask: Callable[[], str]) -> str:
    """Why the run is refused, "" where it is not: the first process asks, and its answer is that of all.

    Processes that were started apart would else wait for one that has left until their time is over.
    """
    if not started_apart():
        return "" if process_number() else ask()
    why, store = agreed(key, ask), _store()
    if not why:
        return ""
    # The first takes the answer with it when it leaves.
    if process_number():
        store.set(_key(f"{key}/{process_number()}"), "heard")
    else:
        from torch.distributed import DistStoreError

        with suppress(DistStoreError):
            store.wait([_key(f"{key}/{number}") for number in range(1, process_count())], timedelta(minutes=1))
    return why


def _store() -> Any:
    """Where the processes that were started apart leave each other word."""
    if _stores:
        return _stores[0]
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    host, port = _meeting_place()
    # torchrun has a server there already, which outlives a restart of the processes.
    serves = process_number() == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    store = TCPStore(
        host, port, is_master=serves, timeout=timedelta(minutes=10), wait_for_workers=False, multi_tenant=True
    )
    _stores.append(store)
    return store


def _key(name: str) -> str:
    """A name in the store, which outlives a restart of the processes."""
    return f"triptych/{name}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"


def _meeting_place() -> tuple[str, int]:
    """Host and port of the first process."""
    if by_torchrun():
        return os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    slurm = SLURMEnvironment()
    return slurm.main_address, slurm.main_port
