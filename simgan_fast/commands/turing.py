"""simgan-fast turing."""

from __future__ import annotations

import argparse
from typing import Any

from simgan_fast.commands import command, image_size
from simgan_fast.errors import InputError


def add(commands: Any) -> None:
    parser = command(
        commands,
        "turing",
        run,
        "the visual Turing test: a web page on which people tell real images from refined ones",
        "simgan-fast turing --real photographs --refined refined --out study",
    )
    parser.add_argument("--real", metavar="SET", help="real images: packed set or image folder")
    parser.add_argument("--refined", metavar="SET", help="refined images, of the same shape")
    parser.add_argument(
        "--raw", metavar="SET", help="control: every second participant's, in place of refined ones"
    )
    parser.add_argument(
        "--out", metavar="STUDY", help="folder of the study; one that is there goes on"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="interface to serve on (default: %(default)s, this machine alone)",
    )
    parser.add_argument(
        "--port", type=int, default=0, help="0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--size", type=image_size, help="HEIGHTxWIDTH that image folders are resized to"
    )
    parser.add_argument("--channels", type=int, choices=(1, 3), help="1: grey, 3: RGB")
    parser.add_argument(
        "--results", metavar="STUDY", help="print the results of a study; serves nothing"
    )
    parser.add_argument("--json", metavar="FILE", help="write the results to this file, at the end")


def run(arguments: argparse.Namespace) -> None:
    given = (arguments.real, arguments.refined, arguments.out)
    if arguments.results is not None:
        if any(given) or arguments.raw:
            raise InputError(
                "--results takes a study alone: leave out --real, --refined, --raw and --out."
            )
        _print_results(arguments)
    elif not all(given):
        raise InputError("a study needs --real, --refined and --out; --results STUDY prints one.")
    else:
        _serve(arguments)


def _print_results(arguments: argparse.Namespace) -> None:
    from simgan_fast.evaluation.turing.results import results_table
    from simgan_fast.evaluation.turing.study import open_study
    from simgan_fast.jobs.turing import turing_results

    turing_results(arguments.results, arguments.json)
    print(results_table(open_study(arguments.results)))


def _serve(arguments: argparse.Namespace) -> None:
    from simgan_fast.jobs.turing import turing

    def started(page: str, results: str) -> None:
        print(f"participants  {page}\nresults       {results}", flush=True)
        print("Ctrl-C stops; every answer is saved when it is given.", flush=True)

    options = {
        name: getattr(arguments, name) for name in ("raw", "host", "port", "size", "channels")
    }
    turing(
        arguments.real,
        arguments.refined,
        arguments.out,
        json_out=arguments.json,
        started=started,
        **options,
    )
