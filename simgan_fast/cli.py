"""The command line: each command is a thin call of the function of the same name."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from simgan_fast.config import PRESETS, TrainingConfig, preset
from simgan_fast.errors import InputError, Interrupted, TrainingDiverged
from simgan_fast.files import written_whole
from simgan_fast.memory import keep_freed_memory

EXAMPLES = """examples:
  simgan-fast simulate eyes simulated --count 10000
  simgan-fast prepare unityeyes UnityEyes/imgs simulated --size 35x55 --channels 1
  simgan-fast train --synthetic simulated --real photographs --out runs/first
  simgan-fast train --resume runs/first
  simgan-fast refine runs/first simulated refined
  simgan-fast evaluate gaze --train raw=simulated --train refined=refined --test
  labelled_photographs
"""

SETTINGS_HELP = {
    "width": "channels of the refiner's hidden maps",
    "blocks": "residual blocks of the refiner",
    "kernel_size": "refiner filters: 3 (eyes) or 7 (hands)",
    "padding_mode": "of every padded convolution",
    "initialization": "of the refiner: near the identity, or torch's default",
    "adversarial": "loss per patch, or per image (the paper's ablation)",
    "steps": "rounds of Algorithm 1",
    "batch_size": "images in a mini-batch (even)",
    "refiner_updates": "K_g, refiner updates per step",
    "discriminator_updates": "K_d, discriminator updates per step",
    "refiner_pretraining": "updates of the refiner alone, to begin with",
    "discriminator_pretraining": "updates of the discriminator alone, after that",
    "self_regularization": "lambda, in the paper's units: sums over patches and pixels, images in [-1, 1]",
    "history": "refined images kept for the discriminator, or 'off'",
    "optimizer": "adam or sgd",
    "learning_rate": "of the refiner",
    "discriminator_learning_rate": "of the discriminator",
    "adam_beta1": "first-moment decay of Adam",
    "averaging": "decay of the moving average of the refiner's weights that is kept; 0: the last weights",
    "seed": "of everything random",
    "checkpoint_every": "updates between checkpoints",
    "log_every": "updates between rows of metrics.csv",
    "sample_every": "steps between sample pictures",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 (training diverged), 2 (bad input), 130 or 143 (stopped)."""
    arguments = _parser().parse_args(argv)
    keep_freed_memory()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        arguments.run(arguments)
    except InputError as error:
        return _complain(str(error), 2)
    except TrainingDiverged as error:
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
        return _complain(f"{error.filename or 'a file'}: {what}; nothing half-written was left.", 2)
    return 0


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
    for add in (
        _add_demo,
        _add_simulate,
        _add_prepare,
        _add_train,
        _add_refine,
        _add_evaluate,
        _add_info,
    ):
        add(commands)
    return parser


