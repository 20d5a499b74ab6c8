"""The two losses of the paper, per image: sums over patches and over pixels, averaged over the mini-batch."""

from __future__ import annotations

from torch import Tensor

from simgan_fast.ops.patch_cross_entropy import patch_cross_entropy

REAL, REFINED = 0, 1  # class indices of the discriminator's logits


def self_regularization(refined: Tensor, synthetic: Tensor) -> Tensor:
    """||R(x) - x||_1 of equation 4: |difference| summed over the pixels, mean over images [n, c, h, w]."""
    return (refined - synthetic).abs().sum() / refined.shape[0]


def adversarial_loss(logits: Tensor) -> Tensor:
    """-log(1 - D(R(x))) of equation 4, summed over patches: the refined images of `logits` should pass as real."""
    return patch_cross_entropy(logits, REAL)


def discriminator_loss(logits_refined: Tensor, logits_real: Tensor) -> Tensor:
    """Equation 2: -log D(refined) - log(1 - D(real)), each summed over patches and averaged over its images."""
    return patch_cross_entropy(logits_refined, REFINED) + patch_cross_entropy(logits_real, REAL)
