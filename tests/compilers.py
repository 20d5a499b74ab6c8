"""Compilers run side by side, and the native ops built without Python."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
OPS = [
    path.relative_to(ROOT)
    for path in sorted((ROOT / "csrc" / "cpu").glob("*.cpp"))  # of every level but the loops
]
X86_LEVELS = {
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"],
}


def together(commands: Iterable[list[str]]) -> None:
    """Run compilers, two at a time; an AssertionError with what the first that failed had to say."""
    waiting, running = list(commands), []
    while waiting or running:
        while waiting and len(running) < 2:
            running.append(subprocess.Popen(waiting.pop(0), stderr=subprocess.PIPE, text=True))
        process = running.pop(0)
        _, message = process.communicate()
        assert process.returncode == 0, message


def build_native(
    folder: Path,
    compiler: str,
    levels: Mapping[str, list[str]],
    options: Sequence[str],
    programs: Sequence[Path],
) -> list[Path]:
    """Link each of `programs`, C++ files with a main, with all native ops; gives the executables in `folder`.

    levels: those to be compiled beside the baseline, with their flags.
    """
    flags = ["-std=c++17", "-O1", "-g1", "-ffp-contract=fast", "-Wno-psabi"]
    flags += [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'tests'}", *options]
    defined = [f"-DSIMGAN_FAST_{level.upper()}" for level in levels]
    variants = ROOT / "csrc" / "cpu" / "variants"
    sources = [(ROOT / name, defined) for name in OPS]
    sources += [(variants / "baseline.cpp", [])]
    sources += [(variants / f"{level}.cpp", own) for level, own in levels.items()]
    objects = [str(folder / f"{source.stem}.o") for source, _ in sources]
    sources += [(program, []) for program in programs]
    together(
        [compiler, *flags, *own, "-c", str(source), "-o", str(folder / f"{source.stem}.o")]
        for source, own in sources
    )
    made = [folder / program.stem for program in programs]
    together(
        [compiler, *options, f"{program}.o", *objects, "-o", str(program), "-pthread", "-ldl"]
        for program in made
    )
    return made
