"""Algorithm 1 of the paper, flat: the two networks, their updates, and the order of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from simgan_fast.config import TrainingConfig
from simgan_fast.models.discriminator import (
    GlobalDiscriminator,
    HandPatchDiscriminator,
    PatchDiscriminator,
)
from simgan_fast.models.refiner import Refiner
from simgan_fast.precision import computing_in
from simgan_fast.training.graphs import GraphedUpdate, Graphs
from simgan_fast.training.history import History, SharedHistory
from simgan_fast.training.losses import adversarial_loss, discriminator_loss, self_regularization
from simgan_fast.training.metrics import Metrics, decisions, spread
from simgan_fast.training.processes import ALONE, Group, Processes

Discriminator = PatchDiscriminator | HandPatchDiscriminator

DROP = 0.25  # of the learning rates: 0.0002 to 0.00005 (paper, appendix)


class Feed(Protocol):
    """Where mini-batches come from: float32 [n, c, h, w] in [-1, 1], and the number of images drawn so far."""

    position: int
    seconds: float  # that `next` has taken

    def next(self, count: int | None = None) -> Tensor:
        """The next `count` images, a mini-batch where None."""


class SimGAN:
    """A refiner and a discriminator in training.

    `synthetic` and `real` are feeds of the same image shape (c, h, w). One call of `step` is one
    pass through the outer loop of Algorithm 1; `pretrain_refiner` and `pretrain_discriminator` are
    one update each.

    Where several `processes` train together each has a SimGAN, whose feeds give it its share of every mini-batch:
    the updates are those of one process to rounding.

    precision: "float32" or "bfloat16", what the networks compute in; weights, losses and history are float32.
    graphs: what records updates, which are replayed then; on a GPU, and of one process.
    """

    def __init__(
        self,
        config: TrainingConfig,
        shape: tuple[int, int, int],
        synthetic: Feed,
        real: Feed,
        device: str = "cpu",
        processes: Processes = ALONE,
        *,
        precision: str = "float32",
        graphs: Graphs | None = None,
    ) -> None:
        self.config, self.synthetic, self.real = config, synthetic, real
        self.processes, self.precision, self.device = processes, precision, torch.device(device)
        self.refiner, self.discriminator = make_models(config, shape)
        for model in (self.refiner, self.discriminator):
            model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Moving average of R's weights: what a run keeps.
        self.averaged = copy.deepcopy(self.refiner)
        rates = (config.learning_rate, config.discriminator_learning_rate)
        self.refiner_optimizer, self.discriminator_optimizer = (
            make_optimizer(config, model, rate, self.device)
            for model, rate in zip((self.refiner, self.discriminator), rates, strict=True)
        )
        self.history = make_history(config, shape, device, processes)

        def recorded(update: Callable[..., Metrics]) -> Callable[..., Metrics]:
            return update if graphs is None else GraphedUpdate(update, graphs)

        self._recorded_refiner = recorded(self.learn_to_refine)
        self._recorded_discriminator = recorded(self.learn_to_tell)

    def step(self) -> Metrics:
        """K_g updates of the refiner, then K_d updates of the discriminator."""
        metrics: Metrics = {}
        for _ in range(self.config.refiner_updates):
            metrics |= self.update_refiner()
        for _ in range(self.config.discriminator_updates):
            metrics |= self.update_discriminator()
        return metrics

    def set_learning_rates(self, step: int) -> None:
        """Those of step number `step`, counted from 0."""
        dropped = 0 < self.config.learning_rate_drop <= step
        for optimizer, rate in (
            (self.refiner_optimizer, self.config.learning_rate),
            (self.discriminator_optimizer, self.config.discriminator_learning_rate),
        ):
            set_learning_rate(optimizer, rate * DROP if dropped else rate)

    def update_refiner(self) -> Metrics:
        """One optimiser step on L_R = -log(1 - D(R(x))) + lambda |psi(R(x)) - psi(x)| (equation 4)."""
        return self._recorded_refiner(self.synthetic.next())

    def update_discriminator(self) -> Metrics:
        """One optimiser step on L_D (equation 2): half of the refined images are fresh, half are history."""
        if self.history is None:
            return self._recorded_discriminator(self.synthetic.next(), self.real.next())
        fresh = self.synthetic.next(self.processes.share(self.config.batch_size // 2))
        filling = not self.history.full  # it counts in Python then, which no record does
        update = self.learn_to_tell if filling else self._recorded_discriminator
        return update(fresh, self.real.next())

    def learn_to_refine(self, synthetic: Tensor) -> Metrics:
        """`update_refiner` by these images."""
        with computing_in(self.precision, self.device), frozen(self.discriminator):
            refined = self.refiner(synthetic).float()
            adversarial = adversarial_loss(self.discriminator(refined))
        regularization = self_regularization(refined, synthetic, self.config.feature_transform)
        loss = adversarial + self.config.self_regularization * regularization
        self._update(self.refiner_optimizer, loss)
        follow(self.averaged, self.refiner, self.config.averaging)
        return {
            "loss_refiner": loss.detach(),
            "adversarial": adversarial.detach(),
            "self_regularization": regularization.detach(),
            **spread(refined.detach(), synthetic),
        }

    def learn_to_tell(self, synthetic: Tensor, real: Tensor) -> Metrics:
        """`update_discriminator` by these images, of which the refined ones join the history."""
        with computing_in(self.precision, self.device):
            refined = self.refined_batch(synthetic)
            logits = self.discriminator(torch.cat([refined, real]))
            logits_refined, logits_real = logits.split([len(refined), len(real)])
            loss = discriminator_loss(logits_refined, logits_real)
        self._update(self.discriminator_optimizer, loss)
        return {"loss_discriminator": loss.detach(), **decisions(logits_refined, logits_real)}

    @torch.no_grad()
    def refined_batch(self, synthetic: Tensor) -> Tensor:
        """b refined images for the discriminator: b/2 fresh and b/2 from the history, or b fresh where it is off."""
        fresh: Tensor = self.refiner(synthetic).float()
        return fresh if self.history is None else torch.cat([fresh, self.history.exchange(fresh)])

    def pretrain_refiner(self) -> Metrics:
        """One update with the self-regularisation alone, that of pixels (paper 3.1: 1,000 of them)."""
        synthetic = self.synthetic.next()
        with computing_in(self.precision, self.device):
            refined = self.refiner(synthetic).float()
        loss = self_regularization(refined, synthetic)
        self._update(self.refiner_optimizer, loss)
        follow(self.averaged, self.refiner, self.config.averaging)
        return {"self_regularization": loss.detach(), **spread(refined.detach(), synthetic)}

    def pretrain_discriminator(self) -> Metrics:
        """One update of the discriminator before the game begins (paper 3.1: 200 of them)."""
        return self.update_discriminator()

    def _update(self, optimizer: Optimizer, loss: Tensor) -> None:
        """One optimiser step on the mean of the processes' losses."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.processes.average_gradients(optimizer)
        optimizer.step()


