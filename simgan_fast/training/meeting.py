"""How the processes of one attempt find each other in a store that earlier attempts have written to."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING

from simgan_fast.errors import ProcessLost

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

PATIENCE = 600.0  # seconds of silence; an update of hands-paper takes some 20 on one core
PAUSE = 0.02  # between two looks into the store
PROPOSAL = "simgan_fast/proposal"


def meeting(store: Store, rank: int, world: int, patience: float) -> str:
    """A name that all processes of this attempt get, and those of no other.

    torchrun (2.13) keeps one store over all restarts, and the number of the restart is no name: of two machines the one
    whose process died counts it, and the other may not. So every process leaves a name of its own, the first proposes
    the names that it finds, and who is among them agrees. Those of dead processes are found too, until their successors
    have written theirs; nobody agrees for them, and the first proposes anew.

    Raises ProcessLost where the others do not come within `patience` seconds.
    """
    own = uuid.uuid4().hex
    end = time.monotonic() + patience
    store.set(_process(rank), own)
    try:
        if rank == 0:
            return _propose(store, own, world, end)
        return _agree(store, own, rank, world, end)
    except TimeoutError:
        raise ProcessLost(
            f"the other processes of the run did not come within {patience:.0f} seconds: start all of them."
        ) from None


def _propose(store: Store, own: str, world: int, end: float) -> str:
    number, names = 0, [""]
    while True:
        found = [_get(store, _process(rank), end) for rank in range(world)]
        if found != names:
            number, names = number + 1, found
            name = f"simgan_fast/{own}/{number}"
            store.set(PROPOSAL, json.dumps({"name": name, "names": names}))
        if all(store.check([_agreement(name, rank)]) for rank in range(1, world)):
            store.set(f"{name}/met", own)
            return name
        _pause(end)


def _agree(store: Store, own: str, rank: int, world: int, end: float) -> str:
    while True:
        proposal = json.loads(_get(store, PROPOSAL, end))
        names: list[str] = proposal["names"]
        name: str = proposal["name"]
        if len(names) == world and names[rank] == own:
            store.set(_agreement(name, rank), own)
            if store.check([f"{name}/met"]):
                return name
        _pause(end)


def _process(rank: int) -> str:
    return f"simgan_fast/process/{rank}"


def _agreement(name: str, rank: int) -> str:
    return f"{name}/agreed/{rank}"


def _get(store: Store, key: str, end: float) -> str:
    """What is under a key, once it is there."""
    while not store.check([key]):
        _pause(end)
    return store.get(key).decode()


def _pause(end: float) -> None:
    if time.monotonic() > end:
        raise TimeoutError
    time.sleep(PAUSE)
