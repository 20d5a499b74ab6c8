"""Runs a command in a copy of this process, where all is imported already, and kills it at random moments."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import pytest
import torch
import torch.utils.tensorboard  # or each copy would import it, as the next

import simgan_fast.evaluation.gaze_training  # noqa: F401
from simgan_fast.cli import main


def started(arguments: list[str], log: Path, limits: Mapping[int, int] | None = None) -> int:
    """Fork; the child runs the command as the leader of a process group of its own. Gives its process id.

    `limits`: of the child's resources, resource.RLIMIT_NOFILE and so on. Skips the test where a child cannot train.
    """
    if arguments[0] == "train" and torch.version.cuda and not _a_copy_can_train():
        pytest.skip("torch's CUDA builds refuse autograd in a copy of a process that has used it")
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setsid()
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(sink, stream)
        sys.stdout = os.fdopen(os.dup(1), "w", buffering=1)
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
        for resource_number, limit in (limits or {}).items():
            resource.setrlimit(resource_number, (limit, limit))
        code = main(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)  # nothing of this process's own ends here


def _a_copy_can_train() -> bool:
    child = os.fork()
    if not child:
        with suppress(RuntimeError):
            torch.ones(1, requires_grad=True).sum().backward()
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def killed_after(arguments: list[str], seconds: float, log: Path) -> bool:
    """Run the command, SIGKILL it after `seconds`; whether that came in time, else it must have ended well."""
    child, until = started(arguments, log), time.monotonic() + seconds
    ended = (0, 0)
    while time.monotonic() < until and not ended[0]:
        time.sleep(min(0.002, max(0.0, until - time.monotonic())))
        ended = os.waitpid(child, os.WNOHANG)
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(ended[1])
    assert code in (0, -signal.SIGKILL), f"it ended with {code}: {log.read_text()}"
    require_no_process(child)
    return code != 0


def ended_with(arguments: list[str], log: Path, limits: Mapping[int, int] | None = None) -> int:
    """Run the command; gives its exit code, and what it said in `log`."""
    _, status = os.waitpid(started(arguments, log, limits), 0)
    return os.waitstatus_to_exitcode(status)


def require_no_process(group: int, seconds: float = 10.0) -> None:
    """AssertionError where processes that the killed one had started are still there after `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.005)
    os.killpg(group, signal.SIGKILL)
    raise AssertionError("processes of a killed command live on")


Facts = list[object]  # about a result: files and their digests, rows of a table


@dataclass
class Job:
    """A command that can be killed.

    `folder`: where it writes. `arguments`: of the next start. `finished`: whether its result is there. `check`: of what
    lies in `folder` after each kill. `result`: what a finished job has made, compared with that of an undisturbed one.
    """

    folder: Path
    arguments: Callable[[], list[str]]
    finished: Callable[[], bool]
    check: Callable[[], None]
    result: Callable[[], Facts]


def survived(job: Job, kills: int, seed: int = 0) -> int:
    """Kill the job `kills` times, at moments even over what an undisturbed run takes; gives how many it survived.

    Survived: what is on the disk passes `job.check`, and when the job is at last left alone long enough to finish, its
    result is the undisturbed one. An AssertionError says what is wrong otherwise.
    """
    log = job.folder.parent / "log.txt"
    drawn = random.Random(seed)
    began = time.monotonic()
    assert not killed_after(job.arguments(), 600, log)
    usual, expected = time.monotonic() - began, job.result()
    _clear(job.folder)
    count = 0
    while count < kills:
        if killed_after(job.arguments(), drawn.uniform(0, 1.05 * usual), log):
            count += 1
            job.check()
        if job.finished():  # at times killed on its way out
            _require_equal(job.result(), expected)
            _clear(job.folder)
    assert not killed_after(job.arguments(), 600, log)
    _require_equal(job.result(), expected)
    return count


def _clear(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _require_equal(found: Facts, expected: Facts) -> None:
    other = [f"{a} in place of {b}" for a, b in zip_longest(found, expected) if a != b]
    assert not other, "; ".join(other[:5])
