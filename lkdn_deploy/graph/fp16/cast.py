"""Convert a float32 graph to a typed FP16 graph.

TensorRT 11 and TensorRT for RTX take precision from the types in the graph and from nothing else.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lkdn_deploy.core.artifact import Io
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.graph.fp16.keep_fp32 import Reason, find_kept_nodes
from lkdn_deploy.graph.fp16.ranges import Ranges
from lkdn_deploy.graph.fp16.types import FLOAT, FP32_INPUTS, HALF, float_names

_SUFFIX: dict[int, str] = {FLOAT: "_fp32", HALF: "_fp16"}
_IO_TYPES: dict[Io, int] = {"fp32": FLOAT, "fp16": HALF, "uint8": onnx.TensorProto.UINT8}
_TYPED = {"Bernoulli", "Cast", "CastLike", "Constant", "ConstantOfShape", "EyeLike", "Multinomial", "RandomNormal"}
"""Operators whose attributes choose the type of their result; the exporter writes none for these networks."""


@dataclass(frozen=True, slots=True)
class CastResult:
    """A graph in FP16."""

    model: onnx.ModelProto
    kept: dict[int, Reason]
    """The reasons of nodes that stay in FP32, by position in the FP32 graph."""
    held: frozenset[str]
    """The tensors of the FP32 graph that are in FP16 now, be it for one of their consumers only; without weights."""

    @property
    def reasons(self) -> dict[str, int]:
        """The number of nodes that stay in FP32, by reason."""
        return dict(Counter(map(str, self.kept.values())))


def cast_to_fp16(model: onnx.ModelProto, io: Io = "fp32", ranges: Ranges | None = None) -> CastResult:
    """Return ``model`` with FP16 weights and values, and the nodes of ``find_kept_nodes`` in FP32 between casts.

    Names, shapes, opset and metadata stay. The input and output become

    - with ``fp32``: float32, with one cast behind the input and one before the output;
    - with ``fp16``: float16;
    - with ``uint8``: 8-bit levels 0..255. The input is cast before anything else, as TensorRT demands, and divided by
      255 in float32; the output is multiplied by 255, rounded half to even, as ``numpy.rint`` does, and clipped.

    Args:
        model: a graph with one float32 input and one float32 output, for values in 0..1. It is not changed.
        io: the type of the input and the output.
        ranges: the values that its tensors take; without them no node is kept in FP32 for its values.

    Raises:
        InputError: if the graph is not one plain list of ONNX's own operators, or has other inputs and outputs.
    """
    _check_convertible(model)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    floats = float_names(model)
    kept = find_kept_nodes(model, floats, ranges or {})
    writer = _Writer(model, floats, io)
    for position, node in enumerate(model.graph.node):
        writer.add(node, FLOAT if position in kept else HALF)
    writer.close()
    graph = result.graph
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(writer.nodes)
    graph.initializer.extend(writer.weights.values())
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.elem_type = _IO_TYPES[io]
    return CastResult(result, kept, frozenset(writer.held))


class _Writer:
    """Writes nodes in order, with the casts and the weights that each needs.

    Args:
        model: the FP32 graph.
        floats: the names of its float32 tensors.
        io: the type of the input and the output.
    """

    def __init__(self, model: onnx.ModelProto, floats: frozenset[str], io: Io) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}
        self.held: set[str] = set()
        self._floats, self._io = floats, io
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self._input, self._output = model.graph.input[0].name, model.graph.output[0].name
        self._taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
        self._body = self._free(f"{self._output}_body")
        """Name of the output before it is cast to ``io``."""
        self._names: dict[tuple[str, int], str] = {}
        """Names in the new graph, by tensor of the FP32 graph and type."""
        if io == "uint8":
            levels, unit = self._free(f"{self._input}_levels"), self._free(f"{self._input}_unit")
            self._cast(self._input, levels, FLOAT)
            self._append("Div", [levels, self._scalar("white", 255)], unit)
            self._names[self._input, FLOAT] = unit
        else:
            self._record(self._input, _IO_TYPES[io], self._input)

    def add(self, node: onnx.NodeProto, kind: int) -> None:
        """Write a node of the FP32 graph with float tensors of type ``kind``."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for position, name in enumerate(node.input):
            if name not in self._floats:
                if name in self._initializers:
                    self.weights[name] = self._initializers[name]
            elif not any(output in self._floats for output in node.output):
                copy.input[position] = self._in_any_type(name)
            else:
                fixed = position in FP32_INPUTS.get(node.op_type, ())
                copy.input[position] = self._in_type(name, FLOAT if fixed else kind)
        for position, name in enumerate(node.output):
            if name in self._floats:
                copy.output[position] = self._record(name, kind, self._body if name == self._output else name)
        self.nodes.append(copy)

    def close(self) -> None:
        """Write the nodes between the body and the output."""
        kind = _IO_TYPES[self._io]
        if self._io == "uint8":
            unit = self._in_type(self._output, FLOAT)
            levels, rounded, clipped = (self._free(f"{self._output}_{name}") for name in ("levels", "rounded", "8bit"))
            self._append("Mul", [unit, self._scalar("white", 255)], levels)
            self._append("Round", [levels], rounded)
            self._append("Clip", [rounded, self._scalar("black", 0), self._scalar("white", 255)], clipped)
            self._cast(clipped, self._output, kind)
        elif (self._output, kind) in self._names:  # no cast is needed, and the body can have the output's name
            for node in self.nodes:
                for names in (node.input, node.output):
                    names[:] = [self._output if name == self._body else name for name in names]
        else:
            self._cast(self._in_any_type(self._output), self._output, kind)
            self._record(self._output, kind, self._output)

    def _record(self, tensor: str, kind: int, name: str) -> str:
        """Note that ``name`` holds a tensor of the FP32 graph in type ``kind``, and return it."""
        self._names[tensor, kind] = name
        if kind == HALF:
            self.held.add(tensor)
        return name

    def _in_type(self, tensor: str, kind: int) -> str:
        """Return the name of a tensor in type ``kind``, after casting it if necessary."""
        if (tensor, kind) in self._names:
            return self._names[tensor, kind]
        if tensor in self._initializers:
            self._names[tensor, kind] = self._weight(tensor, kind)
            return self._names[tensor, kind]
        source = self._in_any_type(tensor)
        target = self._record(tensor, kind, self._free(source + _SUFFIX[kind]))
        self._cast(source, target, kind)
        return target

    def _in_any_type(self, tensor: str) -> str:
        """Return the name of a tensor in the type in which it is computed."""
        return next((self._names[tensor, kind] for known, kind in self._names if known == tensor), tensor)

    def _weight(self, name: str, kind: int) -> str:
        """Write a weight in type ``kind`` and return its name, with a suffix if the other type has the plain one."""
        taken = (name, FLOAT) in self._names or (name, HALF) in self._names
        new = self._free(name + _SUFFIX[kind]) if taken else name
        values = numpy_helper.to_array(self._initializers[name])
        if kind == HALF:
            values = values.astype(np.float16)
        self.weights[new] = numpy_helper.from_array(values, new)
        return new

    def _scalar(self, name: str, value: float) -> str:
        name = f"{self._output}_{name}"
        self.weights[name] = numpy_helper.from_array(np.asarray(value, np.float32), name)
        return name

    def _cast(self, source: str, target: str, kind: int) -> None:
        self._append("Cast", [source], target, to=kind)

    def _append(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=f"node_{output}", **attributes))

    def _free(self, name: str) -> str:
        """Return ``name``, with underscores behind it if a tensor has it already."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def _check_convertible(model: onnx.ModelProto) -> None:
    graph = model.graph
    if len(graph.input) != 1 or len(graph.output) != 1:
        msg = f"expected a graph with one input and one output, got {len(graph.input)} and {len(graph.output)}"
        raise InputError(msg, "export the checkpoint with lkdn-export")
    if {value.type.tensor_type.elem_type for value in (graph.input[0], graph.output[0])} != {FLOAT}:
        msg = "only a float32 graph can be converted to FP16"
        raise InputError(msg, "export the checkpoint with lkdn-export")
    for node in graph.node:
        nested = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
        if node.domain or nested or node.op_type in _TYPED:
            msg = f"no FP16 form is known of {node.domain or 'the operator'} {node.op_type} ({node.name})"
            raise InputError(msg, "leave out --fp16")
