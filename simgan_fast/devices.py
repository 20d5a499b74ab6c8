"""The torch device that a user named, or one sentence why it cannot be used; and torch's threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from simgan_fast.errors import InputError


def usable_device(name: str) -> torch.device:
    """The device `name`, tried with one small tensor; InputError where torch cannot use it."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" has none to give
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"device {name!r} cannot be used ({reason}): name another, cpu always works."
        ) from None
    return device


def device_of_process(name: str) -> str:
    """Of "cuda" the GPU that torchrun means for this process; every other name as it is."""
    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if name == "cuda" and local is not None else name


@contextmanager
def single_threads(workers: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """A pool of `workers` Python threads, by default as many as torch has threads, in each of which torch uses one."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(
            workers or threads, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)  # one of its numbers (MKL's) is the same for all threads
