"""What happens to a function in a process of its own, and to the one that called it."""

from __future__ import annotations

import ctypes
import os
import time

import numpy as np
import pytest

from simgan_fast.data.isolation import Isolated


def crash() -> None:
    ctypes.string_at(0)


def fail(error: BaseException) -> None:
    raise error


class Stubborn(Exception):
    def __init__(self, *_: object) -> None:
        super().__init__("stubborn")
        self.lock = open(os.devnull)  # noqa: SIM115  (cannot be pickled)


def test_results_and_exceptions_come_back() -> None:
    with Isolated() as call:
        assert call(sorted, [3, 1, 2]) == [1, 2, 3]
        np.testing.assert_array_equal(call(np.arange, 5), np.arange(5))
        assert call(os.getpid) != os.getpid() and call(os.getpid) == call(os.getpid)
        with pytest.raises(KeyError, match="missing"):
            call(fail, KeyError("missing"))
        with pytest.raises(ValueError, match="stubborn"):
            call(make_stubborn)
        assert call(len, "abc") == 3, "it goes on after an exception"


def make_stubborn() -> None:
    raise Stubborn


@pytest.mark.parametrize("end", [crash, os.abort])
def test_a_crash_is_an_error(end) -> None:
    with Isolated() as call, pytest.raises(OSError, match="the library that reads it crashed"):
        call(end)


def test_what_hangs_is_an_error_and_ends() -> None:
    began = time.monotonic()
    with Isolated(0.2) as call, pytest.raises(OSError, match="did not end in 0 seconds"):
        call(time.sleep, 60)
    assert time.monotonic() - began < 10
    assert not call._process.is_alive()
