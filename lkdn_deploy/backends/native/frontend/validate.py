"""Validation of a graph before it is imported: everything that importers rely on, against what it applies to.

An artefact is somebody's file. Generated code takes each length, sign and size from it as given, and would read or
write outside its memory if one were wrong. So every node is checked here before its importer sees it, by the shapes of
the maps that the importers made. Shapes that ONNX infers are not trusted. What ONNX Runtime refuses is refused here.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lkdn_deploy.backends.native.frontend.gathered import check_gathered, check_larger
from lkdn_deploy.backends.native.frontend.tensors import ProgramBuilder, sliced_channels, split_channels
from lkdn_deploy.backends.native.ir import MalformedError, require
from lkdn_deploy.backends.onnx_bytes import MAX_NODES
from lkdn_deploy.core.cache import Store
from lkdn_deploy.core.errors import InputError

MAX_CHANNELS = 8192
"""Limit of a map's channels, over all sub-pixel positions."""

MAX_REACH = 64
"""Limit of the pixels that a window reaches to each side; code and line buffers grow with it."""

MAX_TAPS = 1024
"""Limit of the taps of a window."""

MAX_SCALE = 8
"""Limit of a map's height and width, relative to the input's."""

MAX_BYTES = 256 << 20
"""Limit of weights that are spread out with zeros between them."""

OLDEST_OPSET = 13

_VALID = Store("valid")
"""An empty file for each graph that ONNX's checker has accepted, by its digest."""

Attributes = Mapping[str, Any]


def check_graph(model: Any, data: bytes) -> None:
    """Check a model as a whole: ONNX's own rules, its input and output, and the number of its nodes.

    Args:
        model: the parsed model.
        data: its serialised form.

    Raises:
        InputError: if it breaks a rule of ONNX.
        UnsupportedError: if the native engine does not take such graphs.
    """
    import onnx

    graph = model.graph
    require(len(graph.node) <= MAX_NODES, f"a graph of {len(graph.node)} nodes, more than {MAX_NODES}")
    require(not model.functions, "functions that the file defines")
    _check_rules(data)
    newest, sets = onnx.defs.onnx_opset_version(), [(it.domain, it.version) for it in model.opset_import]
    known = len(sets) == 1 and sets[0][0] == "" and OLDEST_OPSET <= sets[0][1] <= newest
    require(known, f"operator sets other than one of ONNX's, from {OLDEST_OPSET} to {newest}")
    require(len(graph.input) == len(graph.output) == 1, "a graph with several inputs or outputs")
    source, result = graph.input[0], graph.output[0]
    types = {item.type.tensor_type.elem_type for item in (source, result)}
    require(types == {onnx.TensorProto.FLOAT}, "an input or output that is not float32")
    require(source.name not in {it.name for it in graph.initializer}, "an input with a default value")
    sides = declared_sides(source)
    require(len(sides) == 4, "an input that is not NCHW")
    count, channels, *size = sides
    require(count in (None, 1) and channels == 3, "an input that is not a batch of any size of three channels")
    both = None not in size and all(0 < it <= 1 << 16 for it in size)  # type: ignore[operator]
    require(both or size == [None, None], "an input of which one side is fixed, or too large")


def _check_rules(data: bytes) -> None:
    """Check that a serialised model keeps ONNX's own rules, unless it did so before: the checker takes 15 ms to start.

    Raises:
        InputError: if it breaks one.
    """
    import onnx

    name = hashlib.sha256(onnx.__version__.encode() + b"\0" + data).hexdigest()
    if _VALID.read(name) is not None:
        return
    try:
        onnx.checker.check_model(data)
    except onnx.checker.ValidationError as error:
        msg = f"it is not a valid ONNX model: {str(error).strip().splitlines()[0]}"
        raise InputError(msg, "give a file that lkdn-export wrote") from error
    _VALID.keep(name, b"")


