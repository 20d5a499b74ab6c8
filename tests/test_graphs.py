"""Updates that are recorded and replayed, by a stand-in for CUDA graphs on the CPU; and what they compute in.

The graphs themselves are tested where there is a GPU.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
from cases import needs_gpu
from test_training import CountingFeed
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from simgan_fast import _native, precision
from simgan_fast.config import preset
from simgan_fast.errors import InputError
from simgan_fast.precision import chosen_precision, computing_in
from simgan_fast.training.algorithm import (
    SimGAN,
    make_models,
    make_optimizer,
    set_learning_rate,
)
from simgan_fast.training.graphs import WARM_UP, CudaGraphs, graphs_for
from simgan_fast.training.metrics import Metrics, scalars

SHAPE = (1, 12, 16)
CONFIG = preset("eyes", width=8, blocks=2, batch_size=8, history=16, learning_rate_drop=4)


def tensors_of(simgan: SimGAN) -> list[Tensor]:
    """All that updates change."""
    assert simgan.history is not None
    found = [simgan.history.images, simgan.history.counter]
    for model in (simgan.refiner, simgan.discriminator, simgan.averaged):
        found += [parameter.data for parameter in model.parameters()]
    for optimizer in (simgan.refiner_optimizer, simgan.discriminator_optimizer):
        found += [each for state in optimizer.state.values() for each in state.values()]
    return found


class Tape:
    """Records as CUDA graphs do: recording changes nothing, and a replay writes where the recorded call wrote."""

    simgan: SimGAN

    def __init__(self) -> None:
        self.recorded, self.replayed = 0, 0

    def apart(self, work: Callable[[], Metrics]) -> Metrics:
        return work()

    def record(self, work: Callable[[], Metrics]) -> tuple[Callable[[], None], Metrics]:
        self.recorded += 1
        state = tensors_of(self.simgan)
        kept = [tensor.clone() for tensor in state]
        results = work()
        for tensor, value in zip(state, kept, strict=True):
            tensor.copy_(value)

        def replay() -> None:
            self.replayed += 1
            for name, value in work().items():
                place = results[name]
                if isinstance(place, Tensor) and isinstance(value, Tensor):
                    place.copy_(value)

        return replay, results


def test_replayed_updates_are_the_updates() -> None:
    """Also while the history fills, and across a drop of the learning rates."""
    tape = Tape()
    plain, graphed = (
        SimGAN(CONFIG, SHAPE, CountingFeed(8, 1), CountingFeed(8, 2), graphs=graphs)
        for graphs in (None, tape)
    )
    tape.simgan = graphed
    for step in range(10):
        found: list[Metrics] = []
        for simgan in (plain, graphed):
            simgan.set_learning_rates(step)
            found.append(simgan.step())
        for name, value in found[0].items():
            if isinstance(value, Tensor):
                torch.testing.assert_close(found[1][name], value, rtol=0, atol=0)
    for mine, theirs in zip(tensors_of(graphed), tensors_of(plain), strict=True):
        assert torch.equal(mine, theirs)
    filling = 4  # updates of D, by 4 of 16 images
    assert tape.recorded == 2
    assert tape.replayed == 2 * (10 - WARM_UP) - filling


def test_float32_leaves_the_autocast_of_whoever_calls() -> None:
    with torch.autocast("cpu", torch.bfloat16), computing_in("float32", "cpu"):
        assert torch.is_autocast_enabled("cpu")
    with computing_in("bfloat16", "cpu"):
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.skipif(not _native.AVAILABLE, reason="the history's twin reads its counter")
def test_an_update_looks_at_no_number_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph cannot; on fake tensors, which have no values, whoever asked for one would raise."""
    # Fakes can be neither moved nor copied, and all lie at the address 0.
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, **_: self)
    monkeypatch.setattr("copy.deepcopy", lambda _: make_models(CONFIG, SHAPE)[0])
    op = sys.modules["simgan_fast.ops.history_exchange"]
    monkeypatch.setattr(op, "_shares_memory", lambda *_: False)
    with FakeTensorMode():

        class Feed(CountingFeed):
            def next(self, count: int | None = None) -> Tensor:
                return torch.rand(count or self.batch_size, *SHAPE)

        simgan = SimGAN(CONFIG, SHAPE, Feed(8, 1), Feed(8, 2))
        assert simgan.history is not None
        simgan.history.filled = 16
        for _ in range(2):
            assert {"loss_refiner", "loss_discriminator"} <= simgan.step().keys()
        with pytest.raises(Exception, match="_local_scalar_dense"):
            float(torch.rand(1))


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_learning_rate_on_the_device_is_changed_in_its_place(name: str) -> None:
    """A recorded step reads the tensor that was there when it was recorded."""
    config = preset("eyes", optimizer=name)
    model = torch.nn.Linear(2, 1, bias=False)
    with FakeTensorMode(allow_non_fake_inputs=True):
        rate = make_optimizer(config, model, 0.5, torch.device("cuda")).param_groups[0]["lr"]
        assert rate.device.type == "cuda"
    optimizer = make_optimizer(config, model, 0.5, torch.device("cpu"))
    assert optimizer.param_groups[0]["lr"] == 0.5
    place = optimizer.param_groups[0]["lr"] = torch.tensor(0.5)
    set_learning_rate(optimizer, 0.25)
    assert optimizer.param_groups[0]["lr"] is place and float(place) == 0.25


