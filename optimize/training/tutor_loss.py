"""The loss of a distillation: how far the student is from the real picture, and how it looks and bends to get there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from .batches import feed_batch
from .losses import Level, list_levels, measure_truth_loss
from .smoothness import measure_grid_bend
from .targets import make_targets
from .tutor import Exercise

if TYPE_CHECKING:
    from ..networks import Network

__all__ = ["TutorLoss", "measure_exercise"]


class TutorLoss(nn.Module):
    """The loss of a batch. The teacher is no submodule: it is neither trained, nor wrapped, nor saved."""

    def __init__(
        self,
        student: Network,
        teacher: Network,
        set_exercise: Callable[[Network, Mapping[str, Tensor]], Exercise],
        compare_looks: Callable[[Tensor, Tensor], Tensor],
        *,
        look_weight: float,
        smooth_weight: float,
    ) -> None:
        super().__init__()
        self.module = student.module
        self.networks = (student, teacher)
        self.set_exercise = set_exercise
        self.compare_looks = compare_looks
        self.weights = (look_weight, smooth_weight)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        student, teacher = self.networks
        exercise = self.set_exercise(teacher, batch)
        given = {"person": exercise.person, "clothes": exercise.clothes}
        made = make_targets(student, feed_batch(student.inputs, given))
        truth, look, smooth = measure_exercise(made, exercise, self.compare_looks)
        look_weight, smooth_weight = self.weights
        return truth + look_weight * look + smooth_weight * smooth


def measure_exercise(
    made: Mapping[str, Tensor], exercise: Exercise, compare_looks: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return three scalars: the distance to the truth, how different the picture looks, and how much flows bend.

    The first is `measure_truth_loss` with the teacher's places, the second `compare_looks` of the finest picture,
    the third `measure_grid_bend` summed over all flows of all levels. Where the picture is not judged, the truth is
    put in its place, so nothing can be lost there.
    """
    wanted = {"truth": exercise.truth} | ({} if exercise.place is None else {"place": exercise.place})
    levels = [level._replace(picture=_cover(level, exercise)) for level in list_levels(made)]
    bends = [measure_grid_bend(flow) for name, flow in made.items() if name.partition("/")[0].endswith("grids")]
    truth_loss = measure_truth_loss(levels, wanted)
    return truth_loss, compare_looks(levels[-1].picture, exercise.truth), sum(bends, truth_loss.new_zeros(()))


def _cover(level: Level, exercise: Exercise) -> Tensor:
    size = level.picture.shape[2:]
    truth, judged = (F.interpolate(each, size=size, mode="area") for each in (exercise.truth, exercise.judged))
    return truth + judged * (level.picture - truth)
