"""The teacher: SDAFN with pose and agnostic person in, and nothing from which the answer can be read."""

from __future__ import annotations

import torch

from vtopt.optimize.networks import build_network


def test_teacher_is_sdafn_fed_with_pose_and_agnostic_person() -> None:
    teacher, published = build_network("sdafn_tiny"), build_network("sdafn")
    assert [spec.fed_by for spec in teacher.inputs] == ["pose+agnostic", "clothes", "agnostic"]
    assert [(spec.name, spec.channels) for spec in teacher.inputs] == [
        (spec.name, spec.channels) for spec in published.inputs
    ]
    assert teacher.module.state_dict().keys() < published.module.state_dict().keys()  # a pyramid level fewer


def test_teacher_has_the_widths_of_its_student() -> None:
    teacher, student = build_network("sdafn_tiny"), build_network("sdafn_plus_tiny")
    assert {**teacher.config, "reference_channels": 3} == dict(student.config)


def test_teacher_makes_a_picture_at_every_level() -> None:
    teacher = build_network("sdafn_tiny", {"pyramid_widths": (4, 6), "pyramid_dim": 8})
    fed = [torch.zeros(1, spec.channels, 16, 12) for spec in teacher.inputs]
    levels = teacher.module.forward_levels(*fed)
    assert [tuple(picture.shape) for picture, _ in levels] == [(1, 3, 8, 6), (1, 3, 16, 12)]
    torch.testing.assert_close(levels[-1][0], teacher.module(*fed))
