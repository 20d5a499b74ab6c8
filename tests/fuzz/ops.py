"""The native ops on random bytes, built by libFuzzer where clang has it and else by g++, with sanitizers: ops.cpp."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from compilers import X86_LEVELS, build_native
from fuzz.driver import Bounds, Found

from simgan_fast._native import cpu_levels

SOURCE = Path(__file__).with_suffix(".cpp")
SANITIZERS = "address,undefined"
NAMES = re.findall(r'\{"(\w+)", ', SOURCE.read_text())  # kOps


def libfuzzer() -> str | None:
    """A clang++ that links libFuzzer, or None."""
    names = ["clang++", *(f"clang++-{version}" for version in range(25, 12, -1))]
    for name in filter(shutil.which, names):
        empty = 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }'
        command = [name, "-fsanitize=fuzzer,address", "-x", "c++", "-", "-o", os.devnull]
        if not subprocess.run(
            command, input=empty, text=True, capture_output=True, check=False
        ).returncode:
            return name
    return None


def build(folder: Path, compiler: str | None = None) -> Path:
    """The program of all ops. compiler: one with libFuzzer; None: g++ and the plain driver."""
    levels = X86_LEVELS if platform.machine() == "x86_64" else {}
    options = ["-fno-sanitize-recover=all"]
    if compiler is None:
        options += [f"-fsanitize={SANITIZERS}", "-DFUZZ_PLAIN_DRIVER"]
    else:
        options += [f"-fsanitize=fuzzer,{SANITIZERS}"]
    folder.mkdir(parents=True, exist_ok=True)
    return build_native(folder, compiler or "g++", levels, options, [SOURCE])[0]


def run(program: Path, name: str, bounds: Bounds, *, guided: bool) -> int:
    """Run cases of the op `name`, an equal share at each CPU level that runs here; gives how many ran."""
    levels = cpu_levels() or ["baseline"]
    return sum(_run(program, name, level, bounds, len(levels), guided) for level in levels)


def _run(program: Path, name: str, level: str, bounds: Bounds, shares: int, guided: bool) -> int:
    cases, seconds = -(-bounds.cases // shares), max(1, int(bounds.seconds / shares))
    words = [str(cases), str(seconds), str(bounds.seed)]
    if guided:
        words = [f"-runs={cases}", f"-max_total_time={seconds}", f"-seed={bounds.seed + 1}"]
        words += ["-max_len=512", "-len_control=0", "-timeout=60", "-rss_limit_mb=4096"]
        words += ["-verbosity=0", "-print_final_stats=1"]
    settings = {"FUZZ_OP": name, "SIMGAN_FAST_CPU": level}
    done = subprocess.run(
        [str(program), *words],
        cwd=program.parent,  # where libFuzzer leaves the input that failed
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    count = re.search(r"Done (\d+) runs|number_of_executed_units: (\d+)", said)
    if done.returncode or not count:
        again = " ".join([*(f"{key}={value}" for key, value in settings.items()), *done.args])
        raise Found(
            f"{name} at {level}: exit code {done.returncode}\n{said[-6000:]}\nagain: {again}"
        )
    return int(count[1] or count[2])
