"""Static int8 by neural-compressor, of the torch network: around the same convolutions as the project's own engine.

neural-compressor 3 (https://github.com/intel/neural-compressor) has no part for ONNX any more. It quantises the graph
that torch exports, with torchao's quantizer for x86. Here it is told what stays float, one fault of torchao is kept
from it, and what comes out is written as ONNX.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ...benchmarks.host import need, take_reason
from ..errors import InputError, UsageError, VtoptError
from ..networks import Network
from ..quiet import keep_quiet
from .calibration import Feeds, check_samples
from .engines import ENGINE_RANGES
from .settings import Int8Settings

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor
    from torch.fx import GraphModule, Node

__all__ = ["export_graph", "fold_weights", "quantize_neural_compressor"]

RANGES = ENGINE_RANGES["neural-compressor"]

EXTRA = "neural-compressor"
OPSET = 18
"""What torch writes itself."""

SEVEN_BITS = (-64, 63)
WEIGHT_OPS = frozenset({"QuantizeLinear", "Clip"})
"""What is done to weights on their way to int8."""

GRID = 1
"""Which argument of a grid_sampler says where."""


def quantize_neural_compressor(network: Network, calibration: Iterable[Feeds], settings: Int8Settings) -> ModelProto:
    """Return the network as ONNX with Q/DQ around its convolutions; what makes a grid stays float32.

    Weights are stored as int8 per output channel, activations have 8 bits per tensor. neural-compressor quantises what
    convolutions read; onnxruntime needs what they make as well, so it is made to quantise that too.

    The warps are those of `vtopt export`. The rewrites of warps come before quantising: behind it, the last bit of
    a sum turns an int8 value, and no place can be proved on pictures any more. And they work on ONNX.

    `calibration` is read once, one sample at a time. What the tools print is kept back. `network` is not changed.

    Raises MissingExtraError where torchao is absent, UsageError for ranges that neural-compressor does not have and
    for `float_nodes` that are no convolutions of the network, InputError for a network that it cannot quantise, and
    for calibration samples that are missing or not finite.
    """
    if settings.ranges not in RANGES:
        raise UsageError(f"neural-compressor has no ranges by {settings.ranges}; it takes {', '.join(RANGES)}")
    with keep_quiet():
        need("torchao.quantization.pt2e", extra=EXTRA)
        try:
            return _quantize(network, check_samples(calibration), settings)
        except VtoptError:
            raise
        except Exception as error:  # torch, torchao and neural-compressor raise anything
            raise InputError(
                f"neural-compressor cannot quantise the network: {take_reason(error)}; "
                "export it and quantise it with the engine onnxruntime"
            ) from error


def _quantize(network: Network, calibration: Iterator[Feeds], settings: Int8Settings) -> ModelProto:
    import torch

    from ..artifacts import Size
    from ..export import make_example, trace_dynamo

    examples = [make_example(network, Size(*network.size), 1, seed) for seed in (0, 1)]
    tool: Any = need("neural_compressor.torch.quantization", extra=EXTRA)
    config = tool.StaticQuantConfig(
        act_dtype="int8" if settings.target.signed_activations else "uint8",
        act_sym=False,
        act_algo=RANGES[settings.ranges],
        excluded_precisions=["fp16", "bf16"],
    )
    with torch.no_grad():
        graph = export_graph(network, examples)
        _write_out_batch_norms(graph)
        chosen = _choose_convolutions(graph, settings.float_nodes)
        marks = _mark_outputs(graph, chosen)
        prepared = tool.prepare(graph, config, example_inputs=examples[0])
        _drop_observers(prepared, chosen, marks)
        if settings.target.reduce_range:
            _take_seven_bits(prepared)
        for feeds in calibration:
            prepared(*(torch.from_numpy(feeds[spec.name]) for spec in network.inputs))
        converted = tool.convert(prepared)
        model = trace_dynamo(replace(network, module=converted), examples[0], OPSET)
    fold_weights(model)
    return model


def export_graph(network: Network, examples: list[tuple[Tensor, ...]]) -> GraphModule:
    """Return the graph that neural-compressor quantises."""
    from ..repeat_interleave import exportable_repeat_interleave

    with exportable_repeat_interleave(network.module, examples):
        exporter: Any = need("neural_compressor.torch.export", extra=EXTRA)
        return exporter.export(network.module, examples[0])


def _write_out_batch_norms(graph: GraphModule) -> None:
    """Make each batch-norm a factor and a summand per channel, but those that alone read a convolution.

    torchao folds a batch-norm into the convolution before it whoever else reads that: the others would then read what
    the batch-norm makes. And where one is left it looks for patterns of training, for most of its time.
    """
    import torch

    aten = torch.ops.aten
    for node in list(graph.graph.nodes):
        if node.target is not aten.batch_norm.default or None in node.args[3:5]:
            continue
        source = node.args[0]
        if _is_convolution(source) and len(source.users) == 1:
            continue
        weight, bias, mean, variance = (_read_tensor(graph, each) for each in node.args[1:5])
        factor = (variance + node.args[7]).rsqrt() * (1 if weight is None else weight)
        summand = (0 if bias is None else bias) - mean * factor
        made = source
        for name, operator, values in (("factor", aten.mul.Tensor, factor), ("summand", aten.add.Tensor, summand)):
            spread = values.reshape(-1, *[1] * (node.meta["val"].ndim - 2))
            graph.register_buffer(f"{node.name}_{name}", spread)
            with graph.graph.inserting_before(node):
                constant = graph.graph.get_attr(f"{node.name}_{name}")
                made = graph.graph.call_function(operator, (made, constant))
            constant.meta["val"] = node.meta["val"].fake_mode.from_tensor(spread, static_shapes=True)
            made.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(made)
        graph.graph.erase_node(node)
    graph.recompile()


def _read_tensor(graph: GraphModule, node: Node | None) -> Any:
    return None if node is None else attrgetter(str(node.target))(graph)


def _choose_convolutions(graph: GraphModule, float_nodes: Collection[str]) -> set[str]:
    """Return the names of the convolutions that are neither heads of a warp's grid nor in `float_nodes`."""
    import torch

    nodes = list(graph.graph.nodes)
    names = {node.name for node in nodes if node.target is torch.ops.aten.conv2d.default}
    if unknown := set(float_nodes).difference(names):
        raise UsageError(
            f"not a convolution of the network: {', '.join(sorted(unknown))}; it has {', '.join(sorted(names))}"
        )
    pending = [node.args[GRID] for node in nodes if "grid_sampler" in str(node.target)]
    upstream = set()
    while pending:
        node = pending.pop()
        if node not in upstream:
            upstream.add(node)
            pending += [] if _is_convolution(node) else node.all_input_nodes
    return names - {node.name for node in upstream} - set(float_nodes)


