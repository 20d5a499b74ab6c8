"""A refiner through torch.compile, torch.export and AOTInductor: python examples/compile_and_export.py [RUN]."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim

from simgan_fast import Refiner


def images(count: int) -> Tensor:
    return torch.rand(count, 1, 35, 55) * 2 - 1


@torch.no_grad()
def main(refiner: Refiner) -> None:
    compiled = torch.compile(refiner, fullgraph=True, dynamic=True)
    for count in (2, 5, 3):  # one compilation; torch makes another for a batch of 1, and of 0
        x = images(count)
        torch.testing.assert_close(compiled(x), refiner(x))
    print("torch.compile: equal")

    free = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    program = torch.export.export(refiner, (images(2),), dynamic_shapes=(free,))
    x = images(7)
    torch.testing.assert_close(program.module()(x), refiner(x))
    print("torch.export: equal")

    # The program holds our op by its name, so whoever loads it imports simgan_fast first. A program that needs nothing
    # but torch is that of `refiner.to_sequential()`.
    with tempfile.TemporaryDirectory() as folder:
        path = torch._inductor.aoti_compile_and_package(
            program, package_path=str(Path(folder) / "refiner.pt2")
        )
        loaded = torch._inductor.aoti_load_package(path)
        torch.testing.assert_close(loaded(x), refiner(x))
    print("AOTInductor: equal")


if __name__ == "__main__":
    main(Refiner.from_pretrained(sys.argv[1]) if len(sys.argv) > 1 else Refiner().eval())
