"""The refiner as a module of other people's trainings: compiled, in other types, in threads, in any memory order."""

from __future__ import annotations

import copy
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.data import DataLoader, TensorDataset

from simgan_fast import Refiner
from simgan_fast.ops import patch_cross_entropy


def images(count: int) -> Tensor:
    return torch.rand(count, 1, 12, 10) * 2 - 1


@pytest.fixture
def refiner() -> Refiner:
    return Refiner(width=16, blocks=2)


@pytest.mark.parametrize("differentiable", [False, True])
def test_one_compilation_for_every_batch_size(refiner: Refiner, differentiable: bool) -> None:
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(refiner, fullgraph=True, dynamic=True, backend=counter)
    with torch.set_grad_enabled(differentiable):
        for count in (4, 2, 7, 64):
            x = images(count)
            torch.testing.assert_close(compiled(x), refiner(x))
        assert counter.frame_count == 1
        for count in (1, 0):  # torch has a rule of its own for sizes of 1 and 0
            assert compiled(images(count)).shape == (count, 1, 12, 10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_float_types(refiner: Refiner, dtype: torch.dtype) -> None:
    x = images(2)
    exact = refiner(x)
    other = copy.deepcopy(refiner).to(dtype)(x.to(dtype))
    assert other.dtype is dtype
    torch.testing.assert_close(other.float(), exact, rtol=0, atol=0.03)


def test_threads_train_refiners_of_their_own() -> None:
    def gradient(seed: int) -> Tensor:
        refiner = Refiner(width=16, blocks=1)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in refiner.parameters():
                parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.5)
        x = torch.rand(3, 1, 12, 10, generator=generator)
        refiner(x).square().mean().backward()
        assert refiner.first.weight.grad is not None
        return refiner.first.weight.grad

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(gradient, range(12)))
    for seed, found in enumerate(together):
        assert torch.equal(found, gradient(seed))


@pytest.mark.parametrize("weights", [torch.contiguous_format, torch.channels_last])
def test_memory_orders(refiner: Refiner, weights: torch.memory_format) -> None:
    refiner.to(memory_format=weights)  # type: ignore[call-overload]
    x = torch.rand(6, 1, 24, 20) * 2 - 1
    views = [
        x.to(memory_format=torch.channels_last),
        x[::2, :, 3:, ::2],
        x.transpose(2, 3),
        x[:1].expand(4, -1, -1, -1),
        x[:0],
    ]
    for view in views:
        for differentiable in (False, True):
            with torch.set_grad_enabled(differentiable):
                refined = refiner(view)
            assert refined.shape == view.shape
            assert torch.equal(refined, refiner(view.contiguous()))


def test_who_watches_sees_the_op(refiner: Refiner) -> None:
    """The shortcut past torch's dispatcher is not taken where somebody looks there."""
    refiner.requires_grad_(False)
    x, other = images(2), images(2)
    with torch.profiler.profile(acc_events=True) as profile:  # or torch 2.11 warns
        refiner(x)
    assert "simgan_fast::residual_network" in {event.key for event in profile.key_averages()}
    assert "simgan_fast.residual_network" in make_fx(refiner)(x).code
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert isinstance(refiner(mode.from_tensor(x)), FakeTensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.trace is on its way out
        assert torch.equal(torch.jit.trace(refiner, x)(other), refiner(other))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_a_loss_for_each_image_by_vmap() -> None:
    logits = torch.rand(5, 1, 2, 4, 3)
    mapped = torch.func.vmap(lambda each: patch_cross_entropy(each, 1))(logits)
    torch.testing.assert_close(mapped, patch_cross_entropy(logits[:, 0], 1, reduction="image"))


class Module(nn.Module):
    """What a Lightning user writes: a step that gives a loss, and the optimisers."""

    def __init__(self) -> None:
        super().__init__()
        self.refiner = Refiner(width=8, blocks=1)

    def training_step(self, batch: tuple[Tensor], _index: int) -> Tensor:
        (x,) = batch
        loss: Tensor = (self.refiner(x) - x).abs().mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-2)


def test_a_training_loop_as_lightning_runs_it() -> None:
    """The loop of Lightning's trainer: the step and the backward pass are a closure that the optimiser calls."""
    module, losses = Module(), []
    optimizer = module.configure_optimizers()
    loader = DataLoader(TensorDataset(images(64)), batch_size=8, shuffle=True)
    module.train()
    for _ in range(5):
        for index, batch in enumerate(loader):

            def closure(batch=batch, index=index) -> Tensor:
                loss = module.training_step(batch, index)
                optimizer.zero_grad()
                loss.backward()
                return loss

            losses.append(float(optimizer.step(closure).detach()))
    assert sum(losses[-8:]) < 0.7 * sum(losses[:8])
