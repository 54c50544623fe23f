"""Attention sums to one only where the graph shows it: whole softmaxes, sliced without gaps and resized alike."""

from __future__ import annotations

import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from vtopt.optimize.onnx_graphs import read_graph
from vtopt.optimize.warp_attention import find_softmax

TEXT = """<ir_version: 8, opset_import: ["" : 18]>
g (float[2,4,4,3] scores, float[2,4,4,3] others) => (float[OUT] a, float[OUT] b)
  <int64[2] halves = {2, 2}, int64[2] thirds = {1, 3}, int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2},
   int64[1] four = {4}, int64[1] far = {9}, int64[1] last = {-2}, int64[1] back = {-1}, int64[1] minus = {-3},
   float[4] scales = {1, 1, 2, 2}, float[4] odd = {1, 1, 2.2, 2}, float[4] wide = {1, 2, 1, 1},
   int64[4] size = {2, 2, 8, 6}, int64[4] all = {2, 4, 8, 6}, float[8] box = {0, 0, 0, 0, 1, 1, 1, 1}> {
  soft = Softmax <axis = 1> (scores)
  again = Softmax <axis = 1> (others)
  STEPS
}"""

SPLIT = "a, b = Split <axis = 1> (soft, halves)"
WHOLE = {
    "a softmax that is split": SPLIT,
    "halves in the other order": "b, a = Split <axis = 1> (soft, halves)",
    "uneven parts": "a, b = Split <axis = 1> (soft, thirds)",
    "an axis counted from the end": "a, b = Split <axis = -3> (soft, halves)",
    "slices": "a = Slice (soft, zero, two, one)\n  b = Slice (soft, two, four, one)",
    "slices with steps of one": "a = Slice (soft, zero, two, one, one)\n  b = Slice (soft, two, far, one, one)",
    "slices counted from the end": "a = Slice (soft, zero, last, minus)\n  b = Slice (soft, last, far, minus)",
    "a slice of a slice": """rest = Slice (soft, one, four, one)
  a = Slice (soft, zero, one, one)
  b = Identity (rest)""",
    "resized alike": """p, q = Split <axis = 1> (soft, halves)
  a = Resize <mode = "linear"> (p, , scales)
  b = Resize <mode = "linear"> (q, , scales)""",
    "resized to a size alike": """p, q = Split <axis = 1> (soft, halves)
  a = Resize <mode = "linear"> (p, , , size)
  b = Resize <mode = "linear"> (q, , , size)""",
    "resized before": 'p = Resize <mode = "nearest"> (soft, , scales)\n  a, b = Split <axis = 1> (p, halves)',
    "a softmax whose axis is counted from the end": """s = Softmax <axis = -3> (scores)
  a, b = Split <axis = 1> (s, halves)""",
}
NOT_WHOLE = {
    "sigmoid": "s = Sigmoid (scores)\n  a, b = Split <axis = 1> (s, halves)",
    "a softmax over the height": "s = Softmax <axis = 2> (scores)\n  a, b = Split <axis = 1> (s, halves)",
    "a softmax over the last axis": "s = Softmax (scores)\n  a, b = Split <axis = 1> (s, halves)",
    "the logarithm of a softmax": "s = LogSoftmax <axis = 1> (scores)\n  a, b = Split <axis = 1> (s, halves)",
    "one half twice": "a, q = Split <axis = 1> (soft, halves)\n  b = Identity (a)",
    "a whole and a half": "a = Identity (soft)\n  b, q = Split <axis = 1> (soft, halves)",
    "halves of two softmaxes": "a, q = Split <axis = 1> (soft, halves)\n  p, b = Split <axis = 1> (again, halves)",
    "a gap": "a = Slice (soft, zero, one, one)\n  b = Slice (soft, two, four, one)",
    "an overlap": "a = Slice (soft, zero, two, one)\n  b = Slice (soft, one, four, one)",
    "the last channel missing": "a = Slice (soft, zero, two, one)\n  b = Slice (soft, two, back, one)",
    "every second channel": "a = Slice (soft, zero, four, one, two)\n  b = Slice (soft, one, far, one, two)",
    "slices of the height": "a = Slice (soft, zero, two, two)\n  b = Slice (soft, two, four, two)",
    "a split of the height": "a, b = Split <axis = 2> (soft, halves)",
    "resized by different modes": """p, q = Split <axis = 1> (soft, halves)
  a = Resize <mode = "linear"> (p, , scales)
  b = Resize <mode = "nearest"> (q, , scales)""",
    "resized by different coordinates": """p, q = Split <axis = 1> (soft, halves)
  a = Resize <mode = "linear"> (p, , scales)
  b = Resize <mode = "linear", coordinate_transformation_mode = "asymmetric"> (q, , scales)""",
    "resized to different sizes": """p, q = Split <axis = 1> (soft, halves)
  a = Resize <mode = "linear"> (p, , scales)
  b = Identity (q)""",
    "resized by cubic weights": """p, q = Split <axis = 1> (soft, halves)
  a = Resize <mode = "cubic"> (p, , scales)
  b = Resize <mode = "cubic"> (q, , scales)""",
    "cropped": """p, q = Split <axis = 1> (soft, halves)
  a = Resize <coordinate_transformation_mode = "tf_crop_and_resize"> (p, box, scales)
  b = Resize <coordinate_transformation_mode = "tf_crop_and_resize"> (q, box, scales)""",
    "antialiased": """p, q = Split <axis = 1> (soft, halves)
  a = Resize <mode = "linear", antialias = 1> (p, , scales)
  b = Resize <mode = "linear", antialias = 1> (q, , scales)""",
    "channels resized": """p, q = Split <axis = 1> (soft, halves)
  a = Resize (p, , wide)
  b = Resize (q, , wide)""",
    "multiplied": "p, b = Split <axis = 1> (soft, halves)\n  a = Mul (p, p)",
    "transposed": "p, b = Split <axis = 1> (soft, halves)\n  a = Transpose <perm = [0, 1, 3, 2]> (p)",
}


