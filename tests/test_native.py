"""The native part: built, absent, at every CPU level, and lowered by SIMGAN_FAST_CPU."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cases import CPU_LEVELS, PATCH_SHAPES, error

from simgan_fast import _native

LEVELS = ["baseline", "avx2", "avx512"]
needs_native = pytest.mark.skipif(not _native.AVAILABLE, reason="no native part")

# Blocks the import of the compiled module, as if it had not been built.
WITHOUT = "import sys; sys.modules['simgan_fast._C'] = None\n"


def test_the_native_part_is_built() -> None:
    """Fails where the tests see the source tree in place of the installed package: use an editable install there."""
    assert _native.AVAILABLE, _native.MISSING


@needs_native
@pytest.mark.skipif(shutil.which("readelf") is None, reason="no readelf")
def test_it_links_the_compiler_s_runtime_and_nothing_else() -> None:
    """No torch and no OpenMP: whichever torch is there, and whatever it brings along, nothing can clash."""

    def said(*options: str) -> str:
        command = ["readelf", "--wide", *options, str(_native.C.__file__)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    needed = set(re.findall(r"\(NEEDED\).*\[(\w[\w-]*)\.so", said("--dynamic")))
    system = {"libc", "libm", "libpthread", "libdl", "ld-linux-x86-64", "ld-linux-aarch64"}
    assert "libc" in needed and needed <= system | {"libstdc++", "libgcc_s"}
    offered = re.findall(r"GLOBAL\s+DEFAULT\s+\d+ (\S+)", said("--dyn-syms"))
    assert offered == ["PyInit__C"]


@needs_native
def test_level_is_the_highest() -> None:
    levels = _native.cpu_levels()
    assert levels == [level for level in LEVELS if level in levels] and levels[0] == "baseline"
    assert _native.cpu_level() in levels


@needs_native
@pytest.mark.parametrize("level", ["", *LEVELS])
def test_environment_lowers_the_level(run_python: Callable[..., str], level: str) -> None:
    runnable = _native.cpu_levels()
    allowed = LEVELS[: LEVELS.index(level) + 1] if level else LEVELS
    expected = [name for name in runnable if name in allowed][-1]
    script = "from simgan_fast import _native; print(_native.cpu_level())"
    assert run_python(script, SIMGAN_FAST_CPU=level).strip() == expected


@needs_native
def test_a_wrong_level_is_named(run_python: Callable[..., str]) -> None:
    script = """
from simgan_fast import _native
try:
    _native.cpu_level()
except ValueError as error:
    print(error)
"""
    message = run_python(script, SIMGAN_FAST_CPU="sse9").strip()
    assert message == ("SIMGAN_FAST_CPU is 'sse9'; it must be baseline, avx2 or avx512, or unset.")


# Losses and gradients of every case, saved to the file named by the first argument.
EVERY_CASE = """
import json, sys
import torch
from simgan_fast.ops import patch_cross_entropy
sys.path.insert(0, sys.argv[2])
from cases import PATCH_SHAPES, REDUCTIONS, labels_of, logits_of
results = {}
for shape in PATCH_SHAPES:
    for reduction in REDUCTIONS:
        logits = logits_of(shape).requires_grad_()
        loss = patch_cross_entropy(logits, labels_of(shape[0]), reduction=reduction, impl="native")
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        results[f"{shape} {reduction}"] = [loss.tolist(), gradient.tolist()]
json.dump(results, open(sys.argv[1], "w"))
"""


@needs_native
def test_every_level_agrees_with_the_baseline(
    run_python: Callable[..., str], tmp_path: Path
) -> None:
    results = {}
    for level in _native.cpu_levels():
        file = tmp_path / f"{level}.json"
        run_python(EVERY_CASE, str(file), str(Path(__file__).parent), SIMGAN_FAST_CPU=level)
        results[level] = json.loads(file.read_text())
    baseline = results.pop("baseline")
    assert len(baseline) == len(PATCH_SHAPES) * 4
    for level, cases in results.items():
        for name, pair in cases.items():
            for value, expected in zip(pair, baseline[name], strict=True):
                x, y = torch.tensor(value), torch.tensor(expected)
                if y.isnan().any():
                    assert x.isnan().all()
                    continue
                assert error(x, y, CPU_LEVELS.floor) < CPU_LEVELS.relative, (level, name)


PERMUTATIONS = """
import json, sys
from simgan_fast.ops import permutation
golden = json.load(open(sys.argv[1]))["permutation"]
arguments = [{name: x for name, x in case.items() if name != "values"} for case in golden]
print(json.dumps([permutation(**each, impl="native").tolist() for each in arguments]))
whole, twin = (permutation(1000, 3, 990, impl=impl) for impl in ("native", "reference"))
assert whole.equal(twin)
"""


@needs_native
@pytest.mark.parametrize("level", LEVELS)
def test_every_level_permutes_alike(level: str, run_python: Callable[..., str]) -> None:
    golden = Path(__file__).parent / "golden" / "random.json"
    printed = run_python(PERMUTATIONS, str(golden), SIMGAN_FAST_CPU=level)
    expected = [case["values"] for case in json.loads(golden.read_text())["permutation"]]
    assert json.loads(printed) == expected


def test_everything_works_without_the_native_part(run_python: Callable[..., str]) -> None:
    script = (
        WITHOUT
        + """
import logging
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
import torch
from simgan_fast import _native, ops
assert not _native.AVAILABLE and _native.cpu_level() == "none" and _native.cpu_levels() == []
logits = torch.zeros(4, 2, 9, 14, requires_grad=True)
for _ in range(2):
    ops.patch_cross_entropy(logits, 1).backward()
assert abs(float(logits.grad[0, 0, 0, 0]) - 0.25) < 1e-6
assert ops.permutation(512, 0, 3).tolist() == PERMUTED
buffer, counter = torch.zeros(8, 2), torch.zeros(1, dtype=torch.int64)
ops.history_exchange(buffer, torch.ones(4, 2), counter)
assert buffer.sum() == 8 and counter.item() == 1
try:
    ops.patch_cross_entropy(logits, 1, impl="native")
except ValueError as error:
    print(error)
try:
    _native.C.cpu_level()
except ImportError as error:
    print(error)
"""
    )
    golden = json.loads((Path(__file__).parent / "golden" / "random.json").read_text())
    values = next(case["values"][:3] for case in golden["permutation"] if case["n"] == 512)
    printed = run_python(script.replace("PERMUTED", str(values))).splitlines()
    assert sum("patch_cross_entropy: plain PyTorch" in line for line in printed) == 1
    assert "pip install ." in printed[-1] and "pip install ." in printed[-2]
    assert printed[-1].startswith("The native part of simgan_fast is missing")


def test_what_there_is_of_cuda_is_a_constant_to_the_compiler() -> None:
    torch.compiler.reset()

    def answer(x: torch.Tensor) -> torch.Tensor:
        return x + (1 if _native.cuda_obstacle() is None else 2)

    compiled = torch.compile(answer, fullgraph=True, backend="eager")
    assert torch.equal(compiled(torch.zeros(1)), answer(torch.zeros(1)))
