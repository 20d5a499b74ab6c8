"""Updates as CUDA graphs: recorded once, then replayed, one launch in place of one for each kernel."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from simgan_fast._native import cuda_obstacle
from simgan_fast.training.metrics import Metrics

# Calls before one is recorded: by then libraries are loaded, and have chosen their kernels.
WARM_UP = 3


class Graphs(Protocol):
    """What records work on a device; `CudaGraphs`, or what stands in for it in tests."""

    def apart(self, work: Callable[[], Metrics]) -> Metrics:
        """Do `work` where it could be recorded."""

    def record(self, work: Callable[[], Metrics]) -> tuple[Callable[[], None], Metrics]:
        """Do nothing yet: what does `work` each time it is called, and the tensors that it leaves its results in."""


class CudaGraphs:
    """Records on a stream of its own, as a capture must not be on the default one."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def apart(self, work: Callable[[], Metrics]) -> Metrics:
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            metrics = work()
        current.wait_stream(self.stream)
        return metrics

    def record(self, work: Callable[[], Metrics]) -> tuple[Callable[[], None], Metrics]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            metrics = work()
        return graph.replay, metrics


def graphs_for(device: torch.device, processes: int) -> CudaGraphs | None:
    """What records updates on `device`, or None where they cannot be: off a GPU, or where an op must look at results.

    That is so where the CUDA kernels are missing (the history's twin reads its counter), where several processes
    exchange gradients, and with SIMGAN_FAST_SYNC=1, which waits for every op.
    """
    if device.type != "cuda" or processes > 1 or os.environ.get("SIMGAN_FAST_SYNC") == "1":
        return None
    return CudaGraphs(device) if cuda_obstacle(device.index or 0) is None else None


class GraphedUpdate:
    """`update`, which takes tensors of always the same shapes: the first calls as it is, those after from a graph.

    A replay does what the recorded call did to the same memory: all that `update` changes must be tensors that stay
    where they are, and nothing that it decides may hang on a number of Python's that changes. The metrics that it
    returns are those of the newest call; older ones change with them.
    """

    def __init__(self, update: Callable[..., Metrics], graphs: Graphs) -> None:
        self._update, self._graphs, self._calls = update, graphs, 0
        self._inputs: tuple[Tensor, ...] = ()
        self._replay: Callable[[], None] | None = None
        self._metrics: Metrics = {}

    def __call__(self, *inputs: Tensor) -> Metrics:
        if self._calls < WARM_UP:
            self._calls += 1
            return self._graphs.apart(lambda: self._update(*inputs))
        if self._replay is None:
            self._inputs = tuple(torch.empty_like(each) for each in inputs)
            recorded = self._graphs.record(lambda: self._update(*self._inputs))
            self._replay, self._metrics = recorded
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given)
        self._replay()
        return self._metrics