def _is_convolution(node: Node) -> bool:
    return node.op == "call_function" and "conv" in str(node.target)


def _mark_outputs(graph: GraphModule, chosen: Collection[str]) -> set[str]:
    """Put behind each chosen convolution a node that changes no number and whose input torchao quantises.

    A ReLU may lie between: onnxruntime drops it where the range begins at zero.
    """
    import torch

    aten = torch.ops.aten
    marks = set()
    for node in list(graph.graph.nodes):
        if node.name not in chosen:
            continue
        made = node
        for fused in ({aten.batch_norm.default}, {aten.relu.default, aten.relu_.default}):
            readers = list(made.users)
            if len(readers) == 1 and readers[0].target in fused:
                made = readers[0]
        with graph.graph.inserting_after(made):
            mark = graph.graph.call_function(aten.avg_pool2d.default, (made, [1, 1]))
        mark.meta["val"] = made.meta["val"]
        made.replace_all_uses_with(mark, delete_user_cb=lambda reader, mark=mark: reader is not mark)
        marks.add(mark.name)
    graph.recompile()
    return marks


def _drop_observers(prepared: GraphModule, chosen: Collection[str], marks: Collection[str]) -> None:
    """Let none but the chosen read what is quantised, and take the marks out: what fed one feeds those that read it."""
    nodes = list(prepared.graph.nodes)
    for node in nodes:
        if node.name not in chosen and node.name not in marks and not _is_observer(node):
            for source in filter(_is_observer, node.all_input_nodes):
                node.replace_input_with(source, source.args[0])
    for mark in nodes:
        if mark.name in marks:
            for reader in filter(_is_observer, list(mark.users)):
                reader.replace_all_uses_with(mark)
            mark.replace_all_uses_with(mark.args[0])
    prepared.graph.eliminate_dead_code()
    prepared.recompile()


def _is_observer(node: Node) -> bool:
    return node.op == "call_module" and str(node.target).startswith("activation_post_process")


def _take_seven_bits(prepared: GraphModule) -> None:
    """Leave the weights the range that sums on AVX2 do not leave; neural-compressor has no setting for it."""
    for node in filter(_is_convolution, prepared.graph.nodes):
        if _is_observer(node.args[1]):
            observer: Any = prepared.get_submodule(node.args[1].target)
            observer.quant_min, observer.quant_max = SEVEN_BITS


def fold_weights(model: ModelProto) -> None:
    """Compute once what is quantised of constants: torch leaves some of it, and a clip of each, to the run time."""
    from onnx import numpy_helper
    from onnx.reference import ReferenceEvaluator

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type in WEIGHT_OPS and stored.keys() >= set(node.input):
            constants = {name: numpy_helper.to_array(stored[name]) for name in node.input}
            made: Any = ReferenceEvaluator(node).run(None, constants)
            stored[node.output[0]] = numpy_helper.from_array(made[0], node.output[0])
            model.graph.node.remove(node)
    read = {name for node in model.graph.node for name in node.input}
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensor for name, tensor in stored.items() if name in read)
