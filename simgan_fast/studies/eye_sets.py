"""The sets of eyes that a study of gaze takes, and their labels."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from simgan_fast.data import PackedSet
from simgan_fast.evaluation.gaze_training import GazeTraining, images_and_gaze
from simgan_fast.studies.cells import Study
from simgan_fast.studies.sets import NamedSets, StudySets, study_sets

QUICK_TRAINING = GazeTraining(0.1, 0.01, updates=10, batch_size=8, warm_up=2)


def eye_sets(study: Study, named: NamedSets | None, counts: Mapping[str, int]) -> StudySets:
    """The named sets, folders packed below the study; or as many simulated images of each as `counts` says.

    Raises InputError for unusable sets or labels, and for other images than the study began with.
    """
    return study_sets(study, named, counts, "eyes", _check)


def labelled(images: PackedSet, what: str) -> tuple[Tensor, Tensor]:
    """Integer images [n, c, h, w] and unit gaze vectors [n, 3]; InputError(`what`) without usable labels."""
    return images_and_gaze(images, None, what)


def _check(sets: StudySets) -> None:
    labelled(sets.synthetic, "the synthetic set")
    labelled(sets.test, "the test set")
