"""Counts the instructions of the native ops with callgrind: a guard without noise.

    python benchmarks/instructions.py [--write-results]

Builds benchmarks/native/instructions.cpp with the package's flags and runs each op once, on one thread, at the level
avx2 (valgrind does not know AVX-512). It fails where an op needs more than 2 % more instructions than
benchmarks/results/instructions.json says; another compiler than the one named there is not compared.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CSRC = HERE.parent / "csrc"
RESULTS = HERE / "results" / "instructions.json"
MORE = 0.02
# As in CMakeLists.txt.
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=fast", "-Wno-psabi", f"-I{CSRC}"]
AVX2 = ["-mavx2", "-mfma"]

Counts = dict[str, int]


def build(folder: Path, compiler: str) -> Path:
    """Compile the program; gives its path."""
    sources = [*CSRC.glob("cpu/*.cpp"), CSRC / "cpu/variants/baseline.cpp"]
    commands = [
        [compiler, *FLAGS, "-DSIMGAN_FAST_AVX2", "-c", str(source)]
        for source in [*sources, HERE / "native" / "instructions.cpp"]
    ]
    commands.append([compiler, *FLAGS, *AVX2, "-c", str(CSRC / "cpu/variants/avx2.cpp")])
    running = [subprocess.Popen(command, cwd=folder) for command in commands]
    if any(process.wait() for process in running):
        sys.exit("instructions: the program does not compile")
    program = folder / "instructions"
    objects = map(str, folder.glob("*.o"))
    subprocess.run([compiler, *objects, "-o", str(program), "-pthread", "-ldl"], check=True)
    return program


def count(program: Path, case: str) -> int:
    """Instructions of `measured` in one run."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command += ["--collect-atstart=no", "--toggle-collect=measured", str(program), case]
    environment = {**os.environ, "SIMGAN_FAST_CPU": "avx2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None:
        sys.exit(f"instructions: callgrind counted nothing for {case}:\n{done.stderr}")
    return int(found[1])


def measured(compiler: str) -> Counts:
    """Every case of the program."""
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder), compiler)
        listed = subprocess.run([str(program)], capture_output=True, text=True, check=True)
        return {case: count(program, case) for case in listed.stdout.split()}


def more(now: Counts, committed: Counts) -> list[str]:
    """Cases that need more than 2 % more instructions than committed."""
    return [case for case in now if now[case] > (1 + MORE) * committed.get(case, now[case])]


def main() -> int:
    """Count, print a line a case, and give the exit code."""
    compiler = os.environ.get("CXX") or "g++"
    if shutil.which("valgrind") is None or shutil.which(compiler) is None:
        print(f"instructions: not counted, as valgrind or {compiler} is missing")
        return 0
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    now = measured(compiler)
    written = {"compiler": version.stdout.splitlines()[0], "level": "avx2", "instructions": now}
    if "--write-results" in sys.argv:
        RESULTS.write_text(json.dumps(written, indent=1) + "\n")
    committed = json.loads(RESULTS.read_text())
    if committed["compiler"] != written["compiler"]:
        print(f"instructions: not compared, as {RESULTS.name} is of {committed['compiler']}")
        committed["instructions"] = {}
    lost = more(now, committed["instructions"])
    for case, instructions in now.items():
        before = committed["instructions"].get(case)
        print(f"{instructions:12,} now, {before or 0:12,} committed  {case}", end="")
        print("  MORE" if case in lost else "")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
