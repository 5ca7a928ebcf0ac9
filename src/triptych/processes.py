"""Rank and number of a run's processes, from the environment before torch is imported, and agreement among them.

On one machine Lightning starts the other ranks itself. torchrun and SLURM start all of them, on any number of machines,
and each runs the program from its beginning.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

_stores: list[Any] = []
"""Holds the store, once open; kept open, as the process group will rendezvous there too."""


def global_rank() -> int:
    """The global rank of this process, from 0; rank 0 prints and writes for all."""
    # In this order: SLURM sets its variable for a process that torchrun started, too.
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def world_size() -> int:
    """How many processes torchrun or `srun` started for this run; 1 if neither did."""
    if not launched_externally():
        return 1
    return int(os.environ["WORLD_SIZE" if launched_by_torchrun() else "SLURM_NTASKS"])


def is_local_rank_zero() -> bool:
    """Whether this process has local rank 0: each machine reports for itself, as files may be missing on only one."""
    return int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0))) == 0


def launched_by_torchrun() -> bool:
    """Whether torchrun started the processes."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launched_by_slurm() -> bool:
    """Whether `srun` started several processes, judging by SLURM's variables; an interactive shell does not count."""
    shell = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return int(os.environ.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in os.environ and not shell


def launched_externally() -> bool:
    """Whether torchrun or SLURM, and not Lightning, started the processes."""
    return launched_by_torchrun() or launched_by_slurm()


def broadcast(key: str, make: Callable[[], str]) -> str:
    """Return rank 0's text in every externally launched process; otherwise each process makes its own."""
    if not launched_externally():
        return make()
    store = _store()
    key = _key(key)
    if global_rank() == 0:
        store.set(key, make())
    return store.get(key).decode()


def broadcast_refusal(key: str, find_refusal: Callable[[], str]) -> str:
    """Return why rank 0 refuses the run, in all processes; "" if it does not.

    Otherwise externally launched processes would wait for one that has exited until their timeout.
    """
    if not launched_externally():
        return "" if global_rank() else find_refusal()
    why, store = broadcast(key, find_refusal), _store()
    if not why:
        return ""
    # Where rank 0 serves the store, the answer is lost when it exits: it waits until the others have read it.
    if global_rank():
        store.set(_key(f"{key}/{global_rank()}"), "heard")
    else:
        from torch.distributed import DistStoreError

        with suppress(DistStoreError):
            store.wait([_key(f"{key}/{number}") for number in range(1, world_size())], timedelta(minutes=1))
    return why


def _store() -> Any:
    """The key-value store through which externally launched processes communicate."""
    if _stores:
        return _stores[0]
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    host, port = _master_endpoint()
    # torchrun already runs a server there, which outlives a restart of the processes.
    serves = global_rank() == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    store = TCPStore(
        host, port, is_master=serves, timeout=timedelta(minutes=10), wait_for_workers=False, multi_tenant=True
    )
    _stores.append(store)
    return store


def _key(name: str) -> str:
    """A key in the store, distinct for each restart of the processes, which the store outlives."""
    return f"triptych/{name}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"


def _master_endpoint() -> tuple[str, int]:
    """Host and port of rank 0."""
    if launched_by_torchrun():
        return os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    slurm = SLURMEnvironment()
    return slurm.main_address, slurm.main_port
