"""Algorithm 1: what each update changes and what it must leave alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from simgan_fast.config import TrainingConfig, preset
from simgan_fast.models.discriminator import PatchDiscriminator
from simgan_fast.training.algorithm import SimGAN
from simgan_fast.training.losses import adversarial_loss, discriminator_loss, self_regularization
from simgan_fast.training.metrics import scalars

SHAPE = (1, 12, 16)


class CountingFeed:
    """Random images; remembers how many were asked for each time."""

    def __init__(self, batch_size: int, seed: int) -> None:
        self.position, self.batch_size, self.asked = 0, batch_size, list[int]()
        self.generator = torch.Generator().manual_seed(seed)

    def next(self, count: int | None = None) -> Tensor:
        count = self.batch_size if count is None else count
        self.asked.append(count)
        self.position += count
        return torch.rand(count, *SHAPE, generator=self.generator) * 2 - 1


def small_simgan(**changes: Any) -> SimGAN:
    config = preset("eyes", **{"width": 8, "blocks": 2, "batch_size": 8, "history": 16, **changes})
    return SimGAN(
        config, SHAPE, CountingFeed(config.batch_size, 1), CountingFeed(config.batch_size, 2)
    )


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    return all(torch.equal(before[name], after[name]) for name in before)


# The defects of public implementations, one test each (1 to 5 and 10; 8 is in test_runs.py; 6, 7, 9 in test_cli.py).


def test_defect_1_discriminator_sees_half_history_and_history_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simgan = small_simgan()
    assert simgan.history is not None
    for _ in range(4):  # 4 fresh images an update fill the 16 slots
        simgan.update_discriminator()
    assert simgan.history.full
    before = simgan.history.images.clone()
    seen: list[Tensor] = []
    forward = simgan.discriminator.forward
    monkeypatch.setattr(
        simgan.discriminator,
        "forward",
        lambda images: seen.append(images.detach()) or forward(images),
    )
    fresh: list[Tensor] = []
    refine = simgan.refiner.forward
    monkeypatch.setattr(
        simgan.refiner, "forward", lambda images: fresh.append(refine(images)) or fresh[-1]
    )
    simgan.update_discriminator()
    refined = seen[0][:8]
    assert torch.equal(refined[:4], fresh[0])
    rows = [int((before == image).flatten(1).all(1).nonzero()) for image in refined[4:]]
    assert len(set(rows)) == 4, "half of the refined batch are distinct old images"
    changed = (simgan.history.images != before).flatten(1).any(1)
    assert int(changed.sum()) == 4, "b/2 slots hold fresh images now"
    assert all(
        any(torch.equal(row, image) for image in fresh[0]) for row in simgan.history.images[changed]
    )


def test_defect_2_class_is_the_channel_of_each_patch() -> None:
    logits = torch.zeros(1, 2, 2, 3)
    logits[0, 1, 0, 0] = (
        5.0  # one patch surely refined; reshaping [n, 2, h, w] to pairs would mix in its neighbours
    )
    expected = torch.nn.functional.softplus(torch.tensor(5.0)) + 5 * torch.log(torch.tensor(2.0))
    torch.testing.assert_close(adversarial_loss(logits), expected)


def test_defect_3_no_activation_on_logits_and_one_on_every_other_convolution() -> None:
    images = torch.rand(4, 1, 35, 55, generator=torch.Generator().manual_seed(0)) * 2 - 1
    discriminator = PatchDiscriminator()
    for layer in discriminator.children():
        with torch.no_grad():
            layer.weight -= layer.weight.mean()  # so that every convolution gives both signs
    x = images
    for name, layer in discriminator.named_children():
        x = layer(x if name == "conv1" else torch.relu(x))
        assert name == "conv5" or x.min() < 0 < x.max(), f"a ReLU after {name} has something to do"
        if name == "conv2":
            x = torch.nn.functional.max_pool2d(torch.relu(x), 3, stride=1, padding=1)
    torch.testing.assert_close(discriminator(images), x, rtol=1e-4, atol=1e-5)


def test_defect_4_refiner_loss_has_both_terms() -> None:
    without = small_simgan(self_regularization=0.0)
    before = weights(without.refiner)
    without.update_refiner()
    assert not same(before, weights(without.refiner)), "the adversarial term alone moves R"
    refined = torch.zeros(2, *SHAPE, requires_grad=True)
    synthetic = torch.full((2, *SHAPE), 0.5)
    constant = torch.zeros(2, 2, 3, 4)  # a discriminator that does not depend on its input
    (adversarial_loss(constant) + 0.3 * self_regularization(refined, synthetic)).backward()
    assert refined.grad is not None
    torch.testing.assert_close(
        refined.grad, torch.full_like(refined, -0.3 / 2)
    )  # lambda * sign / images


def test_defect_5_each_update_leaves_the_other_network_alone() -> None:
    simgan = small_simgan()
    for update, mover, other in (
        (simgan.update_refiner, simgan.refiner, simgan.discriminator),
        (simgan.update_discriminator, simgan.discriminator, simgan.refiner),
    ):
        for parameter in other.parameters():
            parameter.grad = None
        before_mover, before_other = weights(mover), weights(other)
        update()
        assert not same(before_mover, weights(mover))
        assert same(before_other, weights(other))
        assert all(parameter.grad is None for parameter in other.parameters())
        assert all(parameter.requires_grad for parameter in other.parameters())


def test_defect_10_losses_are_in_the_papers_units() -> None:
    refined, synthetic = torch.zeros(3, 1, 35, 55), torch.full((3, 1, 35, 55), 0.5)
    assert float(self_regularization(refined, synthetic)) == pytest.approx(0.5 * 35 * 55)
    logits = torch.zeros(3, 2, 9, 14)
    patches = 9 * 14
    log2 = float(torch.log(torch.tensor(2.0)))
    assert float(adversarial_loss(logits)) == pytest.approx(patches * log2, rel=1e-6)
    assert float(discriminator_loss(logits, logits)) == pytest.approx(2 * patches * log2, rel=1e-6)
    # A code that takes means over patches and over pixels needs lambda * pixels / patches for the
    # same trade-off.
    mean_mean = 0.1 * 35 * 55 / patches
    assert mean_mean == pytest.approx(0.1 * 15.278, rel=1e-4)


def test_derivatives_are_those_of_the_change_in_y_and_in_x() -> None:
    """A step of 0.5 down a column and a slope of 0.1 across, on two channels; light that is alike costs nothing."""
    synthetic = torch.rand(3, 2, 4, 5)
    change = torch.zeros(4, 5)
    change[2:] += 0.5
    change += 0.1 * torch.arange(5)
    expected = 2 * (5 * 0.5 + 4 * 4 * 0.1)
    found = self_regularization(synthetic + change, synthetic, "derivatives")
    torch.testing.assert_close(found, torch.tensor(expected))
    found = self_regularization(synthetic - 0.3, synthetic, "derivatives")
    torch.testing.assert_close(found, torch.tensor(0.0), atol=1e-4, rtol=0)


@pytest.mark.parametrize("transform", ["identity", "derivatives"])
def test_the_refiner_learns_by_the_feature_transform_of_its_settings(transform: str) -> None:
    simgan = small_simgan(feature_transform=transform)
    images = CountingFeed(8, 3).next()
    refined = simgan.refiner(images).detach()
    expected = self_regularization(refined, images, transform)
    found = simgan.learn_to_refine(images)["self_regularization"]
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found, expected)


# Algorithm 1


@pytest.mark.parametrize(("refiner_updates", "discriminator_updates"), [(1, 1), (2, 1), (3, 2)])
def test_step_draws_what_algorithm_1_says(refiner_updates: int, discriminator_updates: int) -> None:
    simgan = small_simgan(
        refiner_updates=refiner_updates, discriminator_updates=discriminator_updates
    )
    simgan.step()
    assert simgan.synthetic.asked == [8] * refiner_updates + [4] * discriminator_updates
    assert simgan.real.asked == [8] * discriminator_updates


def test_history_off_refines_whole_batches() -> None:
    simgan = small_simgan(history=0)
    assert simgan.history is None
    simgan.update_discriminator()
    assert simgan.synthetic.asked == [8]


def test_global_adversary_decides_once_per_image() -> None:
    simgan = small_simgan(adversarial="global")
    assert simgan.discriminator(simgan.real.next()).shape == (8, 2, 1, 1)
    values = scalars(simgan.step())
    assert all(torch.isfinite(torch.tensor(value)) for value in values.values())


def test_discriminator_learns_to_tell_bright_from_dark() -> None:
    simgan = small_simgan(history=0)
    simgan.real.next = lambda _=None: torch.rand(8, *SHAPE) * 0.2 + 0.5  # type: ignore[method-assign]
    simgan.synthetic.next = lambda _=None: torch.rand(8, *SHAPE) * 0.2 - 0.5  # type: ignore[method-assign]
    first = scalars(simgan.update_discriminator())["loss_discriminator"]
    for _ in range(40):
        metrics = scalars(simgan.update_discriminator())
    assert metrics["loss_discriminator"] < first / 4
    assert metrics["accuracy_real"] > 0.9 and metrics["accuracy_refined"] > 0.9


def test_pretraining_brings_the_refiner_to_the_identity() -> None:
    simgan = small_simgan(initialization="default", learning_rate=1e-3)
    first = scalars(simgan.pretrain_refiner())["mean_abs_change"]
    for _ in range(150):
        metrics = scalars(simgan.pretrain_refiner())
    assert metrics["mean_abs_change"] < first / 3


def test_identity_start_is_near_the_identity() -> None:
    simgan = small_simgan(initialization="identity")
    images = simgan.synthetic.next()
    assert float((simgan.refiner(images) - images).detach().abs().mean()) < 0.15


def test_averaged_refiner_follows_the_refiner() -> None:
    last = small_simgan(averaging=0.0)
    last.update_refiner()
    assert same(weights(last.refiner), weights(last.averaged))
    slow = small_simgan(averaging=0.75)
    start = slow.refiner.last.weight.detach().clone()
    slow.update_refiner()
    expected = 0.75 * start + 0.25 * slow.refiner.last.weight
    torch.testing.assert_close(slow.averaged.last.weight, expected)


def test_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = small_simgan(seed=5)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    second = small_simgan(seed=5)
    assert torch.equal(torch.random.get_rng_state(), state), (
        "making models leaves the caller's generator alone"
    )
    assert same(weights(first.refiner), weights(second.refiner))
    assert not same(weights(first.refiner), weights(small_simgan(seed=6).refiner))


def test_config_refuses_nonsense() -> None:
    from simgan_fast.errors import InputError

    for changes in (
        {"batch_size": 7},
        {"batch_size": 8, "history": 3},
        {"adversarial": "both"},
        {"discriminator": "hands", "adversarial": "global"},
        {"learning_rate_drop": -1},
        {"learning_rate": float("nan")},
        {"steps": -1},
        {"widht": 3},
        {"steps": "many"},
        {"steps": True},
    ):
        with pytest.raises(InputError):
            preset("eyes", **changes)
    assert dataclasses.is_dataclass(TrainingConfig)


def test_learning_rates_drop_to_a_quarter_after_the_stated_steps() -> None:
    simgan = small_simgan(learning_rate=0.4, discriminator_learning_rate=0.8, learning_rate_drop=3)
    found = []
    for step in (0, 2, 3, 900, 1):  # 1 after 900: a run that goes on from an older checkpoint
        simgan.set_learning_rates(step)
        optimizers = (simgan.refiner_optimizer, simgan.discriminator_optimizer)
        found.append([optimizer.param_groups[0]["lr"] for optimizer in optimizers])
    assert found == [[0.4, 0.8], [0.4, 0.8], [0.1, 0.2], [0.1, 0.2], [0.4, 0.8]]
    constant = small_simgan(learning_rate=0.4)
    constant.set_learning_rates(10**9)
    assert constant.refiner_optimizer.param_groups[0]["lr"] == 0.4


def test_the_discriminator_of_hands_plays_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "SHAPE", (1, 40, 48))
    simgan = small_simgan(discriminator="hands", kernel_size=7, width=4, blocks=1)
    before = [weights(model) for model in (simgan.refiner, simgan.discriminator)]
    metrics = scalars(simgan.step())
    assert metrics["loss_discriminator"] == pytest.approx(2 * 4 * 0.693, rel=0.2)  # 2x2 patches
    after = [weights(model) for model in (simgan.refiner, simgan.discriminator)]
    assert not any(same(*pair) for pair in zip(before, after, strict=True))
