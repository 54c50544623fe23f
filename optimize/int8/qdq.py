"""Write a model's convolutions in 8 bits: QuantizeLinear and DequantizeLinear around each (QDQ)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..cpu_target import CpuTarget
from .ranges import Range
from .units import Unit

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

__all__ = ["QuantizedWeight", "insert_qdq", "quantize_weight"]

LARGEST_BIAS = 2**30
"""Biases are int32; a weight's step grows where its bias would come near the end of that."""


SMALLEST_STEP = 1e-35
"""Below it float32 runs out; a channel of zeros has such weights."""

ROUNDED_BY_RUNTIME = frozenset({"Conv", "ConvTranspose", "Gemm"})
"""onnxruntime rounds the float weights of these where they stand between a Q/DQ of one step and another."""


class Grid(NamedTuple):
    """The numbers that an 8-bit tensor can hold: step * (q - zero)."""

    step: np.float32
    zero: np.generic
    """uint8 or int8; its type is the tensor's."""


class QuantizedWeight(NamedTuple):
    """A convolution's constants in integers: int8 (O, I, kH, kW), int32 (O,), and a step per output channel."""

    values: NDArray[np.int8]
    steps: NDArray[np.float32]
    bias: NDArray[np.int32] | None


def make_grid(found: Range, target: CpuTarget) -> Grid:
    """Return the numbers of an activation: 256 steps over the range, unsigned or signed as the target has it.

    What is never below zero begins at the least number, so that onnxruntime may drop a Relu before it.
    """
    step = (found.high - found.low) / 255 or 1.0
    zero = int(np.clip(round(-found.low / step), 0, 255))
    return Grid(np.float32(step), np.int8(zero - 128) if target.signed_activations else np.uint8(zero))