def _command(
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


def _add_demo(commands: Any) -> None:
    parser = _command(
        commands,
        "demo",
        _demo,
        "the whole story on simulated eyes, in minutes",
        "simgan-fast demo --out runs/demo",
    )
    parser.add_argument(
        "--out", default="runs/demo", help="new folder for everything (default: %(default)s)"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="scale of all amounts of work, for quick trials"
    )
    _add_settings(parser, "demo-eyes")


def _demo(arguments: argparse.Namespace) -> None:
    from simgan_fast.jobs.demo import demo, summary_table

    summary = demo(arguments.out, _settings(arguments, "demo-eyes"), scale=arguments.scale)
    print(summary_table(summary))


def _add_simulate(commands: Any) -> None:
    parser = _command(
        commands,
        "simulate",
        _simulate,
        "write simulated, labelled images",
        "simgan-fast simulate eyes simulated --count 10000 --format png",
    )
    parser.add_argument("subject", choices=["eyes"], help="what to simulate")
    parser.add_argument("out", help="new folder")
    parser.add_argument("--count", type=int, default=10_000, help="images (default: %(default)s)")
    parser.add_argument(
        "--domain",
        choices=["plain", "camera"],
        default="plain",
        help="'plain', or 'camera': other people and light through a sensor model (default: %(default)s)",
    )
    parser.add_argument(
        "--size", type=image_size, default=(35, 55), help="HEIGHTxWIDTH (default: 35x55)"
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument(
        "--start", type=int, default=0, help="number of the first image (default: %(default)s)"
    )
    _add_format(parser, "arrow")


def _simulate(arguments: argparse.Namespace) -> None:
    from simgan_fast.jobs.simulate import simulate

    options = {
        name: getattr(arguments, name)
        for name in ("count", "domain", "size", "seed", "start", "format")
    }
    simulate(arguments.subject, arguments.out, **options)


def _add_prepare(commands: Any) -> None:
    parser = _command(
        commands,
        "prepare",
        _prepare,
        "pack a data set: UnityEyes, MPIIGaze, NYU hands, NumPy files, image folders and others",
        "simgan-fast prepare unityeyes UnityEyes/imgs simulated --size 35x55 --channels 1",
    )
    parser.add_argument("--list", action="store_true", help="all formats, each with an example")
    parser.add_argument("format", nargs="?", help="of the data set: see --list")
    parser.add_argument("source", nargs="?", help="folder or file of the data set")
    parser.add_argument("out", nargs="?", help="new folder for the packed set")
    parser.add_argument("--size", type=image_size, help="HEIGHTxWIDTH that images are resized to")
    parser.add_argument("--channels", type=int, choices=(1, 3), help="1: grey, 3: RGB")
    parser.add_argument(
        "--labels", metavar="FILE", help="folder: .csv or .json, if not its labels.csv"
    )
    parser.add_argument(
        "--crop",
        help="unityeyes [fixed], unityeyes2 [eye-width]: fixed, eye-width, none; nyu-hands: box, mask, none [box]",
    )
    parser.add_argument("--kind", help="nyu-hands: depth or synthdepth [depth]")
    parser.add_argument("--view", help="nyu-hands: camera 1, 2, 3 or all [1]")
    parser.add_argument("--values", help="nyu-hands: millimetres, paper or metric [millimetres]")


def _prepare(arguments: argparse.Namespace) -> None:
    from simgan_fast.jobs.prepare import formats_table, prepare

    if arguments.list:
        print(formats_table())
        return
    missing = [name for name in ("format", "source", "out") if getattr(arguments, name) is None]
    if missing:
        raise InputError(
            f"{' and '.join(missing)} missing: prepare FORMAT SOURCE OUT; --list has the formats."
        )
    packed = prepare(
        arguments.format,
        arguments.source,
        arguments.out,
        size=arguments.size,
        channels=arguments.channels,
        labels=arguments.labels,
        crop=arguments.crop,
        kind=arguments.kind,
        view=arguments.view,
        values=arguments.values,
    )
    channels, height, width = packed.shape
    print(
        f"{len(packed)} images of {height}x{width}, {channels} channel{'s' * (channels > 1)}, in {arguments.out}; "
        f"labels: {', '.join(packed.labels) or 'none'}"
    )


def _add_train(commands: Any) -> None:
    parser = _command(
        commands,
        "train",
        _train,
        "learn a refiner from simulated and real images, or go on with a run",
        "simgan-fast train --synthetic simulated --real photographs --out runs/first --self-regularization 0.05",
    )
    parser.add_argument("--synthetic", help="packed set or image folder of simulated images")
    parser.add_argument("--real", help="packed set or image folder of real images; needs no labels")
    parser.add_argument("--out", help="new run folder")
    parser.add_argument(
        "--size", type=image_size, help="HEIGHTxWIDTH that image folders are resized to"
    )
    parser.add_argument(
        "--resume", metavar="RUN", help="go on with this run; takes no other setting"
    )
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    parser.add_argument(
        "--preset",
        choices=list(PRESETS),
        default="eyes",
        help="settings to start from (default: %(default)s)",
    )
    _add_settings(parser, "eyes")


def _train(arguments: argparse.Namespace) -> None:
    from simgan_fast.jobs.train import resume, train

    if arguments.resume:
        changed = [name for name in ("synthetic", "real", "out") if getattr(arguments, name)]
        if changed or _changes(arguments):
            raise InputError(
                "--resume goes on with a run as it is: give it no other setting, or start a new run."
            )
        resume(arguments.resume, device=arguments.device)
        return
    missing = [f"--{name}" for name in ("synthetic", "real", "out") if not getattr(arguments, name)]
    if missing:
        raise InputError(
            f"{' and '.join(missing)} missing: name the two image sets and a new run folder."
        )
    config = _settings(arguments, arguments.preset)
    train(
        arguments.synthetic,
        arguments.real,
        arguments.out,
        config,
        size=arguments.size,
        device=arguments.device,
    )
    print(
        f"refiner: {arguments.out}/refiner  pictures: {arguments.out}/samples  numbers: {arguments.out}/metrics.csv"
    )


def _add_refine(commands: Any) -> None:
    parser = _command(
        commands,
        "refine",
        _refine,
        "refine a whole set, names and labels kept",
        "simgan-fast refine runs/first simulated refined --format arrow",
    )
    parser.add_argument("refiner", help="run folder, or a folder with a saved refiner")
    parser.add_argument("source", help="packed set or image folder")
    parser.add_argument("out", help="new folder")
    _add_format(parser, "png")
    parser.add_argument(
        "--size", type=image_size, help="HEIGHTxWIDTH that an image folder is resized to"
    )
    parser.add_argument(
        "--batch-size", type=int, default=64, help="images at a time (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")


def _refine(arguments: argparse.Namespace) -> None:
    from simgan_fast.jobs.refine import refine

    options = {
        name: getattr(arguments, name) for name in ("format", "size", "batch_size", "device")
    }
    result = refine(arguments.refiner, arguments.source, arguments.out, **options)
    print(
        f"{result.images} images in {arguments.out}, {result.images_per_second:.0f} images/s, "
        f"mean change {result.mean_abs_change:.3f} of a range of 2"
    )


def _add_evaluate(commands: Any) -> None:
    from simgan_fast.evaluation.gaze_training import GazeTraining

    example = (
        "simgan-fast evaluate gaze --train raw=simulated --train refined=refined --test photographs"
    )
    parser = commands.add_parser("evaluate", help="measure what a set is worth")
    kinds = parser.add_subparsers(title="measures", metavar="MEASURE", required=True)
    gaze = _command(
        kinds,
        "gaze",
        _evaluate_gaze,
        "train the paper's gaze estimator on sets, test it on another",
        example,
    )
    gaze.add_argument(
        "--train",
        action="append",
        required=True,
        metavar="NAME=SET",
        help="a labelled training set",
    )
    gaze.add_argument("--test", required=True, metavar="SET", help="a labelled set to test on")
    gaze.add_argument(
        "--test-labels", metavar="CSV", help="labels of --test, if not its labels.csv"
    )
    gaze.add_argument(
        "--seeds", type=int, default=3, help="estimators per set (default: %(default)s)"
    )
    gaze.add_argument(
        "--updates",
        type=int,
        default=GazeTraining.updates,
        help="of each estimator (default: %(default)s)",
    )
    gaze.add_argument(
        "--size", type=image_size, help="HEIGHTxWIDTH that image folders are resized to"
    )
    gaze.add_argument("--json", help="write all numbers to this file")


def _evaluate_gaze(arguments: argparse.Namespace) -> None:
    from simgan_fast.data import open_images
    from simgan_fast.evaluation.gaze import GazeTraining, evaluate_gaze, gaze_table

    named = [text.partition("=") for text in arguments.train]
    if any(not path for _, _, path in named) or len({name for name, _, _ in named}) < len(named):
        raise InputError("--train takes NAME=SET, with a different NAME each time.")
    if arguments.seeds < 1:
        raise InputError(f"--seeds is {arguments.seeds}: train at least one estimator per set.")
    sets = {name: open_images(path, size=arguments.size) for name, _, path in named}
    size = arguments.size or next(iter(sets.values())).shape[1:]
    test = open_images(arguments.test, size=size, labels=arguments.test_labels)
    training = GazeTraining(updates=arguments.updates)
    results = evaluate_gaze(sets, test, seeds=tuple(range(arguments.seeds)), training=training)
    if arguments.json:
        with written_whole(arguments.json, "w") as file:
            json.dump(results, file, indent=1)
    print(gaze_table(results))


def _add_info(commands: Any) -> None:
    _command(
        commands, "info", _info, "versions, CPU level, CUDA and why not, DALI", "simgan-fast info"
    )


def _info(_arguments: argparse.Namespace) -> None:
    from simgan_fast.jobs.info import info

    width = max(map(len, facts := info()))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in facts.items()))