def check_output(output: Any, scale: int, fixed_size: tuple[int, int] | None) -> None:
    """Check that the shape that a graph declares for its output, if any, is that of the image that it computes.

    Args:
        output: the graph's output, an ``onnx.ValueInfoProto``.
        scale: upscaling factor that the graph computes.
        fixed_size: the only height and width of the input; ``None`` if any.

    Raises:
        UnsupportedError: if it is another one.
    """
    if output.type.tensor_type.HasField("shape"):
        sides = declared_sides(output)
        height, width = fixed_size or (None, None)
        expected = (1, 3, height and scale * height, width and scale * width)
        fits = len(sides) == 4 and all(it in (None, other) for it, other in zip(sides, expected, strict=False))
        require(fits, "an output of another size than it declares")


def declared_sides(item: Any) -> list[int | None]:
    """Return the shape that a graph declares for its input or output, ``None`` for free sides."""
    sides = item.type.tensor_type.shape.dim
    return [int(it.dim_value) if it.HasField("dim_value") else None for it in sides]


def check_node(builder: ProgramBuilder, kind: str, inputs: list[str], attributes: Attributes) -> None:
    """Check a node that an importer is about to import; the graph has passed ``check_graph``.

    Args:
        builder: the maps and constants that were imported so far.
        kind: ONNX's name of the operator.
        inputs: names of its inputs; an optional one that is left out is empty.
        attributes: its attributes.

    Raises:
        UnsupportedError: if the importer does not take it.
    """
    if kind in _CHECKS:
        _CHECKS[kind](builder, inputs, attributes)


def _demand(condition: bool, otherwise: str) -> None:
    """Check a rule of ONNX: a node that breaks it is not left to another engine either."""
    require(condition, otherwise, MalformedError)


