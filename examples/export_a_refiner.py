"""A refiner for other programs: python examples/export_a_refiner.py runs/demo/train exported."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from simgan_fast import Refiner
from simgan_fast.models.plain import plain_refiner


def main(run: str, out: str) -> None:
    refiner = Refiner.from_pretrained(run)
    folder = Path(out)
    folder.mkdir(exist_ok=True)
    images = torch.zeros(2, refiner.config.in_channels, 35, 55)
    batch = torch.export.Dim("n")

    # One file for torch: our op is in it, so the program that loads it imports simgan_fast first.
    program = torch.export.export(refiner, (images,), dynamic_shapes={"images": {0: batch}})
    torch.export.save(program, folder / "refiner.pt2")

    # ONNX, for any runtime: standard operators alone.
    torch.onnx.export(
        plain_refiner(refiner), (images,), folder / "refiner.onnx", dynamo=True,
        dynamic_shapes=({0: batch},), input_names=["images"], output_names=["refined"], external_data=False,
    )  # fmt: skip
    print(*sorted(path.name for path in folder.iterdir()))


if __name__ == "__main__":
    run_folder = sys.argv[1] if len(sys.argv) > 1 else "runs/demo/train"
    main(run_folder, sys.argv[2] if len(sys.argv) > 2 else "exported")
