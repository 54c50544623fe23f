from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vtopt.optimize.data.joints import JOINTS, SPREAD, load_joints, prepare_joints, save_joints
from vtopt.optimize.errors import InputError


def write_people(path: Path, count: int, key: str = "pose_keypoints_2d") -> Path:
    """Joint n is at (n, 100 + n), the last one is not seen."""
    numbers = [value for n in range(count) for value in (n, 100 + n, 0.5 if n < count - 1 else 0)]
    path.write_text(json.dumps({"people": [{key: numbers}, {key: [1.0] * 3 * count}]}))
    return path


@pytest.mark.parametrize("key", ["pose_keypoints_2d", "pose_keypoints"])
def test_load_joints_reads_18(key: str, tmp_path: Path) -> None:
    joints = load_joints(write_people(tmp_path / "p.json", JOINTS, key))
    assert joints[:-1].tolist() == [[n, 100 + n] for n in range(JOINTS - 1)]
    assert np.isnan(joints[-1]).all()


def test_saved_joints_load_as_they_were(tmp_path: Path) -> None:
    joints = np.random.default_rng(0).uniform(0, 200, (JOINTS, 2)).astype(np.float32)
    joints[3] = np.nan
    save_joints(joints, tmp_path / "p.json")
    assert np.array_equal(load_joints(tmp_path / "p.json"), joints, equal_nan=True)


def test_load_joints_leaves_out_hips_and_feet_of_25(tmp_path: Path) -> None:
    joints = load_joints(write_people(tmp_path / "p.json", 25))
    assert joints[:, 0].tolist() == [n for n in range(19) if n != 8]


def test_load_joints_of_nobody_are_unseen(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"people": []}')
    assert np.isnan(load_joints(tmp_path / "p.json")).all()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"people": [{}]}', '{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}', '{"people": [[]]}'],
)
def test_load_joints_refuses(text: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(InputError, match=r"p\.json: holds no joints .*; write its JSON with 18 or 25 joints"):
        load_joints(tmp_path / "p.json")


def test_load_joints_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p\.json: the file cannot be read"):
        load_joints(tmp_path / "p.json")


def test_prepare_joints_is_one_at_a_joint_and_falls_off() -> None:
    height, width = 64, 48
    points = np.full((JOINTS, 2), np.nan, np.float32)
    points[3] = 10.5, 20.5
    maps = prepare_joints(points, (height, width), (height, width))
    assert (maps.shape, maps.dtype) == ((JOINTS, height, width), np.float32)
    assert maps[3, 20, 10] == 1
    assert maps[3, 21, 10] == pytest.approx(np.exp(-1 / (2 * (SPREAD * height) ** 2)))
    assert (np.delete(maps, 3, 0) == 0).all()


def test_prepare_joints_follows_the_crop_and_the_resize() -> None:
    points = np.full((JOINTS, 2), np.nan, np.float32)
    points[0] = 20 + 2 * 10.5, 2 * 20.5  # of 136x96, the middle 96x96 stays and is halved
    maps = prepare_joints(points, (96, 136), (48, 48))
    assert np.unravel_index(maps[0].argmax(), maps[0].shape) == (20, 10)
    assert maps[0, 20, 10] == 1
