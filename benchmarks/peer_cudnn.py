"""Residual blocks by cuDNN's graph API: each convolution in one launch with its bias, skip and ReLU. For time_cuda.py.

Wants the package nvidia-cudnn-frontend; cuDNN itself comes with torch. Forward alone, padding of zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

INSTALLED = find_spec("cudnn") is not None
PLANS = 6  # that are tried, as cuDNN ranks them: some take a second to be compiled
Block = Sequence[Tensor]  # weight, bias, weight, bias


class Convolution:
    """relu(conv(x) + bias + skip) of bfloat16 maps [n, c, h, w], channels last, as one graph, by its fastest plan.

    size: of the maps; side: of the filters; timed: how long a call takes; how: more of `cudnn.pygraph`.
    """

    def __init__(
        self,
        size: Sequence[int],
        side: int,
        skips: bool,
        timed: Callable[[Callable[[], None]], float],
        **how: Any,
    ) -> None:
        self.graph, self.inputs, self.output, self.plans = graph_of(size, side, skips, **how)
        self.handle, self.plan, self.timed = how.get("handle"), -1, timed

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor, skip: Tensor | None) -> Tensor:
        y = torch.empty_like(x)
        given = [x, weight, bias.view(1, -1, 1, 1), *([] if skip is None else [skip])]
        tensors = {**dict(zip(self.inputs, given, strict=True)), self.output: y}
        if self.plan < 0:
            bytes_wanted = max(map(self.graph.get_workspace_size_plan_at_index, self.plans))
            self.workspace = torch.empty(max(1, bytes_wanted), dtype=torch.uint8, device="cuda")
            times = {plan: self.timed(partial(self._execute, tensors, plan)) for plan in self.plans}
            self.plan = min(times, key=times.__getitem__)
        self._execute(tensors, self.plan)
        return y

    def _execute(self, tensors: dict[Any, Tensor], plan: int) -> None:
        self.graph.execute_plan_at_index(tensors, self.workspace, plan, handle=self.handle)


def graph_of(
    size: Sequence[int], side: int, skips: bool, **how: Any
) -> tuple[Any, list[Any], Any, list[int]]:
    """The graph, what goes in (x, weight, bias, perhaps skip), what comes out, and the plans that were built."""
    import cudnn

    bf16, float32 = cudnn.data_type.BFLOAT16, cudnn.data_type.FLOAT
    graph = cudnn.pygraph(
        io_data_type=bf16, intermediate_data_type=float32, compute_data_type=float32, **how
    )

    def tensor(name: str, *dim: int) -> Any:
        n, c, h, w = dim
        return graph.tensor(name=name, dim=[n, c, h, w], stride=[c * h * w, 1, c * w, c])

    c = size[1]
    x, weight, bias = (
        tensor("x", *size),
        tensor("weight", c, c, side, side),
        tensor("bias", 1, c, 1, 1),
    )
    inputs, margin = [x, weight, bias], [side // 2] * 2
    y = graph.conv_fprop(image=x, weight=weight, padding=margin, stride=[1, 1], dilation=[1, 1])
    y = graph.bias(input=y, bias=bias)
    if skips:
        inputs.append(tensor("skip", *size))
        y = graph.add(a=y, b=inputs[-1])
    y = graph.relu(input=y)
    y.set_output(True).set_data_type(bf16)
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    if "device_property" not in how:  # then there may be no device to ask
        graph.check_support()
    plans = []
    for plan in range(graph.get_execution_plan_count()):
        if len(plans) == PLANS:
            break
        with suppress(cudnn.cudnnGraphNotSupportedError):  # this device has none of the kind
            graph.build_plan_at_index(plan)
            plans.append(plan)
    return graph, inputs, y, plans


class ResidualBlocks:
    """A row of blocks of maps like x."""

    def __init__(
        self, x: Tensor, weights: Sequence[Block], timed: Callable[[Callable[[], None]], float]
    ) -> None:
        import cudnn

        handle = cudnn.create_handle()
        cudnn.set_stream(handle=handle, stream=torch.cuda.current_stream().cuda_stream)
        side = weights[0][0].shape[-1]
        self.first, self.second = (
            Convolution(x.shape, side, skips, timed, handle=handle) for skips in (False, True)
        )

    @torch.no_grad()
    def __call__(self, x: Tensor, weights: Sequence[Block]) -> Tensor:
        for w1, b1, w2, b2 in weights:
            x = self.second(self.first(x, w1, b1, None), w2, b2, x)
        return x