def _find(steps: str, *names: str) -> tuple[str, ...] | None:
    """Return the name of what the softmax makes, None where there is none."""
    text = TEXT.replace("STEPS", steps)
    model = onnx.parser.parse_model(text.replace("float[OUT]", "float[K,C,H,W]"))
    onnx.checker.check_model(model)
    graph = read_graph(model).graph
    values: dict[str | None, ir.Value] = {value.name: value for node in graph for value in node.outputs}
    values |= {value.name: value for value in graph.inputs}
    softmax = find_softmax([values[name] for name in names or ("a", "b")])
    return softmax and tuple(str(value.name) for value in softmax.outputs)


@pytest.mark.parametrize("steps", [pytest.param(steps, id=name) for name, steps in WHOLE.items()])
def test_the_parts_of_one_softmax_sum_to_one(steps: str) -> None:
    assert _find(steps) in {("soft",), ("s",)}
    assert _find(steps, "b", "a") == _find(steps)


@pytest.mark.parametrize("steps", [pytest.param(steps, id=name) for name, steps in NOT_WHOLE.items()])
def test_anything_else_may_not(steps: str) -> None:
    assert _find(steps) is None


def test_one_part_alone_is_not_the_whole() -> None:
    assert _find(SPLIT, "a") is None
    assert _find(SPLIT, "b") is None
    assert _find(SPLIT, "a", "a", "b") is None


def test_a_softmax_alone_is_the_whole() -> None:
    assert _find(SPLIT, "soft") == ("soft",)
    assert find_softmax([]) is None


def test_what_the_model_is_given_is_not_known() -> None:
    assert _find(SPLIT, "scores") is None


def test_resizing_by_other_scales_to_the_same_size_mixes_other_pixels() -> None:
    """2 and 2.2 times four rows are both eight rows, read at other places."""
    steps = """p, q = Split <axis = 1> (soft, halves)
  a = Resize <mode = "linear", coordinate_transformation_mode = "asymmetric"> (p, , scales)
  b = Resize <mode = "linear", coordinate_transformation_mode = "asymmetric"> (q, , odd)"""
    assert _find(steps) is None
