"""MPIIGaze (Zhang et al., CVPR 2015): the normalised eyes of `Data/Normalized/pNN/dayNN.mat`, or a MPIIGaze.h5.

The .mat files hold, of each eye, `image` [n, 36, 60], `gaze` [n, 3] and `pose` [n, 3], and file names. MPIIGaze.h5 is
what the script of Hysts' pytorch_mpiigaze makes of the evaluation subset: `pNN/image` [n, 36, 60], `pNN/gaze` and
`pNN/pose` [n, 2] (pitch, yaw), right eyes mirrored already.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from simgan_fast.data.isolation import Isolated
from simgan_fast.data.readers import GazeLabels, Sample, needed, reason_of
from simgan_fast.errors import InputError
from simgan_fast.gaze import pitch_yaw_to_vector

SIDES = ("left", "right")
LISTS = Path("Evaluation Subset", "sample list for eye image")
_DAMAGED = (
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    NotImplementedError,
    NameError,  # of SciPy itself, over some damage
    MemoryError,  # for what damaged sizes ask
    zlib.error,
)
MIRRORED = np.array([-1.0, 1.0, 1.0])  # x of a vector in the mirror image


class MPIIGazeReader(GazeLabels):
    """Both eyes of `folder`, the data set's own (with `Data/Normalized` in it) or `Normalized` itself.

    Right eyes are mirrored, and their gaze with them, so that all are left eyes as the simulators' are. Label: `gaze`,
    unit vectors in the camera's axes. Names are "p00/day01/0005-left.png".

    evaluation: only the images of the evaluation subset, 3,000 of each person, as its lists name them; None: where the
    lists are there.

    Raises InputError for a folder without such files, a file that cannot be read, lists that name what is not there,
    and where SciPy, which reads the format, is not installed.

    >>> reader = MPIIGazeReader("MPIIGaze")  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path, evaluation: bool | None = None) -> None:
        folder = Path(folder)
        self._scipy = needed("scipy.io", "scipy")
        places = (folder / "Data" / "Normalized", folder / "Normalized", folder)
        self.folder = next((place for place in places if any(place.glob("p*/day*.mat"))), folder)
        self.files = sorted(self.folder.glob("p*/day*.mat"))
        if not self.files:
            raise InputError(
                f"{folder} holds no eyes of MPIIGaze: want Data/Normalized/p00/day01.mat and so on in it."
            )
        lists = next(
            (top / LISTS for top in (folder, folder.parent) if (top / LISTS).is_dir()), None
        )
        if evaluation and lists is None:
            raise InputError(f"{folder} has no '{LISTS}': leave evaluation out to read all eyes.")
        self._chosen = _read_lists(lists) if lists is not None and evaluation is not False else None
        if self._chosen is not None:
            days = {f"{file.parent.name}/{file.stem}": file for file in self.files}
            missing = sorted(set(self._chosen) - set(days))
            if missing:
                raise InputError(
                    f"the evaluation list names {missing[0]}, which {self.folder} does not hold."
                )
            self.files = [file for day, file in days.items() if day in self._chosen]
        self._count = self._number()

    @property
    def title(self) -> str:
        return str(self.folder)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Sample]:
        with Isolated() as call:  # some damage crashes SciPy
            for file in self.files:
                with self._explained(file):
                    content = call(_day, file)
                yield from self._samples(file, content)

    def _samples(self, file: Path, content: Mapping[str, Any]) -> Iterator[Sample]:
        day = f"{file.parent.name}/{file.stem}"
        rows = {name: row for row, name in enumerate(content["names"])}
        for name, side in self._wanted(day, list(rows)):
            images, gaze = content[side]
            if name not in rows:
                raise InputError(
                    f"the evaluation list names {day}/{name}.jpg, which {file} does not hold."
                )
            image, vector = images[rows[name]], gaze[rows[name]].astype(np.float64)
            if side == "right":
                image, vector = image[:, ::-1], vector * MIRRORED
            yield Sample(f"{day}/{name}-{side}.png", image, {"gaze": vector}, source=str(file))

    def _wanted(self, day: str, names: Sequence[str]) -> list[tuple[str, str]]:
        if self._chosen is not None:
            return self._chosen[day]
        return [(name, side) for name in names for side in SIDES]

    def _number(self) -> int:
        if self._chosen is not None:
            return sum(map(len, self._chosen.values()))
        count = 0
        with Isolated() as call:
            for file in self.files:
                with self._explained(file):
                    count += len(SIDES) * call(_images_of, file)
        return count

    @contextmanager
    def _explained(self, file: Path) -> Iterator[None]:
        """InputError for whatever a damaged or another file makes of its reading."""
        try:
            yield
        except (*_DAMAGED, self._scipy.matlab.MatReadError) as error:
            raise InputError(
                f"{file} is no day of MPIIGaze ({reason_of(error)}): fetch it again."
            ) from None


