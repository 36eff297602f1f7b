"""A float32 graph as a typed FP16 graph.

TensorRT 11 and TensorRT for RTX take precision from the types in the graph and from nothing else.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lkdn_deploy.core.artifact import Io
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.graph.fp16.keep_fp32 import Island, find_islands, subnormal
from lkdn_deploy.graph.fp16.ranges import Ranges
from lkdn_deploy.graph.fp16.types import FLOAT, HALF, STAYS, float_names

_SUFFIX: dict[int, str] = {FLOAT: "_fp32", HALF: "_fp16"}
_DOOR: dict[Io, int] = {"fp32": FLOAT, "fp16": HALF, "uint8": onnx.TensorProto.UINT8}


@dataclass(frozen=True, slots=True)
class HalfResult:
    """A graph in FP16, and what in it is not."""

    model: onnx.ModelProto
    islands: tuple[Island, ...]
    """What stays in FP32, in the order of the graph."""
    held: frozenset[str]
    """The tensors of the FP32 graph that are in FP16 now, be it only for one of their consumers; without weights."""
    subnormal: int
    """Weights in FP16 that have fewer than 11 bits left, or are 0 now, because they are small."""

    @property
    def reasons(self) -> dict[str, int]:
        """How many islands there are for each reason."""
        return dict(Counter(str(island.reason) for island in self.islands))


def to_half(model: onnx.ModelProto, io: Io = "fp32", ranges: Ranges | None = None) -> HalfResult:
    """``model`` with FP16 weights and values, and what ``find_islands`` finds in FP32 between casts.

    Names, shapes, opset and metadata stay. Of ``io``,

    - ``fp32``: input and output stay float32, with one cast behind the input and one before the output;
    - ``fp16``: they are float16;
    - ``uint8``: both are 0..255 in uint8. The input is cast before all else, as TensorRT demands, and divided by 255 in
      float32; the output is multiplied by 255, rounded half to even, as ``numpy.rint`` does, and clipped.

    Args:
        model: one float32 input and one float32 output, for values in 0..1. It is not changed.
        io: what the input and the output hold.
        ranges: what ``find_islands`` knows of values; without them no island is for their sake.

    Raises:
        InputError: if the graph is more than one plain list of ONNX's own operators, or has other inputs and outputs.
    """
    _refuse(model)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    floats = float_names(model)
    islands = find_islands(model, floats, ranges or {})
    writer = _Writer(model, floats, io)
    for place, node in enumerate(model.graph.node):
        writer.add(node, FLOAT if place in islands else HALF)
    writer.close()
    graph = result.graph
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(writer.nodes)
    graph.initializer.extend(writer.weights.values())
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.elem_type = _DOOR[io]
    return HalfResult(result, tuple(islands.values()), frozenset(writer.held), writer.subnormal)


class _Writer:
    """Writes nodes in order, with the casts and the weights that each needs."""

    def __init__(self, model: onnx.ModelProto, floats: frozenset[str], io: Io) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}
        self.held: set[str] = set()
        self.subnormal = 0
        self._floats, self._io = floats, io
        self._given = {tensor.name: tensor for tensor in model.graph.initializer}
        self._input, self._output = model.graph.input[0].name, model.graph.output[0].name
        self._taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
        self._body = self._free(f"{self._output}_body")
        self._made: dict[tuple[str, int], str] = {}
        """Names by the tensor of the FP32 graph that is held, and its type here."""
        self._open()

    def add(self, node: onnx.NodeProto, kind: int) -> None:
        """Write a node of the FP32 graph whose float tensors shall be of type ``kind``."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for position, name in enumerate(node.input):
            if name not in self._floats:
                if name in self._given:
                    self.weights[name] = self._given[name]
            elif not any(output in self._floats for output in node.output):
                copy.input[position] = self._any(name)
            else:
                stays = position in STAYS.get(node.op_type, ())
                copy.input[position] = self._as(name, FLOAT if stays else kind)
        for position, name in enumerate(node.output):
            if name in self._floats:
                copy.output[position] = self._body if name == self._output else name
                self._made[name, kind] = copy.output[position]
                if kind == HALF:
                    self.held.add(name)
        self.nodes.append(copy)

    def close(self) -> None:
        """Write what leads to the output."""
        if self._io == "uint8":
            single = self._as(self._output, FLOAT)
            levels, rounded, clipped = (self._free(f"{self._output}_{name}") for name in ("levels", "rounded", "8bit"))
            self._append("Mul", [single, self._scalar("white", 255)], levels)
            self._append("Round", [levels], rounded)
            self._append("Clip", [rounded, self._scalar("black", 0), self._scalar("white", 255)], clipped)
            self._cast(clipped, self._output, _DOOR["uint8"])
            return
        wanted = _DOOR[self._io]
        if (self._output, wanted) in self._made:  # no cast is needed, and the body may have the output's name
            for node in self.nodes:
                for names in (node.input, node.output):
                    names[:] = [self._output if name == self._body else name for name in names]
        else:
            (name,) = (name for (tensor, _), name in self._made.items() if tensor == self._output)
            self._cast(name, self._output, wanted)
            if wanted == HALF:
                self.held.add(self._output)

    def _open(self) -> None:
        """Write what leads from the input."""
        if self._io == "uint8":
            levels, single = self._free(f"{self._input}_levels"), self._free(f"{self._input}_unit")
            self._cast(self._input, levels, FLOAT)
            self._append("Div", [levels, self._scalar("white", 255)], single)
            self._made[self._input, FLOAT] = single
        else:
            self._made[self._input, _DOOR[self._io]] = self._input
            if self._io == "fp16":
                self.held.add(self._input)

    def _as(self, name: str, kind: int) -> str:
        """The name of the tensor ``name`` in type ``kind``."""
        if (name, kind) in self._made:
            return self._made[name, kind]
        if name in self._given:
            self._made[name, kind] = self._weight(name, kind)
        else:
            made = self._any(name)
            self._made[name, kind] = self._free(made + _SUFFIX[kind])
            self._cast(made, self._made[name, kind], kind)
            if kind == HALF:
                self.held.add(name)
        return self._made[name, kind]

    def _any(self, name: str) -> str:
        """The name of the tensor in the type that it was made in."""
        return next((made for (tensor, _), made in self._made.items() if tensor == name), name)

    def _weight(self, name: str, kind: int) -> str:
        both = (name, FLOAT) in self._made or (name, HALF) in self._made
        new = self._free(name + _SUFFIX[kind]) if both else name
        tensor = self._given[name]
        if kind == HALF:
            values = numpy_helper.to_array(tensor)
            self.subnormal += subnormal(values)
            tensor = numpy_helper.from_array(values.astype(np.float16), new)
        elif new != name:
            tensor = numpy_helper.from_array(numpy_helper.to_array(tensor), new)
        self.weights[new] = tensor
        return new

    def _scalar(self, name: str, value: float) -> str:
        name = f"{self._output}_{name}"
        self.weights[name] = numpy_helper.from_array(np.float32(value), name)  # type: ignore[arg-type]
        return name

    def _cast(self, source: str, target: str, kind: int) -> None:
        self._append("Cast", [source], target)
        self.nodes[-1].attribute.append(helper.make_attribute("to", kind))

    def _append(self, op_type: str, inputs: list[str], output: str) -> None:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=f"node_{output}"))

    def _free(self, name: str) -> str:
        """``name``, or the like that no tensor has."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def _refuse(model: onnx.ModelProto) -> None:
    graph = model.graph
    if len(graph.input) != 1 or len(graph.output) != 1:
        msg = f"a network has one input and one output, this graph {len(graph.input)} and {len(graph.output)}"
        raise InputError(msg, "export the checkpoint with lkdn-export")
    if {value.type.tensor_type.elem_type for value in (graph.input[0], graph.output[0])} != {FLOAT}:
        msg = "only a float32 graph is converted to FP16"
        raise InputError(msg, "export the checkpoint with lkdn-export")
    for node in graph.node:
        kinds = {attribute.type for attribute in node.attribute}
        whole = kinds.isdisjoint({onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS})
        if node.domain or not whole or node.op_type in _TYPED:
            msg = f"no FP16 form of {node.domain or 'the operator'} {node.op_type} is known here ({node.name})"
            raise InputError(msg, "leave out --fp16")


_TYPED = {"Bernoulli", "Cast", "CastLike", "Constant", "ConstantOfShape", "EyeLike", "Multinomial", "RandomNormal"}
"""Operators whose attributes say what they give; the exporter writes none for these networks."""
