"""The processes that train one model together, each with its share of every mini-batch, by torch.distributed."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from simgan_fast.errors import InputError, ProcessLost
from simgan_fast.training.meeting import PATIENCE, meeting


class Processes:
    """What processes tell each other; this is one process alone, and does nothing. All must make the same calls.

    `rank` is this process's number, from 0 to `world` - 1; the first one writes what the run writes.
    """

    rank, world = 0, 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, count: int) -> int:
        """How many of `count` images are this process's; InputError where they cannot be shared out evenly."""
        if count % self.world:
            raise InputError(
                f"{count} images, half a mini-batch, cannot be shared out to {self.world} processes: choose a "
                f"batch_size that {2 * self.world} divides."
            )
        return count // self.world

    def average_gradients(self, optimizer: Optimizer) -> None:
        """Put the mean over the processes in place of every gradient."""

    def means(self, values: dict[str, float]) -> dict[str, float]:
        """The mean over the processes of every number."""
        return values

    def most(self, number: int) -> int:
        """The largest of the processes' numbers. Returns when all have called it."""
        return number


ALONE = Processes()


class Group(Processes):
    """The processes of a torch process group, the default one where `group` is None.

    `device`: where the tensors lie that are exchanged. Raises ProcessLost when another process is gone.
    """

    def __init__(self, device: str, group: dist.ProcessGroup | None = None) -> None:
        self.device, self.group = torch.device(device), group
        self.rank, self.world = dist.get_rank(group), dist.get_world_size(group)

    def average_gradients(self, optimizer: Optimizer) -> None:
        parameters = (p for settings in optimizer.param_groups for p in settings["params"])
        gradients = [p.grad for p in parameters if p.grad is not None]
        # One exchange, after the backward pass: the native ops give all gradients of a network at once.
        together = torch.cat([gradient.flatten() for gradient in gradients])
        self.sum_(together).div_(self.world)
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, mean in zip(gradients, torch.split(together, sizes), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def means(self, values: dict[str, float]) -> dict[str, float]:
        sums = self.sum_(torch.tensor([*values.values()], dtype=torch.float64, device=self.device))
        return dict(zip(values, sums.div_(self.world).tolist(), strict=True))

    def most(self, number: int) -> int:
        numbers = torch.tensor([int(number)], device=self.device)
        with _lost():
            dist.all_reduce(numbers, dist.ReduceOp.MAX, self.group)
        return int(numbers)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Put the sum over the processes, the same bits in all of them, into `tensor`; returns it."""
        with _lost():
            dist.all_reduce(tensor, group=self.group)
        return tensor

    def gathered(self, tensor: Tensor) -> Tensor:
        """The tensors [n, ...] of all processes in the order of rank: [world * n, ...]."""
        parts = [torch.empty_like(tensor) for _ in range(self.world)]
        with _lost():
            dist.all_gather(parts, tensor, self.group)
        return torch.cat(parts)

    def collected(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes in the order of rank, in the first process; an empty list in others."""
        parts = [torch.empty_like(tensor) for _ in range(self.world)] if self.first else []
        with _lost():
            dist.gather(tensor, parts or None, group=self.group, group_dst=0)
        return parts


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ProcessLost(
            f"another process of the run is gone ({reason}): start all again, they go on from the newest checkpoint."
        ) from None


@contextmanager
def processes_of(device: str) -> Iterator[Processes]:
    """The processes of this run: those of torch's default group, or else those that torchrun started, or one alone.

    `device`: where they train; CUDA takes NCCL, all else gloo.
    """
    if dist.is_available() and dist.is_initialized():
        yield Group(device) if dist.get_world_size() > 1 else ALONE
        return
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.set_device(device)
    _start("nccl" if cuda else "gloo")
    try:
        yield Group(device)
    finally:
        dist.destroy_process_group()


def under_torchrun() -> bool:
    """Whether this process was started by torchrun, which may start it again where it has failed."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _start(backend: str) -> None:
    """Start torch's default group as torchrun's environment says, apart from what an earlier attempt left in its store:
    gloo would look for the dead processes of the last attempt.
    """
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    if backend == "gloo":
        require_reachable_name()  # first of all: torchrun goes by that name too, and the store would be waited for
    try:
        store, rank, world = next(rendezvous("env://"))
    except ValueError as error:
        raise InputError(
            f"WORLD_SIZE is set, but not all that torchrun sets ({error}): start with torchrun."
        ) from None
    store = PrefixStore(meeting(store, rank, world, PATIENCE), store)
    # A machine that vanishes closes no connection: torch's own half an hour is long for one that waits.
    patience = timedelta(seconds=PATIENCE)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=patience)


def require_reachable_name() -> None:
    """Raise InputError where gloo would tell other machines an address of this one that they cannot reach.

    It takes the address that the machine's own name stands for, often 127.0.1.1; then all wait for one another.
    """
    here = os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]) == os.environ["WORLD_SIZE"]
    if here or "GLOO_SOCKET_IFNAME" in os.environ:
        return
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        address = "127.0.0.1"  # what gloo takes then
    if ipaddress.ip_address(address).is_loopback:
        raise InputError(
            f"this machine's name, {name}, stands for {address}, by which other machines cannot reach it: set "
            "GLOO_SOCKET_IFNAME to the network interface between them (`ip address` lists them)."
        )
