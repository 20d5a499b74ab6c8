"""The refiner in other people's pipelines: compilers, exporters, processes, threads, arrays of any kind."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from in_a_process import total
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from simgan_fast import InputError, Refiner, refine_array
from simgan_fast.models.plain import plain_refiner

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def refiner() -> Refiner:
    return Refiner(width=16, blocks=2).eval()


def images(n: int = 4, h: int = 20, w: int = 31) -> Tensor:
    return torch.rand(n, 1, h, w) * 2 - 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own
def test_compiled_in_one_graph_for_any_batch(refiner: Refiner) -> None:
    torch.compiler.reset()
    compiled = torch.compile(refiner, fullgraph=True, dynamic=True)
    with torch.no_grad():
        compiled(images(3))
        with torch.compiler.set_stance("fail_on_recompile"):
            for n in (2, 5, 64):
                x = images(n)
                torch.testing.assert_close(compiled(x), refiner(x), **CLOSE)


def test_exported_for_any_batch_and_read_back(refiner: Refiner) -> None:
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(refiner, (images(3),), dynamic_shapes={"images": {0: batch}})
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    again = torch.export.load(file).module()
    for n in (1, 7):
        x = images(n)
        torch.testing.assert_close(again(x), refiner(x), **CLOSE)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own
def test_compiled_ahead_of_time(refiner: Refiner, tmp_path: Path) -> None:
    """AOTInductor: a package that runs without this Python code; our op is called through torch's dispatcher."""
    batch = torch.export.Dim("batch", min=2, max=4096)
    with torch.no_grad():
        program = torch.export.export(refiner, (images(3),), dynamic_shapes={"images": {0: batch}})
        package = torch._inductor.aoti_compile_and_package(
            program, package_path=str(tmp_path / "refiner.pt2")
        )
        loaded = torch._inductor.aoti_load_package(package)
        x = images(5)
        torch.testing.assert_close(loaded(x), refiner(x), **CLOSE)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # the exporter's
@pytest.mark.parametrize("padding_mode", ["reflect", "zeros"])
def test_onnx_of_the_plain_refiner(padding_mode: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    refiner = Refiner(width=16, blocks=2, padding_mode=padding_mode).eval()  # type: ignore[arg-type]
    shapes = {
        0: torch.export.Dim("n"),
        2: torch.export.Dim("h", min=4),
        3: torch.export.Dim("w", min=4),
    }
    torch.onnx.export(
        plain_refiner(refiner), (images(),), tmp_path / "refiner.onnx", dynamo=True,
        dynamic_shapes=({**shapes},), verbose=False,
    )  # fmt: skip
    session = runtime.InferenceSession(tmp_path / "refiner.onnx")
    for n, h, w in ((1, 20, 31), (5, 35, 55)):
        x = images(n, h, w)
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), refiner(x).detach(), **CLOSE)


def test_weights_move_to_plain_layers_and_back(refiner: Refiner) -> None:
    plain, x = plain_refiner(refiner), images()
    torch.testing.assert_close(plain(x), refiner(x), **CLOSE)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.mul_(0.5)
    other = Refiner(width=16, blocks=2)
    other.load_state_dict(plain.state_dict())
    torch.testing.assert_close(other(x), plain(x), **CLOSE)
    assert not torch.allclose(refiner(x), plain(x)), "the weights are a copy"


def test_autocast_to_bfloat16(refiner: Refiner) -> None:
    x = images()
    with torch.autocast("cpu", torch.bfloat16):
        refined = refiner(x)
        loss = (refined.float() - x).abs().mean()
    loss.backward()
    torch.testing.assert_close(refined.float(), refiner(x), rtol=0.0, atol=0.05)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in refiner.parameters())


def test_copied_and_pickled(refiner: Refiner) -> None:
    x = images()
    for other in (copy.deepcopy(refiner), pickle.loads(pickle.dumps(refiner))):
        assert torch.equal(other(x), refiner(x))
        assert other.first.weight.data_ptr() != refiner.first.weight.data_ptr()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_other_processes(refiner: Refiner, method: str) -> None:
    x = images()
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(total, (refiner, x)) == total(refiner, x)


def test_in_a_pool_of_threads(refiner: Refiner) -> None:
    batches = [images(n) for n in range(1, 9)]

    def refined(x: Tensor) -> Tensor:
        with torch.inference_mode():
            return refiner(x)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(refined, batches * 4))
    for x, y in zip(batches * 4, found, strict=True):
        assert torch.equal(y, refined(x))


def test_in_the_workers_of_a_dataloader(refiner: Refiner) -> None:
    """As a transform in the workers, and on batches as they come."""
    data = TensorDataset(images(10))

    def refine_batch(samples: list[tuple[Tensor]]) -> Tensor:
        with torch.inference_mode():
            return refiner(torch.stack([x for (x,) in samples]))

    batches = list(DataLoader(data, batch_size=4, collate_fn=refine_batch, num_workers=2))
    torch.testing.assert_close(torch.cat(batches), refiner(data.tensors[0]).detach(), **CLOSE)


@pytest.mark.parametrize("shape", [(20, 31), (3, 20, 31), (3, 20, 31, 1), (0, 20, 31)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_arrays(refiner: Refiner, shape: tuple[int, ...], dtype: type) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    if dtype is np.float32:
        array = array / np.float32(127.5) - 1
    found = refine_array(array, refiner, batch_size=2)
    assert isinstance(found, np.ndarray) and found.shape == shape and found.dtype == dtype
    low, half = (
        (0.0, 1.0) if dtype is np.float32 else (1.0, 127.5 if dtype is np.uint8 else 32767.5)
    )
    x = torch.from_numpy(array.astype(np.float32)).reshape(-1, 1, 20, 31) / half - low
    expected = refiner(x).detach().reshape(shape).numpy()
    assert np.abs(found / half - low - expected).max(initial=0) < 0.51 / half + 1e-5


def test_colour_arrays_and_dlpack() -> None:
    refiner = Refiner(3, width=16, blocks=1)
    tensor = torch.randint(0, 256, (2, 20, 31, 3), dtype=torch.uint8)
    found = refine_array(tensor, refiner)
    assert isinstance(found, Tensor) and found.shape == tensor.shape and found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), refine_array(tensor.numpy(), refiner))
    learned = (tensor / 127.5 - 1).requires_grad_()
    assert not refine_array(learned, refiner).requires_grad
    assert np.array_equal(np.from_dlpack(found)[0], refine_array(tensor[0].numpy(), refiner))
    mirrored = refine_array(tensor.numpy()[::-1, :, ::-1], refiner)  # negative strides
    assert np.array_equal(mirrored[0], refine_array(tensor.flip(2)[1], refiner))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 20, 31, 3), np.uint8), r"want \[n, h, w, 1\], \[n, h, w\] or \[h, w\]"),
        (np.zeros(5, np.uint8), "the shape"),
        (np.zeros((20, 31)), "float64: want uint8, uint16, or float32"),
        (np.full((20, 31), 255, np.float32), r"outside of \[-1, 1\]"),
        (np.full((20, 31), np.nan, np.float32), r"outside of \[-1, 1\]"),
        ([[1, 2]], "a list: want an array"),
    ],
)
def test_bad_arrays(refiner: Refiner, array: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        refine_array(array, refiner)