def quantize_weight(
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    means: NDArray[np.float64] | None,
    step: np.float32,
    target: CpuTarget,
) -> QuantizedWeight:
    """Round a convolution's weights per output channel, 7 bits where the target asks for that, and its bias.

    `means` (I,) are those of the channels that it reads: what the rounded weights make of them too much is taken off
    the bias (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019).
    `step` is that of the activation it reads.
    """
    flat = weight.reshape(len(weight), -1)
    largest = np.abs(flat).max(1)
    limit = 64 if target.reduce_range else 127
    steps = largest.astype(np.float64) / limit
    if bias is not None:
        steps = np.maximum(steps, np.abs(bias) / (float(step) * LARGEST_BIAS))
    steps = np.where(steps > SMALLEST_STEP, steps, 1.0).astype(np.float32)
    values = np.rint(flat / steps[:, None]).clip(-limit, limit)
    if means is not None:
        error = (flat - values * steps[:, None].astype(np.float64)).reshape(*weight.shape[:2], -1).sum(2)
        groups = len(means) // weight.shape[1]
        seen = np.repeat(means.reshape(groups, -1), len(weight) // groups, 0)
        bias = (0.0 if bias is None else bias) + (error * seen).sum(1)
    integers = None if bias is None else np.rint(bias / (steps.astype(np.float64) * step)).astype(np.int32)
    return QuantizedWeight(values.astype(np.int8).reshape(weight.shape), steps, integers)


def insert_qdq(
    model: ModelProto,
    units: Sequence[Unit],
    ranges: Mapping[str, Range],
    target: CpuTarget,
    means: Mapping[str, NDArray[np.float64]] | None = None,
) -> ModelProto:
    """Return the model with `units` in 8 bits: what they read, their constants and what they make.

    `means` has the channel means of the tensors that units read; biases are corrected where it does.

    A tensor that an 8-bit unit makes has no other form: all that read it read it dequantised. One that float
    nodes make is quantised for the units that read it, and stays as it is for others.
    """
    from onnx import ModelProto

    quantized = ModelProto()
    quantized.CopyFrom(model)
    writer = _Writer(quantized, ranges, target, means or {})
    for unit in units:
        writer.quantize_output(unit)
    for unit in units:
        writer.quantize_inputs(unit)
    writer.keep_float(units)
    writer.finish()
    return quantized


class _Writer:
    """The graph as it grows: which tensors are in 8 bits already, and the nodes to put around each node."""

    def __init__(
        self,
        model: ModelProto,
        ranges: Mapping[str, Range],
        target: CpuTarget,
        means: Mapping[str, NDArray[np.float64]],
    ) -> None:
        self.graph = model.graph
        self.ranges, self.target, self.means = ranges, target, means
        self.nodes = {node.name: node for node in self.graph.node}
        self.makers = {output: node for node in self.graph.node for output in node.output}
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.dequantized: dict[str, str] = {}
        self.before: defaultdict[str, list[NodeProto]] = defaultdict(list)
        self.behind: defaultdict[str, list[NodeProto]] = defaultdict(list)
        self.taken = set(self.makers) | set(self.constants) | {value.name for value in self.graph.input}
        self.numbers = count()

    def quantize_output(self, unit: Unit) -> None:
        """Round what a unit makes; its readers read what is dequantised, which takes over the name."""
        maker = self.makers[unit.output]
        index = list(maker.output).index(unit.output)
        maker.output[index] = self._name()
        self.dequantized[unit.output] = unit.output
        self.behind[maker.name] += self._round(unit.output, maker.output[index], unit.output)

    def quantize_inputs(self, unit: Unit) -> None:
        """Let a unit read 8-bit numbers and constants."""
        from onnx import numpy_helper

        node = self.nodes[unit.name]
        if unit.source not in self.dequantized:
            self.dequantized[unit.source] = self._name()
            self.before[unit.name] += self._round(unit.source, unit.source, self.dequantized[unit.source])
        step = make_grid(self.ranges[unit.source], self.target).step
        weight = numpy_helper.to_array(self.constants[unit.weight])
        bias = numpy_helper.to_array(self.constants[unit.bias]) if unit.bias else None
        made = quantize_weight(weight, bias, self.means.get(unit.source), step, self.target)
        inputs = [self.dequantized[unit.source], self._restore(unit, made.values, made.steps)]
        if made.bias is not None:
            inputs.append(self._restore(unit, made.bias, (made.steps * step).astype(np.float32)))
        del node.input[:]
        node.input.extend(inputs)

    def keep_float(self, units: Sequence[Unit]) -> None:
        """Let float convolutions read what units make through a step per channel, all of them equal.

        One behind a DequantizeLinear of a single step and before a QuantizeLinear is taken by onnxruntime for one
        that somebody forgot to quantise.
        """
        from onnx import helper

        channels = {unit.output: self.constants[unit.weight].dims[0] for unit in units}
        int8 = {unit.name for unit in units}
        split: dict[str, str] = {}
        for node in self.graph.node:
            tensor = node.input[0] if node.input else ""
            if node.op_type not in ROUNDED_BY_RUNTIME or node.name in int8 or tensor not in channels:
                continue
            if tensor not in split:
                split[tensor] = self._name()
                nodes = self.behind[self.makers[tensor].name]
                integers = next(each.input[0] for each in nodes if tensor in each.output)
                grid = make_grid(self.ranges[tensor], self.target)
                vectors = [self._add_constant(np.full(channels[tensor], value)) for value in grid]
                nodes.append(helper.make_node("DequantizeLinear", [integers, *vectors], [split[tensor]], axis=1))
            node.input[0] = split[tensor]

    def finish(self) -> None:
        """Put the new nodes in their places, and drop the constants that nothing reads any more."""
        nodes = list(self.graph.node)
        del self.graph.node[:]
        for node in nodes:
            self.graph.node.extend(self.before[node.name])
            self.graph.node.append(node)
            self.graph.node.extend(self.behind[node.name])
        read = {name for node in _walk(self.graph) for name in node.input}
        read |= {value.name for value in self.graph.output}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in read]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _round(self, tensor: str, source: str, output: str) -> list[NodeProto]:
        """Return the nodes that round `source` to the numbers of `tensor`'s range, as `output`."""
        from onnx import helper

        grid = make_grid(self.ranges[tensor], self.target)
        step, zero = (self._add_constant(np.asarray(value)) for value in grid)
        integers = self._name()
        return [
            helper.make_node("QuantizeLinear", [source, step, zero], [integers]),
            helper.make_node("DequantizeLinear", [integers, step, zero], [output]),
        ]

    def _restore(self, unit: Unit, values: np.ndarray, steps: np.ndarray) -> str:
        """Store a unit's constant in integers, and return the name it has as float numbers."""
        from onnx import helper

        inputs = [self._add_constant(values), self._add_constant(steps)]
        output = self._name()
        self.before[unit.name].append(helper.make_node("DequantizeLinear", inputs, [output], axis=0))
        return output

    def _add_constant(self, values: np.ndarray) -> str:
        from onnx import numpy_helper

        name = self._name()
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def _name(self) -> str:
        """Return a short name: in a small network names are a tenth of the file."""
        return next(name for name in map("q{}".format, self.numbers) if name not in self.taken)


def _walk(graph) -> list[NodeProto]:
    found = []
    for node in graph.node:
        found.append(node)
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                found += _walk(body)
    return found
