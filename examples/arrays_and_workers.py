"""One function for arrays; threads, processes and a DataLoader: python examples/arrays_and_workers.py [RUN]."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from simgan_fast import Refiner, refine_array

IMAGES = np.random.default_rng(0).integers(0, 256, (24, 35, 55), np.uint8)


def one_thread() -> None:
    """For worker processes. One that is forked has none of torch's threads, and would wait for them for ever."""
    torch.set_num_threads(1)


def main(refiner: Refiner) -> None:
    refined = refine_array(IMAGES, refiner)
    print(f"array: {refined.shape} {refined.dtype}")

    refine = partial(refine_array, refiner=refiner)
    parts = np.split(IMAGES, 4)
    with ThreadPoolExecutor(4) as pool:  # the kernels let go of Python's lock
        print("threads:", "same" if _same(pool.map(refine, parts), refined) else "other", "images")
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(2, mp_context=context, initializer=one_thread) as pool:
            same = _same(pool.map(refine, parts), refined)
            print(f"{method}:", "same" if same else "other", "images")

    loader = DataLoader(TensorDataset(torch.from_numpy(IMAGES)), batch_size=8)
    print(
        "DataLoader:",
        "same" if _same((refine(x) for (x,) in loader), refined) else "other",
        "images",
    )


def _same(parts: object, whole: np.ndarray) -> bool:
    """Equal but for the rounding of another batch."""
    found = np.concatenate([np.asarray(part) for part in parts])  # type: ignore[attr-defined]
    return int(np.abs(found.astype(int) - whole).max()) <= 1


if __name__ == "__main__":
    main(Refiner.from_pretrained(sys.argv[1]) if len(sys.argv) > 1 else Refiner().eval())
