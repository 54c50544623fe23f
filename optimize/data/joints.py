"""Joints of a person as OpenPose writes them, as maps: 18 of its COCO model, nose and neck first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .preprocess import Size, crop_window

__all__ = ["ENDINGS", "JOINTS", "load_joints", "prepare_joints", "save_joints"]

JOINTS = 18
ENDINGS = ("_keypoints.json", ".json")
"""What follows a person's stem in the name of its file."""

SPREAD = 4 / 256
"""Sigma of the Gaussian about a joint, as a share of the picture's height."""

_BODY_25 = (*range(8), *range(9, 19))
"""Places of the 18 joints among the 25 of the BODY_25 model, which has the middle of the hips, and feet."""


def load_joints(path: Path) -> NDArray[np.float32]:
    """Read the joints of the first person in a file of OpenPose: (18, 2), x and y in pixels, NaN where unseen.

    Takes files of its COCO model (18 joints) and its BODY_25 model. Raises InputError for what is neither.
    """
    try:
        people = json.loads(path.read_text(encoding="utf-8"))["people"]
        if not people:
            return np.full((JOINTS, 2), np.nan, np.float32)
        numbers = people[0].get("pose_keypoints_2d") or people[0]["pose_keypoints"]
        found = np.array(numbers, np.float32).reshape(-1, 3)
        places = found[list(_BODY_25)] if len(found) == 25 else found
        if len(places) != JOINTS:
            raise ValueError(f"it has {len(found)} joints")
    except OSError as error:
        raise InputError(f"{path}: the file cannot be read ({error.strerror}); check its path and rights") from error
    except (AttributeError, KeyError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: holds no joints as OpenPose writes them ({error}); write its JSON with 18 or 25 joints"
        ) from error
    return np.where(places[:, 2:] > 0, places[:, :2], np.float32(np.nan))


def save_joints(points: NDArray[np.float32], path: Path) -> None:
    """Write joints (18, 2), NaN where unseen, as `load_joints` reads them: the same numbers."""
    seen = np.isfinite(points).all(axis=1, keepdims=True)
    found = np.concatenate([np.where(seen, points, 0), seen], axis=1)
    person = {"pose_keypoints_2d": found.ravel().tolist()}
    path.write_text(json.dumps({"people": [person]}) + "\n", encoding="ascii")


def prepare_joints(points: NDArray[np.float32], frame: Size, size: Size) -> NDArray[np.float32]:
    """Draw a map per joint, cropped and resized as a picture of the height and width `frame` is.

    `points` are (18, 2), x and y in pixels of the frame. Gives float32 (18, height, width), 1 at the joint and less
    around it; 0 throughout for a joint that is NaN.
    """
    left, top, right, bottom = crop_window(frame[1], frame[0], size)
    scale = np.array([size[1] / (right - left), size[0] / (bottom - top)], np.float32)
    x, y = ((points - np.array([left, top], np.float32)) * scale).T[:, :, None, None]
    down, across = (np.arange(side, dtype=np.float32) + 0.5 for side in size)
    away = (across - x) ** 2 + (down[:, None] - y) ** 2
    return np.nan_to_num(np.exp(-away / np.float32(2 * (SPREAD * size[0]) ** 2)))
