"""Other ways to run a refiner on a CPU: whatever of them is installed (`pip install '.[bench]'`).

Each takes the plain PyTorch model and gives a function of images [n, 1, h, w] to refined images. Settings are those
that each library does best with here, at full float32.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from plain_models import PlainRefiner
from torch import Tensor

Run = Callable[[Tensor], Tensor]


def torch_peers(model: PlainRefiner, *_: int) -> dict[str, Run]:
    """Eager and compiled, for any batch; compiling happens at the first call."""
    last = PlainRefiner()
    last.load_state_dict(model.state_dict())
    last.to(memory_format=torch.channels_last)

    def inference(run: Callable[[Tensor], Tensor]) -> Run:
        def call(images: Tensor) -> Tensor:
            with torch.inference_mode():
                return run(images)

        return call

    frozen = {"freezing": True}
    return {
        "torch_eager": inference(model),
        "torch_eager_channels_last": inference(last),
        "torch_compile": inference(torch.compile(last)),
        "torch_compile_freezing": inference(torch.compile(last.eval(), options=frozen)),
        "torch_compile_max_autotune": inference(torch.compile(last, mode="max-autotune")),
    }


def onnx_file(model: PlainRefiner, batch: int, folder: Path) -> Path:
    """The model for batches of this size."""
    path = folder / "refiner.onnx"
    example = torch.zeros(batch, 1, 35, 55)
    torch.onnx.export(model, (example,), path, dynamo=True, verbose=False)
    return path


def onnx_runtime(model: PlainRefiner, batch: int, threads: int, folder: Path) -> Run:
    """ONNX Runtime's CPU provider."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    path = str(onnx_file(model, batch, folder))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0])


def openvino(model: PlainRefiner, batch: int, threads: int, folder: Path) -> Run:
    """OpenVINO's CPU plugin, held to float32."""
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    read = ov.Core().read_model(onnx_file(model, batch, folder))
    compiled = ov.Core().compile_model(read, "CPU", settings)
    return lambda images: torch.from_numpy(compiled(images.numpy())[0])


def ncnn(model: PlainRefiner, batch: int, threads: int, folder: Path) -> Run:
    """ncnn; it takes one image at a time, so where there are enough of them, one worker a thread."""
    import ncnn
    import pnnx

    stem = folder / "refiner.pt"
    pnnx.export(model.eval(), str(stem), torch.zeros(1, 1, 35, 55))
    workers = threads if batch > 1 else 1
    net = ncnn.Net()
    net.opt.num_threads = threads // workers
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, name, False)
    net.load_param(str(stem.with_suffix("")) + ".ncnn.param")
    net.load_model(str(stem.with_suffix("")) + ".ncnn.bin")

    def refine(image: np.ndarray) -> np.ndarray:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(image).clone())
        return np.array(extractor.extract("out0")[1])

    pool = ThreadPoolExecutor(workers)

    def run(images: Tensor) -> Tensor:
        each = list(images.numpy())
        refined = map(refine, each) if workers == 1 else pool.map(refine, each)
        return torch.from_numpy(np.stack(list(refined)))

    return run


class Mnn:
    """MNN in a process of its own, since it pins the one it runs in to a processor. The pipe takes 20 us an image."""

    def __init__(self, model: PlainRefiner, batch: int, threads: int, folder: Path) -> None:
        source, path = onnx_file(model, batch, folder), folder / "refiner.mnn"
        command = [Path(sys.executable).with_name("mnnconvert"), "-f", "ONNX", "--modelFile"]
        command += [source, "--MNNModel", path, "--bizCode", "refiner"]
        subprocess.run(command, check=True, capture_output=True)
        self.shape = (batch, 1, 35, 55)
        script = Path(__file__).with_name("peer_mnn.py")
        arguments = [sys.executable, script, path, str(batch), str(threads)]
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def __call__(self, images: Tensor) -> Tensor:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(images.numpy().tobytes())
        self.process.stdin.flush()
        refined = self.process.stdout.read(4 * images.numel())
        return torch.from_numpy(np.frombuffer(refined, np.float32).reshape(self.shape).copy())

    def __del__(self) -> None:
        self.process.kill()
        self.process.wait()


def installed_peers(model: PlainRefiner, batch: int, threads: int) -> dict[str, Run]:
    """Every peer that can be imported; a missing one is named."""
    peers = torch_peers(model)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    makers: dict[str, Callable[..., Run]] = {
        "onnxruntime": onnx_runtime,
        "openvino": openvino,
        "ncnn": ncnn,
        "mnn": Mnn,
    }
    for name, make in makers.items():
        try:
            peers[name] = make(model, batch, threads, Path(tempfile.mkdtemp()))
        except ImportError as error:
            print(f"\n  without {name}: {error}")
    return peers
