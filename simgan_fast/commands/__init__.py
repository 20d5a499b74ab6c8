"""The commands, a file each: `add` describes one to argparse, `run` calls the function that does the work."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from simgan_fast.data.export import FORMATS
from simgan_fast.data.packed import PackedSet
from simgan_fast.errors import InputError
from simgan_fast.files import require_output_file
from simgan_fast.progress import say

WRITTEN = ("json", "curve", "picture")  # arguments that name a file to write
SETS = ("synthetic", "refined", "real", "raw", "train", "test", "images")  # that are read
LABELS = ("labels", "test_labels", "truth")  # that are read


def command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str, example: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def require_outputs(arguments: argparse.Namespace) -> None:
    """Raise InputError, before any work, where a file cannot be written or lies in what is read."""
    read = [Path(text.partition("=")[2] or text) for text in _texts(arguments, SETS + LABELS)]
    for text in _texts(arguments, WRITTEN):
        require_output_file(Path(text), read)


def _texts(arguments: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """The values of those of the arguments `names` that were given, each once or often."""
    values = [getattr(arguments, name, None) or [] for name in names]
    return [text for value in values for text in ([value] if isinstance(value, str) else value)]


def image_size(text: str) -> tuple[int, int]:
    """Parse HEIGHTxWIDTH, as in 35x55."""
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write HEIGHTxWIDTH, as in 35x55")
    return int(height), int(width)


def add_format(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --format, of the set that is written."""
    parser.add_argument(
        "--format",
        choices=list(FORMATS),
        default=default,
        help="what is written; arrow is a packed set (default: %(default)s)",
    )


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """Add --timeout, of the reads of a data set."""
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=300.0,
        metavar="SECONDS",
        help="end where nothing is read for so long, 0: never (default: %(default)g)",
    )


def seconds(text: str) -> float:
    """Parse a time of 0 seconds or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write seconds, 0 or more")
    return value


def say_what_is_tested_on_itself(sets: Mapping[str, PackedSet], test: PackedSet) -> None:
    """Of an estimator that knows its test images the error says nothing about others."""
    for name, images in sets.items():
        if images.info["digest"] == test.info["digest"]:
            say(f"warning: {name} holds the test images themselves")


def named_sets(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Name -> path of every NAME=SET; InputError where there is another, or a name comes twice."""
    named = [text.partition("=") for text in texts]
    if any(not (name and path) for name, _, path in named) or len(
        {name for name, _, _ in named}
    ) < len(named):
        raise InputError(f"{option} takes NAME=SET, with a different NAME each time.")
    return {name: path for name, _, path in named}
