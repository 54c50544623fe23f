from __future__ import annotations

import pytest

from vtopt.optimize.data.labels import AGNOSTIC_CLASSES, GENERATOR_CLASSES, LAYOUT_CLASSES, Label
from vtopt.optimize.networks.completion.stages import CLASSES
from vtopt.optimize.networks.hrviton.between import GROUPS, UPPER


def test_generator_classes_are_the_groups_of_the_agnostic_classes() -> None:
    assert tuple(GROUPS[number] for number in AGNOSTIC_CLASSES) == GENERATOR_CLASSES


def test_agnostic_classes_have_the_garments_where_the_network_has_them() -> None:
    garments = [label for label in Label if AGNOSTIC_CLASSES[label] == UPPER]
    assert garments == [Label.UPPER, Label.DRESS, Label.COAT] == [5, 6, 7]


@pytest.mark.parametrize(
    ("label", "name"),
    [
        (Label.HAIR, "hair"),
        (Label.FACE, "face"),
        (Label.UPPER, "top"),
        (Label.SKIRT, "bottom"),
        (Label.LEFT_ARM, "arms"),
        (Label.RIGHT_LEG, "legs"),
        (Label.LEFT_SHOE, "shoes"),
    ],
)
def test_layout_classes_are_those_of_completion(label: Label, name: str) -> None:
    assert CLASSES[LAYOUT_CLASSES[label]] == name


@pytest.mark.parametrize(
    ("classes", "count"), [(AGNOSTIC_CLASSES, 13), (GENERATOR_CLASSES, 7), (LAYOUT_CLASSES, len(CLASSES))]
)
def test_every_label_has_a_class_and_every_class_a_label(classes: tuple[int, ...], count: int) -> None:
    assert len(classes) == len(Label) == 20
    assert set(classes) == set(range(count))
