"""SynthesEyes (Wood et al., ICCV 2015): renders of 80x120 whose names tell the gaze, `f01_124_-0.0000_-0.3927.png`.

A name holds the eye-region model, a number, and pitch and yaw in radians. The signs were settled by looking at 52 of
the images: toward a higher pitch the iris goes up and the upper lid with it, toward a higher yaw it goes to the image's
left, so both are as in `simgan_fast.gaze`. They are relative to the camera, not to the head: of each view the numbers
go through one grid of 9 x 9 directions, 11.25 degrees apart, of which the images there are lie around the direction of
the head, and at 0, 0 the iris is round although the head is turned away.

The data set has a pickle (`.pkl`) beside each image, with landmarks and head pose. Nothing is unpickled here, as a
pickle can run any code: the landmarks are not read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from simgan_fast.data.image_files import Rejected
from simgan_fast.data.readers import GazeLabels, Sample, left_out
from simgan_fast.data.readers.folder import image_names
from simgan_fast.errors import InputError
from simgan_fast.gaze import pitch_yaw_to_vector

NAME = re.compile(r"[A-Za-z0-9]+_[0-9]+_(-?[0-9]{1,3}\.[0-9]{1,9})_(-?[0-9]{1,3}\.[0-9]{1,9})\.png")


class SynthesEyesReader(GazeLabels):
    """The images under `folder`, `f01/f01_36_0.1963_-0.7854.png` and so on, sub-folders included.

    Label: `gaze`, unit vectors in MPIIGaze's camera axes. The eye is the subject's left, as UnityEyes' is. An image
    whose name does not tell pitch and yaw is left out and listed in rejects.csv. Alpha is dropped.

    Raises InputError for a folder that is missing or has no image of such a name.

    >>> reader = SynthesEyesReader("SynthEyes_data")  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.names = image_names(self.folder)
        if not any(NAME.fullmatch(name.rpartition("/")[2]) for name in self.names):
            raise InputError(
                f"{folder} holds no image of SynthesEyes: want names such as f01_36_0.1963_-0.7854.png, which tell "
                "pitch and yaw."
            )

    @property
    def title(self) -> str:
        return str(self.folder)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Sample]:
        for name in self.names:
            try:
                gaze = gaze_of(name)
            except Rejected as reason:
                yield left_out(name, str(reason), self.title)
            else:
                yield Sample(name, self.folder / name, {"gaze": gaze}, source=self.title)


def gaze_of(name: str) -> np.ndarray:
    """The unit gaze [3] that an image's name tells; Rejected where it tells none.

    >>> gaze_of("f01/f01_122_-0.0000_-0.0000.png") + 0.0
    array([ 0.,  0., -1.])
    """
    found = NAME.fullmatch(name.rpartition("/")[2])
    if found is None:
        raise Rejected(
            "its name tells no pitch and yaw: want one such as f01_36_0.1963_-0.7854.png"
        )
    pitch, yaw = float(found[1]), float(found[2])
    if abs(pitch) > math.pi / 2 or abs(yaw) > math.pi:
        raise Rejected(f"its name tells pitch {pitch} and yaw {yaw}: want radians")
    gaze: np.ndarray = pitch_yaw_to_vector([[pitch, yaw]])[0]
    return gaze
