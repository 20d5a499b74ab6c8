"""How well people told real images from synthetic ones, against guessing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

from simgan_fast.errors import InputError

KINDS = ("real", "synthetic")

Confusion = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Score:
    """Of `answers` answers `right` were right. Without answers the rest is None.

    `confusion[truth][said]`: how many. `accuracy`: right / answers. `low`, `high`: Wilson's 95 % interval of it.
    `p`: how probable at least so many right answers are by guessing (`guessing_p`).
    """

    answers: int
    right: int
    accuracy: float | None
    low: float | None
    high: float | None
    p: float | None
    confusion: Confusion


def score(confusion: Confusion) -> Score:
    """Score counts `confusion[truth][said]`, both of KINDS.

    Table 1 of the paper:

    >>> table = {"real": {"real": 224, "synthetic": 276}, "synthetic": {"real": 207, "synthetic": 293}}
    >>> score(table).accuracy, round(score(table).p, 3)
    (0.517, 0.148)
    """
    answers = sum(confusion[truth][said] for truth in KINDS for said in KINDS)
    right = sum(confusion[kind][kind] for kind in KINDS)
    if answers == 0:
        return Score(0, 0, None, None, None, None, confusion)
    low, high = wilson_interval(right, answers)
    return Score(answers, right, right / answers, low, high, guessing_p(right, answers), confusion)


def guessing_p(right: int, answers: int) -> float:
    """The exact one-sided binomial p: the probability of at least `right` right ones of `answers` coin tosses.

    Summed in whole numbers and divided once, so that it is right to the last digit. Raises InputError unless
    0 <= right <= answers.

    >>> guessing_p(162, 200) < 1e-8
    True
    """
    _check_counts(right, answers)
    term = math.comb(answers, right)
    total = term
    for k in range(right, answers):
        term = term * (answers - k) // (k + 1)  # comb(answers, k + 1)
        total += term
    return total / (1 << answers)


def wilson_interval(right: int, answers: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (E. B. Wilson, 1927), without continuity correction; 0 to 1.

    Raises InputError unless 0 <= right <= answers and answers is at least 1.

    >>> [round(end, 3) for end in wilson_interval(517, 1000)]
    [0.486, 0.548]
    """
    _check_counts(right, answers)
    if answers == 0:
        raise InputError("no answers came: there is no share to give an interval of.")
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (right + z * z / 2) / (answers + z * z)
    half = z / (answers + z * z) * math.sqrt(right * (answers - right) / answers + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def _check_counts(right: int, answers: int) -> None:
    if not 0 <= right <= answers:
        raise InputError(f"{right} right ones of {answers} answers came: want 0 to {answers}.")
