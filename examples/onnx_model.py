"""Write a refiner as an ONNX file and run it without torch: python examples/onnx_model.py refiner.onnx [RUN].

ONNX knows no op of ours: `to_sequential` gives the same refiner in torch's own layers. Any batch and size goes in.
Needs `pip install simgan-fast[onnx]`.
"""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime
import torch
from torch.export import Dim

from simgan_fast import Refiner


def main(file: str, refiner: Refiner) -> None:
    images = torch.rand(2, refiner.config.in_channels, 35, 55) * 2 - 1
    free = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    plain = refiner.to_sequential().eval()
    torch.onnx.export(
        plain,
        (images,),
        file,
        dynamo=True,
        external_data=False,
        input_names=["images"],
        output_names=["refined"],
        dynamic_shapes=(free,),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for shape in ((1, 35, 55), (5, 40, 31)):
        images = torch.rand(shape[0], refiner.config.in_channels, *shape[1:]) * 2 - 1
        (refined,) = session.run(None, {"images": images.numpy()})
        with torch.no_grad():
            error = np.abs(refined - refiner(images).numpy()).max()
        assert error < 1e-5, error
        print(f"{list(images.shape)}: equal to 1e-5")


if __name__ == "__main__":
    main(
        sys.argv[1],
        Refiner.from_pretrained(sys.argv[2]) if len(sys.argv) > 2 else Refiner().eval(),
    )
