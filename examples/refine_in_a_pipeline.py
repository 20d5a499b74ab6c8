"""Refine mini-batches inside your own training loop: python examples/refine_in_a_pipeline.py runs/demo/train."""

from __future__ import annotations

import sys

import torch

from simgan_fast import Refiner
from simgan_fast.data import open_packed
from simgan_fast.data.feed import ResidentFeed


def main(run: str, images: str) -> None:
    refiner = Refiner.from_pretrained(run)
    feed = ResidentFeed(open_packed(images), batch_size=32, seed=0, stream=0)
    with torch.inference_mode():
        for _ in range(3):
            synthetic = feed.next()  # float32 [32, 1, h, w] in [-1, 1]
            refined = refiner(synthetic)
            print(f"{len(refined)} images, mean change {(refined - synthetic).abs().mean():.3f}")


if __name__ == "__main__":
    run_folder = sys.argv[1] if len(sys.argv) > 1 else "runs/demo/train"
    image_set = sys.argv[2] if len(sys.argv) > 2 else "runs/demo/synthetic"
    main(run_folder, image_set)
