"""Is a packed set still what was written?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simgan_fast.data.packed import open_packed
from simgan_fast.progress import Progress


@dataclass(frozen=True)
class VerifiedSet:
    """A set that is whole: images, shards, rejects, and the SHA-256 over its shards that stands in set.json."""

    images: int
    shards: int
    rejects: int
    digest: str


def verify(source: str | Path) -> VerifiedSet:
    """Read all of the packed set `source` and compare each shard's SHA-256 with the one in set.json.

    Raises InputError where the set cannot be opened, and with the names of the shards that differ.

    >>> verify("eyes").images  # doctest: +SKIP
    10000
    """
    packed = open_packed(source)
    with Progress(len(packed), "image", f"verify {packed.path}", quiet_for=2.0) as progress:
        packed.verify(progress.update)
    shards = packed.info["shards"]
    return VerifiedSet(len(packed), len(shards), len(packed.rejects), packed.info["digest"])