def make_models(
    config: TrainingConfig, shape: tuple[int, int, int]
) -> tuple[Refiner, Discriminator]:
    """Both networks, their weights drawn from the seed and from nothing else."""
    channels, height, width = shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        refiner = Refiner(
            channels, config.width, config.blocks, config.kernel_size, config.padding_mode
        )
        if config.initialization == "identity":
            refiner.initialize_near_identity()
        if config.adversarial == "global":
            return refiner, GlobalDiscriminator((height, width), channels, config.padding_mode)
        kind = HandPatchDiscriminator if config.discriminator == "hands" else PatchDiscriminator
        return refiner, kind(channels, config.padding_mode)


def make_optimizer(
    config: TrainingConfig, model: nn.Module, learning_rate: float, device: torch.device
) -> Optimizer:
    """Adam or plain SGD over the parameters of `model`, in torch's fused form.

    On a GPU the learning rate lies there too: a recorded step reads it, where a number would be part of the record.
    """
    on_gpu = device.type == "cuda"
    optimizer: Optimizer
    if config.optimizer == "sgd":
        optimizer = SGD(model.parameters(), learning_rate, fused=True)
    else:
        betas = (config.adam_beta1, 0.999)
        optimizer = Adam(
            model.parameters(), learning_rate, betas=betas, fused=True, capturable=on_gpu
        )
    if on_gpu:
        # Torch would warn of a capturable optimiser that steps outside of a graph, as all do before they are recorded.
        vars(optimizer)["_warned_capturable_if_run_uncaptured"] = True
        optimizer.param_groups[0]["lr"] = torch.tensor(learning_rate, device=device)
    return optimizer


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Of the only group of parameters; where it is a tensor, in its place."""
    group = optimizer.param_groups[0]
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def make_history(
    config: TrainingConfig, shape: tuple[int, int, int], device: str, processes: Processes
) -> History | None:
    """The history, shared out where there are several processes; None where it is off."""
    if not config.history:
        return None
    if isinstance(processes, Group):
        return SharedHistory(
            config.history, shape, seed=config.seed, processes=processes, device=device
        )
    return History(config.history, shape, seed=config.seed, device=device)


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the weights of `average` a share 1 - `decay` of the way to those of `model`."""
    # One call: a kernel per group of tensors on CUDA, where one per tensor would cost a launch each.
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Let gradients through `model` but into none of its parameters: the refiner's step leaves D alone."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in model.parameters():
            parameter.requires_grad_(True)
