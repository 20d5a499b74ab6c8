"""Random cases against everything that takes what others made: `make fuzz`, or PYTHONPATH=tests python -m fuzz --help.

Each target runs within the bounds given; at the end it says how many cases ran of each, and in total. It stops at the
first case that fails, with the command that runs that one again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from fuzz import api, driver, ops, parsers, readers

TARGETS = {**parsers.TARGETS, **api.TARGETS, **readers.TARGETS}
NATIVE = {f"op-{name}": name for name in ops.NAMES}
BUILD = Path("build")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="names, or beginnings of names (default: all)")
    parser.add_argument("--cases", type=int, default=10**9, help="of each target, at most")
    parser.add_argument("--seconds", type=float, default=10, help="for each target, at most")
    parser.add_argument("--seed", type=int, default=0, help="others give other cases")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--plain", action="store_true", help="g++ even where clang has libFuzzer")
    options = parser.parse_args(arguments)
    bounds = driver.Bounds(options.cases, options.seconds, options.seed, options.first)
    names = [
        name
        for name in (*NATIVE, *TARGETS)
        if not options.targets or name.startswith(tuple(options.targets))
    ]
    counts = {}
    try:
        compiler, program = None, None
        for name in names:
            if name in NATIVE and program is None:
                compiler = None if options.plain else ops.libfuzzer()
                folder = BUILD / f"fuzz-{compiler or 'g++'}"
                program = ops.build(folder.absolute(), compiler)
                print(f"native ops by {compiler or 'g++, without libFuzzer'}: {program}")
            begin = time.monotonic()
            if name in NATIVE:
                assert program is not None
                counts[name] = ops.run(program, NATIVE[name], bounds, guided=compiler is not None)
            else:
                counts[name] = driver.run(name, TARGETS[name], bounds)
            print(f"{counts[name]:>11,}  {name}  ({time.monotonic() - begin:.0f} s)", flush=True)
    except driver.Found as found:
        print(found, file=sys.stderr)
        return 1
    print(f"{sum(counts.values()):>11,}  cases of {len(counts)} targets, none failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
