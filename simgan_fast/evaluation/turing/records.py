"""What a study holds, one by one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Due:
    """Where a participant stands: the image with the id `image`, number `number` of `total`, is to be judged.

    When all are, `image` is None and `number` is total + 1.
    """

    image: str | None
    number: int
    total: int


@dataclass(frozen=True)
class Participant:
    """`number`: 1, 2, ... `arm`: "refined" or "raw". `seed`: of the draw. `started`: UTC, ISO 8601."""

    number: int
    code: str
    arm: str
    seed: int
    started: str


@dataclass(frozen=True)
class Answer:
    """`participant`: number. `place`: 1 to 100. `truth`, `said`: "real" or "synthetic".

    `name`: of the image in its set. `answered`: UTC, ISO 8601.
    """

    participant: int
    arm: str
    place: int
    truth: str
    said: str
    name: str
    answered: str