def image_size(text: str) -> tuple[int, int]:
    """Parse HEIGHTxWIDTH, as in 35x55."""
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write HEIGHTxWIDTH, as in 35x55")
    return int(height), int(width)


def _history(text: str) -> int:
    return 0 if text == "off" else int(text)


def _add_format(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--format",
        choices=["png", "arrow"],
        default=default,
        help="PNG folder or packed set (default: %(default)s)",
    )


def _add_settings(parser: argparse.ArgumentParser, base: str) -> None:
    group = parser.add_argument_group(
        "settings", f"each changes the preset; in brackets, the preset {base}"
    )
    for field in dataclasses.fields(TrainingConfig):
        value = getattr(PRESETS[base], field.name)
        names = [f"--{field.name.replace('_', '-')}"] + (
            ["--lambda"] if field.name == "self_regularization" else []
        )
        kind = _history if field.name == "history" else type(value)
        group.add_argument(
            *names,
            dest=field.name,
            type=kind,
            metavar="X",
            help=f"{SETTINGS_HELP[field.name]} [{value}]",
        )


def _changes(arguments: argparse.Namespace) -> dict[str, Any]:
    names = (field.name for field in dataclasses.fields(TrainingConfig))
    return {
        name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None
    }


def _settings(arguments: argparse.Namespace, base: str) -> TrainingConfig:
    return preset(base, **_changes(arguments))
