"""Training the pose estimator on a labelled set of hands, the same way for every set that is compared."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simgan_fast.data.feed import ResidentFeed
from simgan_fast.errors import InputError, TrainingDiverged
from simgan_fast.evaluation.cosine_training import CosineTraining
from simgan_fast.evaluation.gaze_training import LabelledSet
from simgan_fast.evaluation.pose_augmentation import random_views, view_images, view_joints
from simgan_fast.evaluation.pose_heat_maps import (
    decode_heat_maps,
    from_heat_map,
    heat_map_targets,
    to_heat_map,
)
from simgan_fast.evaluation.pose_labels import Hands, hands_of
from simgan_fast.evaluation.side_by_side import channels_last, first_weights
from simgan_fast.models.stacked_hourglass import (
    StackedHourglass,
    heat_map_loss,
    padded,
    padding_of,
)
from simgan_fast.ops import gather_normalize
from simgan_fast.progress import Progress

POSE_STREAM = 33  # of the keyed permutation: the estimator's mini-batches
PREDICTION_BATCH = 64


@dataclass(frozen=True)
class PoseTraining(CosineTraining):
    """Settings of one training of the estimator; the same for every set that is compared.

    The paper's network is `stacks=2, width=256, depth=4`, for images of 224x224. The defaults are small enough for CPU
    cores and images of about 96x96; hands in all poses want more of `width` and `updates` (docs/hands.md).
    """

    stacks: int = 2
    width: int = 32  # channels; 256 in the paper
    depth: int = 3  # halvings in an hourglass; 4 in the paper
    rotation: float = 20.0  # degrees either way, at random (paper)
    scale: float = (
        0.1  # enlarged or reduced by up to that share, at random: with `shift`, the paper's crops
    )
    shift: float = 0.05  # of the image's side, in x and y
    _: KW_ONLY
    updates: int = 600
    batch_size: int = 16
    learning_rate: float = 3e-3
    warm_up: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 2:  # batch normalisation has no variance of one image's single pixel
            raise InputError(f"batch_size is {self.batch_size}: it must be at least 2.")
        for name, most in (("rotation", 180.0), ("scale", 0.9), ("shift", 1.0)):
            if not 0 <= getattr(self, name) <= most:
                raise InputError(f"{name} is {getattr(self, name)}: it must be from 0 to {most:g}.")


def train_pose_estimator(
    hands: Hands | LabelledSet,
    training: PoseTraining | None = None,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> StackedHourglass:
    """Train the estimator with Adam on the mean squared difference of heat maps, over all stacks.

    Args:
        hands: a labelled set (a PackedSet with the labels of nyu-hands, say), or what `hands_of` took out of one.
        training: settings; the defaults of `PoseTraining` if left out.
        seed: of the first weights, the order of the images, and how each is turned. One seed gives one estimator, bit
            for bit, on one kind of CPU with one number of threads.
        device: where to train.
        progress: told of every update.

    Raises:
        InputError: a set without usable images or labels (see `hands_of`), or settings that no network has.
        TrainingDiverged: a weight is no longer finite.

    >>> estimator = train_pose_estimator(open_packed("hands"), seed=1)  # doctest: +SKIP
    """
    training = training or PoseTraining()
    hands = hands if isinstance(hands, Hands) else hands_of(hands, "the training set")
    feed = ResidentFeed(
        hands.images, training.batch_size, seed=seed, stream=POSE_STREAM, device=device
    )
    estimator = _new_estimator(hands, training, seed).to(device)
    joints, views = hands.joints.to(device), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(estimator.parameters(), lr=training.learning_rate, fused=True)
    for update in range(training.updates):
        optimizer.param_groups[0]["lr"] = training.rate(update)
        rows = feed.next_indices()
        images, places = _seen(
            gather_normalize(feed.images, rows), joints[rows], estimator, hands, training, views
        )
        loss = _loss(estimator(images), places)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        if progress is not None:
            progress.update(1)
    _require_finite(estimator)
    return estimator.eval()


def predict_joints(estimator: StackedHourglass, hands: Hands) -> NDArray[np.float64]:
    """Positions x, y [n, j, 2] of the joints, in pixels of the images of `hands`; they may lie a little outside."""
    device = next(estimator.parameters()).device
    height, width = hands.images.shape[2:]
    left, _, top, _ = padding_of(height, width, estimator.multiple)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(hands.images), PREDICTION_BATCH):
            batch = hands.images[start : start + PREDICTION_BATCH].to(device)
            images = gather_normalize(batch, torch.arange(len(batch), device=device))
            heat_maps = estimator(padded(images, estimator.multiple, hands.background))[:, -1]
            parts.append(from_heat_map(decode_heat_maps(heat_maps)).double().cpu().numpy())
    found: NDArray[np.float64] = np.concatenate(parts) - (left, top)
    return found


def _seen(
    images: Tensor,
    joints: Tensor,
    estimator: StackedHourglass,
    hands: Hands,
    training: PoseTraining,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Images [n, c, h, w] padded and turned at random, and the joints [n, j, 2] in their pixels."""
    left, _, top, _ = padding_of(images.shape[2], images.shape[3], estimator.multiple)
    images = padded(images, estimator.multiple, hands.background)
    views = random_views(
        len(images),
        images.shape[2],
        images.shape[3],
        generator,
        rotation=training.rotation,
        scale=training.scale,
        shift=training.shift,
    )
    shift = torch.tensor([left, top], device=joints.device)
    return view_images(images, views, hands.background), view_joints(joints + shift, views)


def _loss(heat_maps: Tensor, joints: Tensor) -> Tensor:
    """Of heat maps [n, stacks, j, h, w] and positions [n, j, 2] in pixels of the image."""
    height, width = heat_maps.shape[3:]
    places = to_heat_map(joints)
    last = torch.tensor([width, height], device=places.device) - 0.5
    visible = ((places >= -0.5) & (places < last)).all(dim=-1)
    return heat_map_loss(heat_maps, heat_map_targets(places, height, width), visible)


def _new_estimator(hands: Hands, training: PoseTraining, seed: int) -> StackedHourglass:
    with first_weights(seed):
        estimator = StackedHourglass(
            hands.joints.shape[1],
            hands.images.shape[1],
            training.stacks,
            training.width,
            training.depth,
        )
    return channels_last(estimator)


def _require_finite(estimator: StackedHourglass) -> None:
    if not all(bool(parameter.isfinite().all()) for parameter in estimator.parameters()):
        raise TrainingDiverged("the pose estimator diverged: train it with a lower learning rate.")
