"""A few cases of each fuzz target, and the driver's own work. `make fuzz` runs more; test_found_by_fuzzing.py."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from random import Random

import pytest
import torch
from fuzz import api, driver, ops, parsers
from fuzz.mutations import damaged

import simgan_fast.ops as all_ops
from simgan_fast.errors import InputError

TARGETS = {**parsers.TARGETS, **api.TARGETS}
QUICK = driver.Bounds(cases=40, seconds=2)


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_cases(name: str) -> None:
    assert driver.run(name, TARGETS[name], QUICK) > 0


def failing(how: str, _folder: Path) -> driver.Case:
    def case(random: Random) -> None:
        if random.random() < 0.5:
            return
        if how == "raise":
            raise KeyError("planted")
        if how == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if how == "hang":
            signal.pause()
        bytearray(2 * driver.MEMORY)

    return case


@pytest.mark.parametrize(
    ("how", "said"),
    [("raise", "KeyError"), ("crash", "ended with -11"), ("hang", "-14"), ("swell", "MemoryError")],
)
def test_what_fails_is_found_and_can_be_run_again(
    how: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "SECONDS_OF_A_CASE", 1)
    make = partial(failing, how)
    with pytest.raises(driver.Found, match=said) as found:
        driver.run("planted", make, driver.Bounds(cases=100, seconds=10))
    first = int(str(found.value).split("--first ")[1].split()[0])
    with pytest.raises(driver.Found, match=f"--first {first} "):
        driver.run("planted", make, driver.Bounds(cases=1, seconds=10, first=first))


def test_cases_end_with_the_time_or_the_count() -> None:
    def nothing(_folder: Path) -> driver.Case:
        return lambda _random: None

    assert driver.run("nothing", nothing, driver.Bounds(cases=25, seconds=10)) == 25
    assert driver.run("nothing", nothing, driver.Bounds(cases=10**9, seconds=0.2)) > 25


def test_every_op_has_a_target() -> None:
    registered = {name for name in all_ops.__all__ if hasattr(torch.ops.simgan_fast, name)}
    assert len(registered) == 6 and registered < set(ops.NAMES)


def test_damage_is_the_same_for_the_same_number() -> None:
    data = bytes(range(200))
    assert damaged(data, Random(3)) == damaged(data, Random(3))
    assert len({damaged(data, Random(i)) for i in range(100)}) > 80


def test_a_message_is_one_line_whatever_came() -> None:
    error = InputError(f"a cell\nis {'x' * 10_000}\ud800, mend it.")
    assert len(str(error)) < 1500
    assert str(error).startswith("a cell is xxx")
    assert str(error).endswith("\\ud800, mend it.")
