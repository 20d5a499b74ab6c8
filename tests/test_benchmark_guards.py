"""The guards of speed compare rightly: what they would let pass, and what not."""

from __future__ import annotations

import guard
import instructions


def test_a_ratio_may_lose_a_tenth() -> None:
    committed = {"a": 2.0, "b": 3.0, "c": 1.0}
    assert guard.lost({"a": 1.81, "b": 2.69, "new": 0.1}, committed) == ["b"]


def test_instructions_may_grow_by_two_percent() -> None:
    committed = {"a": 1000, "b": 1000}
    assert instructions.more({"a": 1020, "b": 1021, "new": 9999}, committed) == ["b"]


def test_every_committed_ratio_is_found() -> None:
    names = guard.ratios_in(guard.HERE / "results")
    assert any("refiner_inference" in name for name in names)
    assert any("patch_cross_entropy" in name for name in names)