def _images_of(file: Path) -> int:
    """How many images of each eye a day has, by the file's table of contents alone."""
    scipy = needed("scipy.io", "scipy")
    shapes = {name: shape for name, shape, _ in scipy.whosmat(file)}
    return math.prod(shapes["filenames"])


def _day(file: Path) -> dict[str, Any]:
    """Names without suffix, and of each eye images [n, h, w] and gaze [n, 3]; a day of one image comes squeezed."""
    scipy = needed("scipy.io", "scipy")
    content = scipy.loadmat(file, struct_as_record=False, squeeze_me=True)
    names = [Path(str(name)).stem for name in np.atleast_1d(content["filenames"])]
    loaded: dict[str, Any] = {"names": names}
    for side in SIDES:
        eye = getattr(content["data"], side)
        images = np.asarray(eye.image).reshape(-1, *np.shape(eye.image)[-2:])
        loaded[side] = (images, np.asarray(eye.gaze).reshape(-1, 3))
        if len(images) != len(names) or len(loaded[side][1]) != len(names):
            raise ValueError(f"{len(names)} names, {len(images)} {side} eyes")
    return loaded


class MPIIGazeH5Reader(GazeLabels):
    """All persons of a MPIIGaze.h5. Label: `gaze`; names are "p00/0000.png" and so on.

    Raises InputError for a file that is no such file, and where h5py is not installed.

    >>> reader = MPIIGazeH5Reader("MPIIGaze.h5")  # doctest: +SKIP
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        h5py = needed("h5py", "h5py")
        self._people: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        try:
            with h5py.File(self.file, "r") as content:
                for person in sorted(name for name in content if re.fullmatch(r"p\d\d", name)):
                    images, angles = content[person]["image"][:], content[person]["gaze"][:]
                    self._people[person] = (images, pitch_yaw_to_vector(angles))
        except (*_DAMAGED, RuntimeError) as error:
            reason = reason_of(error)
            raise InputError(f"{self.file} is no MPIIGaze.h5 ({reason}): make it again.") from None
        if not self._people:
            raise InputError(f"{self.file} is no MPIIGaze.h5: it has no group p00.")

    @property
    def title(self) -> str:
        return str(self.file)

    def __len__(self) -> int:
        return sum(len(images) for images, _ in self._people.values())

    def __iter__(self) -> Iterator[Sample]:
        for person, (images, gaze) in self._people.items():
            for i, image in enumerate(images):
                yield Sample(f"{person}/{i:04d}.png", image, {"gaze": gaze[i]}, source=self.title)


def _read_lists(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Of each day, "p00/day01", the images and sides that the lists pNN.txt name: lines like "day13/0203.jpg left"."""
    chosen: dict[str, list[tuple[str, str]]] = {}
    for file in sorted(folder.glob("p*.txt")):
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
            found = re.fullmatch(r"\s*(day\d+)/(\w+)\.jpg\s+(left|right)\s*", line)
            if found is None:
                raise InputError(f"{file}, line {number}, is {line!r}: want 'day13/0203.jpg left'.")
            chosen.setdefault(f"{file.stem}/{found[1]}", []).append((found[2], found[3]))
    return chosen