def test_where_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    assert graphs_for(torch.device("cpu"), 1) is None
    assert graphs_for(cuda, 2) is None
    monkeypatch.setattr("simgan_fast.training.graphs.cuda_obstacle", lambda _: "it is not there")
    assert graphs_for(cuda, 1) is None
    monkeypatch.setattr("simgan_fast.training.graphs.cuda_obstacle", lambda _: None)
    monkeypatch.setenv("SIMGAN_FAST_SYNC", "1")
    assert graphs_for(cuda, 1) is None
    monkeypatch.delenv("SIMGAN_FAST_SYNC")
    monkeypatch.setattr("simgan_fast.training.graphs.CudaGraphs", lambda device: device)
    assert graphs_for(cuda, 1) == cuda


@pytest.mark.parametrize(
    ("asked", "device", "images", "expected"),
    [
        ("auto", "cpu", "uint8", "float32"),
        ("auto", "cuda", "uint8", "bfloat16"),
        ("auto", "cuda", "uint16", "float32"),
        ("float32", "cuda", "uint8", "float32"),
        ("bfloat16", "cuda:1", "uint16", "bfloat16"),
    ],
)
def test_chosen_precision(
    monkeypatch: pytest.MonkeyPatch, asked: str, device: str, images: str, expected: str
) -> None:
    monkeypatch.setattr(precision.torch.cuda, "is_bf16_supported", lambda **_: True)
    assert chosen_precision(asked, device, images) == expected


def test_precision_on_a_gpu_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision.torch.cuda, "is_bf16_supported", lambda **_: False)
    assert chosen_precision("auto", "cuda", "uint8") == "float32"


def test_bad_precisions() -> None:
    with pytest.raises(InputError, match="it must be one of auto, float32, bfloat16"):
        chosen_precision("half", "cpu", "uint8")
    with pytest.raises(InputError, match="name a GPU with --device cuda"):
        chosen_precision("bfloat16", "cpu", "uint8")
    with pytest.raises(InputError, match="precision is 'half'"):
        preset("eyes", precision="half")


def test_weights_losses_and_history_stay_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 too; the CPU's kernels look past autocast, so their twins take their place."""
    from simgan_fast.models import discriminator, refiner

    for module, op in ((refiner, "residual_network"), (discriminator, "patch_network")):
        monkeypatch.setattr(module, op, partial(getattr(module, op), impl="reference"))
    simgan = SimGAN(
        CONFIG, SHAPE, CountingFeed(8, 1), CountingFeed(8, 2), "cpu", precision="bfloat16"
    )
    of_refiner: list[torch.dtype] = []
    simgan.refiner.register_forward_hook(lambda *call: of_refiner.append(call[2].dtype))
    for _ in range(5):
        metrics = simgan.step()
    assert set(of_refiner) == {torch.bfloat16}
    kinds = {tensor.dtype for tensor in tensors_of(simgan)} - {torch.int64}
    assert kinds == {torch.float32}
    losses = [metrics[name] for name in ("loss_refiner", "adversarial", "loss_discriminator")]
    assert all(isinstance(loss, Tensor) and loss.dtype == torch.float32 for loss in losses)


class OnGpu(CountingFeed):
    def next(self, count: int | None = None) -> Tensor:
        return super().next(count).cuda()


@needs_gpu
@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_graphs_on_a_gpu(name: str) -> None:
    """As without: cuDNN and the pooling add up in any order, so not to the bit; learning rates drop on the way."""
    device = torch.device("cuda", torch.cuda.current_device())
    config = dataclasses.replace(CONFIG, width=64, learning_rate_drop=6)
    runs: list[tuple[SimGAN, list[dict[str, float]]]] = []
    for graphs in (None, CudaGraphs(device)):
        feeds = OnGpu(8, 1), OnGpu(8, 2)
        simgan = SimGAN(config, SHAPE, *feeds, str(device), precision=name, graphs=graphs)
        metrics = []
        for step in range(14):
            simgan.set_learning_rates(step)
            metrics.append(scalars(simgan.step()))
        runs.append((simgan, metrics))
    for mine, theirs in zip(runs[1][1], runs[0][1], strict=True):
        for key in ("loss_refiner", "self_regularization", "loss_discriminator", "mean_abs_change"):
            assert mine[key] == pytest.approx(theirs[key], rel=0.05), key
    weights = [torch.cat([p.flatten() for p in simgan.averaged.parameters()]) for simgan, _ in runs]
    assert (weights[1] - weights[0]).norm() < 0.01 * weights[0].norm()
    assert runs[1][0].history is not None and runs[1][0].history.counter.item() == 14