def _check_conv(builder: ProgramBuilder, inputs: list[str], attributes: Attributes) -> None:
    source, weight = builder.map(inputs[0]), builder.constant(inputs[1])
    require(not source.channels_last, "a convolution of an NHWC tensor")
    implicit = attributes.get("auto_pad", b"NOTSET") != b"NOTSET"
    require(weight.ndim == 4 and not implicit, "a convolution with automatic padding, or not of two dimensions")
    count, each, *window = weight.shape
    groups = attributes.get("group", 1)
    divides = groups >= 1 and count >= 1 and count % groups == 0 and each * groups == len(source.order)
    _demand(divides, f"weights {weight.shape} in {groups} groups for {len(source.order)} channels")
    if len(inputs) > 2 and inputs[2]:
        _demand(builder.constant(inputs[2]).shape == (count,), "a bias of another length than the output's channels")
    dilation = tuple(attributes.get("dilations", (1, 1)))
    _demand(len(dilation) == 2 and min(dilation) >= 1, f"dilations of {dilation}")
    _demand(tuple(attributes.get("kernel_shape", window)) == tuple(window), "weights that do not fit their window")
    taps, positions = math.prod(window), source.scale**2
    require(0 < taps <= MAX_TAPS and taps * positions <= 4 * MAX_TAPS, f"a window of {window[0]}x{window[1]}")
    reach = [size // 2 * step for size, step in zip(window, dilation, strict=True)]
    require(max(reach) <= MAX_REACH, f"a window that reaches {max(reach)} pixels, more than {MAX_REACH}")
    pads, strides = list(attributes.get("pads", (0, 0, 0, 0))), tuple(attributes.get("strides", (1, 1)))
    keeps = strides == (1, 1) and pads == reach * 2
    halves = strides == (2, 2) and pads in (reach * 2, [max(it - 1, 0) for it in reach] * 2)
    halves = halves and max(dilation) == positions == 1
    require(all(size % 2 for size in window) and (keeps or halves), "a convolution that changes the size")
    wide = math.prod(2 * math.ceil(it / source.scale) + 1 for it in reach) if positions > 1 else taps
    spread = 4 * count * positions * source.order.size * wide
    depthwise = keeps and groups == count == len(source.order) and positions == 1 and len(source.values) == 1
    require(depthwise or spread <= MAX_BYTES, f"a convolution whose weights would take {spread >> 20} MiB")
    require(count * positions <= MAX_CHANNELS, f"a map of {count * positions} channels")


def _check_depth_to_space(builder: ProgramBuilder, inputs: list[str], attributes: Attributes) -> None:
    source, times = builder.map(inputs[0]), attributes["blocksize"]
    require(not source.channels_last, "an enlargement of an NHWC tensor")
    fits = 1 <= times <= MAX_SCALE and len(source.order) % times**2 == 0 and source.scale * times <= MAX_SCALE
    require(fits, f"an enlargement of {len(source.order)} channels by {times}")
    require(attributes.get("mode", b"DCR") in (b"DCR", b"CRD"), "an enlargement of another mode than DCR and CRD")


def _check_concat(builder: ProgramBuilder, inputs: list[str], attributes: Attributes) -> None:
    sources = [builder.map(name) for name in inputs]
    plain = not any(source.scale > 1 or source.channels_last for source in sources)
    require(plain and attributes["axis"] in (1, -3), "a concatenation of other than channels")
    count = sum(len(source.order) for source in sources)
    require(count <= MAX_CHANNELS, f"a map of {count} channels")


def _check_layer_norm(builder: ProgramBuilder, inputs: list[str], attributes: Attributes) -> None:
    source = builder.map(inputs[0])
    over_channels = source.channels_last and source.scale == 1 and attributes.get("axis", -1) in (-1, 3)
    require(over_channels, "a normalisation over other axes than channels")
    for name in filter(None, inputs[1:]):
        shape = builder.constant(name).shape
        _demand(shape == (len(source.order),), f"a normalisation of {len(source.order)} channels by weights {shape}")
    fits = attributes.get("epsilon", 1e-5) >= 0 and attributes.get("stash_type", 1) == 1
    require(fits, "a normalisation in another precision, or with a negative epsilon")


def _check_gelu(_: ProgramBuilder, __: list[str], attributes: Attributes) -> None:
    require(attributes.get("approximate", b"none") == b"none", "GELU with the tanh approximation")


def _check_div(builder: ProgramBuilder, inputs: list[str], _: Attributes) -> None:
    builder.map(inputs[0])
    if builder.is_map(inputs[1]):
        return
    with np.errstate(all="ignore"):
        finite = np.isfinite(np.reciprocal(builder.constant(inputs[1]))).all()
    require(bool(finite), "a division by zero")


def _check_pow(builder: ProgramBuilder, inputs: list[str], _: Attributes) -> None:
    exponent = builder.constants.get(inputs[1])
    square = exponent is not None and exponent.size == 1 and exponent.ndim <= 4 and exponent.item() == 2
    require(square, "a power other than the square")


def _check_reduce_sum(builder: ProgramBuilder, inputs: list[str], attributes: Attributes) -> None:
    if not sums_pixels(builder, inputs, attributes):
        _check_over_channels(builder, inputs, attributes)


def _check_over_channels(builder: ProgramBuilder, inputs: list[str], attributes: Attributes) -> None:
    source = builder.map(inputs[0])
    axes = builder.constants.get(inputs[1]) if len(inputs) > 1 else np.array(attributes.get("axes", ()), np.int64)
    along = axes is not None and axes.dtype == np.int64 and axes.tolist() in ([1], [-3])
    plain = not source.channels_last and source.scale == 1 and attributes.get("keepdims", 1) == 1
    require(along and plain, "a sum over axes other than channels")


def _check_clip(builder: ProgramBuilder, inputs: list[str], _: Attributes) -> None:
    builder.map(inputs[0])
    for name in filter(None, inputs[1:]):
        _demand(builder.constant(name).size == 1, f"a limit of {builder.constant(name).size} numbers")


def _check_slice(builder: ProgramBuilder, inputs: list[str], _: Attributes) -> None:
    source = builder.map(inputs[0])
    plain = not source.channels_last and source.scale == 1 and len(source.values) == 1
    in_order = bool((source.order.reshape(-1) == np.arange(source.order.size)).all())
    require(plain and in_order and len(inputs) >= 4, "a part of other than one map's channels")
    settings = [builder.constants.get(name) for name in inputs[1:]]
    single = all(it is not None and it.dtype == np.int64 and it.shape == (1,) for it in settings)
    require(single, "a part whose bounds are computed, or several")
    axis, *step = (int(it.item()) for it in settings[2:] if it is not None)
    require(axis in (1, -3) and step in ([], [1]), "a part of other than adjacent channels")
    _demand(len(sliced_channels(builder, inputs)) > 0, "a part without channels")


def _check_split(builder: ProgramBuilder, inputs: list[str], attributes: Attributes) -> None:
    source, count = builder.map(inputs[0]), int(attributes["num_outputs"])
    plain = not source.channels_last and source.scale == 1
    require(plain and attributes.get("axis", 0) in (1, -3), "parts of other than channels")
    if inputs[1:2] > [""]:
        lengths = builder.constants.get(inputs[1])
        require(lengths is not None and lengths.dtype == np.int64, "parts whose lengths are computed")
        listed = lengths is not None and lengths.shape == (count,) and int(lengths.min()) >= 1
        require(listed, "a part without channels")
    else:
        require(len(source.order) % count == 0, "parts of different lengths that are not told")
    channels = split_channels(builder, inputs, attributes)
    _demand(sum(channels) == len(source.order), f"parts of {sum(channels)} channels in all, not {len(source.order)}")


def sums_pixels(builder: ProgramBuilder, inputs: list[str], attributes: Attributes) -> bool:
    """Return whether a reduction is one over height and width, which remain as 1.

    Args:
        builder: the maps and constants that were imported so far.
        inputs: names of the node's inputs.
        attributes: its attributes.
    """
    axes = np.array(attributes.get("axes", ()), np.int64)
    if len(inputs) > 1 and inputs[1]:
        axes = builder.constants.get(inputs[1], axes)
    integers = axes.dtype == np.int64 and axes.ndim == 1 and bool(np.isin(axes, range(-4, 4)).all())
    return integers and sorted((axes % 4).tolist()) == [2, 3] and attributes.get("keepdims", 1) == 1


def _check_mean(builder: ProgramBuilder, inputs: list[str], attributes: Attributes) -> None:
    is_global = sums_pixels(builder, inputs, attributes)
    require(is_global, "a mean over axes other than height and width")  # none means all


def _check_pooling(builder: ProgramBuilder, inputs: list[str], attributes: Attributes) -> None:
    side, step = (list(attributes.get(name, (1, 1))) for name in ("kernel_shape", "strides"))
    plain = list(attributes.get("pads", [0] * 4)) == [0] * 4 and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
    plain = plain and not attributes.get("ceil_mode", 0) and list(attributes.get("dilations", [1] * 2)) == [1] * 2
    if builder.is_inside(inputs[0]):
        source = builder.maps[inputs[0]]
        rows = len(side) == 2 and side[1] == 1 <= side[0] <= MAX_REACH and step == [1, 1]
        require(plain and rows, "a maximum over windows of other than adjacent rows")
        require(not source.channels_last and source.scale == 1, "a maximum over rows of an NHWC or large tensor")
        return
    builder.exported_map(inputs[0])
    square = all(len(it) == 2 and it[0] == it[1] >= 1 for it in (side, step)) and side[0] <= MAX_REACH
    require(plain and square, "a maximum over windows of different sides, or with a border")


_Check = Callable[[ProgramBuilder, list[str], Attributes], None]
_CHECKS: dict[str, _Check] = {
    "Clip": _check_clip,
    "Concat": _check_concat,
    "Conv": _check_conv,
    "DepthToSpace": _check_depth_to_space,
    "Div": _check_div,
    "Gelu": _check_gelu,
    "Gather": check_gathered,
    "GlobalAveragePool": lambda *_: None,
    "LayerNormalization": _check_layer_norm,
    "Max": check_larger,
    "MaxPool": _check_pooling,
    "Pow": _check_pow,
    "ReduceL2": _check_over_channels,
    "ReduceMean": _check_mean,
    "ReduceSum": _check_reduce_sum,
    "Slice": _check_slice,
    "Split": _check_split,
}
"""Operators of which more is checked than that their operands have one layout, as ``ops`` does for all."""
