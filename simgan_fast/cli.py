"""The command line: each command is a thin call of the function of the same name."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from simgan_fast.commands import (
    demo,
    evaluate,
    export,
    info,
    prepare,
    refine,
    report,
    require_outputs,
    show,
    simulate,
    study,
    train,
    turing,
    verify,
)
from simgan_fast.errors import InputError, Interrupted, ProcessLost, TrainingDiverged
from simgan_fast.memory import keep_freed_memory
from simgan_fast.signals import handled_by

EXAMPLES = """examples:
  simgan-fast simulate eyes simulated --count 10000
  simgan-fast prepare unityeyes UnityEyes/imgs simulated --size 35x55 --channels 1
  simgan-fast show simulated
  simgan-fast train --synthetic simulated --real photographs --out runs/first
  simgan-fast train --resume runs/first
  simgan-fast report runs/first
  simgan-fast refine runs/first simulated refined
  simgan-fast export refined refined.h5 --format hdf5
  simgan-fast evaluate gaze --train refined=refined --test labelled_photographs
  simgan-fast study gaze-table --out studies/gaze
  simgan-fast turing --real photographs --refined refined --out study
"""


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

NO_MEMORY = (
    "there is not enough memory: take smaller batches, a shorter history, --feed stream or a larger machine; what was "
    "finished is kept."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    0, 1 (training came to an end, no memory), 2 (bad input, bad disk), 130 or 143 (stopped), 141 (nobody reads on).
    """
    _open_what_is_closed()
    arguments = _parser().parse_args(argv)
    keep_freed_memory()
    try:
        for text in sys.argv[1:] if argv is None else argv:
            text.encode()  # sets and runs keep paths as UTF-8
        require_outputs(arguments)
        # Until its end alone: processes that the caller starts by fork later on would take it along, and not end.
        with handled_by(_terminate, signal.SIGTERM):
            arguments.run(arguments)
    except InputError as error:
        return _complain(str(error), 2)
    except (TrainingDiverged, ProcessLost) as error:
        return _complain(str(error), 1)
    except Interrupted as stop:
        return _complain(str(stop), 128 + stop.signal)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more to print to
        return 141
    except OSError as error:  # no space left, no permission, a disk that went away
        what = error.strerror or str(error)
        left = "; nothing half-written was left" if error.errno in _FULL else ""
        return _complain(f"{error.filename or 'a file'}: {what}{left}.", 2)
    except UnicodeEncodeError as error:
        return _complain(f"{error.object!r} is no text in UTF-8: give it another name.", 2)
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        return _complain(NO_MEMORY, 1)
    return 0


def _open_what_is_closed() -> None:
    """Where the caller has closed standard output or error (`2>&-`), Python has None: take /dev/null."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - open for good


def _lacks_memory(error: MemoryError | RuntimeError) -> bool:
    """torch has no type of its own for this on the CPU."""
    text = str(error)
    return (
        isinstance(error, MemoryError) or "can't allocate memory" in text or "out of memory" in text
    )


def _terminate(number: int, _frame: FrameType | None) -> None:
    """End by an exception, so that temporary files are removed on the way out."""
    raise Interrupted(number, "terminated")


def _complain(text: str, code: int) -> int:
    print(f"simgan-fast: {text}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="simgan-fast",
        description="Make simulated images look real and keep their labels (SimGAN, CVPR 2017).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (
        demo,
        simulate,
        prepare,
        show,
        verify,
        train,
        report,
        refine,
        export,
        evaluate,
        study,
        turing,
        info,
    ):
        module.add(commands)
    return parser
