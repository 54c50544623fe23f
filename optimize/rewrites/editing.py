"""Change a graph: new nodes and constants with names of their own, old nodes gone when nothing reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx import ModelProto

__all__ = ["Editor"]


class Editor:
    """A model that is being changed; `finish` gives it back.

    New nodes are named after the warp that they are for.
    """

    def __init__(self, model: ModelProto) -> None:
        import onnx_ir as ir

        self._model = ir.from_proto(model)
        graph = self._model.graph
        self._values = {value.name: value for value in (*graph.inputs, *graph.initializers.values())}
        self._values |= {value.name: value for node in graph for value in node.outputs}
        self._nodes = {node.name: node for node in graph}
        self._taken = {str(name) for name in self._values} | {str(node.name) for node in graph.all_nodes()}
        self._constants: dict[tuple[object, ...], ir.Value] = {}
        self.prefix = ""

    @property
    def opset(self) -> int:
        return self._model.opset_imports[""]

    def find(self, name: str) -> ir.Value:
        """Return the value of this name; raises KeyError."""
        return self._values[name]

    def find_node(self, name: str) -> ir.Node:
        """Return the node of this name; raises KeyError."""
        return self._nodes[name]

    def add(self, op: str, *inputs: ir.Value | np.ndarray | None, **attributes: Any) -> ir.Value:
        """Add a node and return what it makes; arrays among its inputs become constants."""
        return self.add_outputs(op, 1, *inputs, **attributes)[0]

    def add_outputs(
        self, op: str, count: int, *inputs: ir.Value | np.ndarray | None, **attributes: Any
    ) -> Sequence[ir.Value]:
        """Add a node with several outputs and return them."""
        import onnx_ir as ir

        node = ir.node(
            op,
            [self._make_constant(value, op) if isinstance(value, np.ndarray) else value for value in inputs],
            attributes=attributes or None,
            num_outputs=count,
            name=self._make_name(op),
        )
        for index, value in enumerate(node.outputs):
            value.name = self._make_name(f"{op}_out{index}")
        self._model.graph.append(node)
        return node.outputs

    def reshape(self, value: ir.Value, *sides: int) -> ir.Value:
        """Reshape a value: 0 keeps the side in its place, -1 takes what is left."""
        return self.add("Reshape", value, np.array(sides, np.int64))

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Let everything that reads `old` read `new`, which takes over its name."""
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        name, old.name = old.name, self._make_name("replaced")
        new.name = name
        self._values[name] = new
        if new.shape is None:
            new.shape, new.type = old.shape, old.type

    def finish(self) -> ModelProto:
        """Return the changed model, without the nodes and constants that nothing reads any more."""
        import onnx_ir as ir
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        self._model.graph.sort()
        RemoveUnusedNodesPass()(self._model)
        return ir.to_proto(self._model)

    def _make_constant(self, array: np.ndarray, op: str) -> ir.Value:
        """Return an initializer that holds the array; equal arrays share one."""
        import onnx_ir as ir

        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            value = ir.val(self._make_name(f"{op}_constant"), const_value=ir.tensor(array))
            self._model.graph.register_initializer(value)
            self._constants[key] = value
        return self._constants[key]

    def _make_name(self, stem: str) -> str:
        name, count = f"{self.prefix}/{stem}", 1
        while name in self._taken:
            count += 1
            name = f"{self.prefix}/{stem}_{count}"
        self._taken.add(name)
        return name
