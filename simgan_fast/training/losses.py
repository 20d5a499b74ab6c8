"""The two losses of the paper, per image: sums over patches and over pixels, averaged over the mini-batch."""

from __future__ import annotations

from torch import Tensor

from simgan_fast.ops.patch_cross_entropy import patch_cross_entropy

REAL, REFINED = 0, 1  # class indices of the discriminator's logits


def self_regularization(
    refined: Tensor, synthetic: Tensor, feature_transform: str = "identity"
) -> Tensor:
    """||psi(R(x)) - psi(x)||_1 of equation 4, summed over an image, mean over images [n, c, h, w].

    feature_transform: psi, both of which the paper names (2.1). "identity": the pixels. "derivatives": differences of
    neighbours in y and in x, so that edges stay where they are, and light that changes smoothly costs next to nothing.
    """
    change = refined - synthetic
    if feature_transform == "derivatives":
        down, across = change.diff(dim=2), change.diff(dim=3)
        return (down.abs().sum() + across.abs().sum()) / refined.shape[0]
    return change.abs().sum() / refined.shape[0]


def adversarial_loss(logits: Tensor) -> Tensor:
    """-log(1 - D(R(x))) of equation 4, summed over patches: the refined images of `logits` should pass as real."""
    return patch_cross_entropy(logits, REAL)


def discriminator_loss(logits_refined: Tensor, logits_real: Tensor) -> Tensor:
    """Equation 2: -log D(refined) - log(1 - D(real)), each summed over patches and averaged over its images."""
    return patch_cross_entropy(logits_refined, REFINED) + patch_cross_entropy(logits_real, REAL)
