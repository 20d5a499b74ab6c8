"""keep_freed_memory: fewer page faults, and only where nobody else has decided."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable

import pytest

from simgan_fast import memory
from simgan_fast.memory import free_memory

SCRIPT = """
import resource, sys, torch
from simgan_fast import keep_freed_memory
done = keep_freed_memory() if sys.argv[1] == "keep" else False
def step():
    return [torch.ones(size) for size in (10_000_000, 3_000_000, 5_000_000)]  # 72 MB
for _ in range(4):  # the first ones find a place for each
    step()
faults = []
for _ in range(9):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(done, sorted(faults)[4])  # now and then a step comes before the last one's memory is given back
"""
glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")


@glibc_only
def test_memory_freed_is_used_again(run_python: Callable[..., str]) -> None:
    (_, usual), (done, kept) = (run_python(SCRIPT, way).split() for way in ("leave", "keep"))
    assert done == "True"
    if int(usual) == 0:  # seen once, on a machine with much to do
        pytest.skip("the system took no memory back")
    assert int(kept) < int(usual) / 10


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_the_environment_goes_first(run_python: Callable[..., str], name: str) -> None:
    value = "glibc.malloc.trim_threshold=131072" if name == "GLIBC_TUNABLES" else "131072"
    assert run_python(SCRIPT, "keep", **{name: value}).split()[0] == "False"


def test_free_memory_is_some_of_what_the_machine_has() -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < free_memory() <= total


def test_free_memory_of_a_container_is_what_its_limit_leaves(tmp_path, monkeypatch) -> None:
    limit, used = tmp_path / "max", tmp_path / "current"
    monkeypatch.setattr(memory, "_CGROUP_FILES", ((str(limit), str(used)),))
    limit.write_text("max\n")
    used.write_text("300000\n")
    assert free_memory() > 300_000
    limit.write_text("1000000\n")
    assert free_memory() == 700_000
