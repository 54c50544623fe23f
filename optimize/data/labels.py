"""What a pixel of a person is: the 20 labels of person parsing, and the classes that networks make of them.

The labels are those of the LIP data set (Gong et al., "Look into Person", CVPR 2017, https://arxiv.org/abs/1703.05446)
as VITON-HD has them: label 10 is the neck, and the skin of the torso.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

__all__ = ["AGNOSTIC_CLASSES", "GENERATOR_CLASSES", "LAYOUT_CLASSES", "LAYOUT_COLORS", "Label"]


class Label(IntEnum):
    """A label by its number; left and right are the person's own."""

    BACKGROUND, HAT, HAIR, GLOVE, SUNGLASSES = range(5)
    UPPER, DRESS, COAT, SOCKS, TROUSERS, SKIN, SCARF, SKIRT, FACE = range(5, 14)
    LEFT_ARM, RIGHT_ARM, LEFT_LEG, RIGHT_LEG, LEFT_SHOE, RIGHT_SHOE = range(14, 20)


def _number_groups(groups: Mapping[int, Sequence[Label]]) -> tuple[int, ...]:
    classes = {label: number for number, labels in groups.items() for label in labels}
    return tuple(classes[label] for label in Label)


AGNOSTIC_CLASSES = _number_groups(
    {
        0: (Label.BACKGROUND, Label.SKIN),
        1: (Label.HAT, Label.HAIR),
        2: (Label.SUNGLASSES, Label.FACE),
        3: (Label.UPPER, Label.DRESS, Label.COAT),
        4: (Label.TROUSERS, Label.SKIRT),
        5: (Label.LEFT_ARM,),
        6: (Label.RIGHT_ARM,),
        7: (Label.LEFT_LEG,),
        8: (Label.RIGHT_LEG,),
        9: (Label.LEFT_SHOE,),
        10: (Label.RIGHT_SHOE,),
        11: (Label.SOCKS,),
        12: (Label.GLOVE, Label.SCARF),
    }
)
"""Label -> one of the 13 classes of HR-VITON's condition generator."""

GENERATOR_CLASSES = _number_groups(
    {
        0: (Label.BACKGROUND, Label.SKIN),
        1: (
            *(Label.SUNGLASSES, Label.FACE, Label.TROUSERS, Label.SKIRT, Label.SOCKS),
            *(Label.LEFT_LEG, Label.RIGHT_LEG, Label.LEFT_SHOE, Label.RIGHT_SHOE),
        ),
        2: (Label.UPPER, Label.DRESS, Label.COAT),
        3: (Label.HAT, Label.HAIR),
        4: (Label.LEFT_ARM,),
        5: (Label.RIGHT_ARM,),
        6: (Label.GLOVE, Label.SCARF),
    }
)
"""Label -> one of the 7 classes of HR-VITON's image generator."""

LAYOUT_CLASSES = _number_groups(
    {
        0: (Label.BACKGROUND,),
        1: (Label.HAT, Label.HAIR),
        2: (Label.SUNGLASSES, Label.FACE, Label.SKIN),
        3: (Label.UPPER, Label.DRESS, Label.COAT, Label.SCARF),
        4: (Label.TROUSERS, Label.SKIRT),
        5: (Label.LEFT_ARM, Label.RIGHT_ARM, Label.GLOVE),
        6: (Label.LEFT_LEG, Label.RIGHT_LEG, Label.SOCKS),
        7: (Label.LEFT_SHOE, Label.RIGHT_SHOE),
    }
)
"""Label -> one of the 8 classes of a layout of fashion completion."""

LAYOUT_COLORS = (
    (0, 0, 0),
    (255, 128, 0),
    (255, 255, 0),
    (255, 0, 0),
    (0, 0, 255),
    (255, 0, 255),
    (0, 255, 255),
    (0, 255, 0),
)
"""The colour of each class, 0..255."""
