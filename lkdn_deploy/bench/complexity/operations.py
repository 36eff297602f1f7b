"""The operations on the image that one run of a network executes, in order: what each computes, reads and writes.

No value is computed and no memory taken. FLOPs are counted so:

============================  =======================================================================================
convolution, matrix product   2 a multiply-accumulate, 1 an added bias; a transposed one's at every input position
layer normalisation           7 an element: mean 1, subtract it 1, square and add 2, divide 1, scale 1, shift 1
other normalisation           the same; one with fixed statistics is a scale and a shift, 2 an element
activation, arithmetic        1 an element written, a transcendental too
pooling                       1 an element read
resampling                    1 an element written; none where the nearest is copied
rearranging                   none
anything else                 1 an element written
============================  =======================================================================================
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lkdn_models.liveness import meta_input, without_values


class OpKind(StrEnum):
    """What sort of work an operation is."""

    CONV_1X1 = "conv 1x1"
    DEPTHWISE = "depthwise conv"
    OTHER_CONV = "other conv"
    LINEAR = "linear"
    """Matrix products of any sort."""
    NORM = "norm"
    ACTIVATION = "activation"
    ARITHMETIC = "arithmetic"
    """Of every element by itself."""
    REARRANGING = "rearranging"
    """Concatenation, pixel shuffle, padding, copies."""
    RESAMPLING = "resampling"
    POOLING = "pooling"
    """Means, sums and the like over whatever axes."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Part:
    """Elements of a tensor that an operation reads or writes. A view has its tensor's number."""

    value: int
    """Which tensor, of all of a run. One that is changed in place has a new number from there on."""
    start: int
    """Where in the tensor's memory the part begins, in elements."""
    elements: int
    """How many it has; one that is repeated by broadcasting counts once."""
    whole: int
    """How many the tensor has."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call. All figures are of the whole batch."""

    name: str
    """PyTorch's, in place or not; ``fixed …`` if its weights hang on no parameter, ``mean of squares``."""
    kind: OpKind
    pointwise: bool
    """Whether each output pixel hangs on the same pixel of the inputs alone, or on a value that all pixels share.

    Views count for no work: a map that is turned by one is taken for what it was.
    """
    flops: int
    """See the table above."""
    reads: tuple[Part, ...]
    """Of what hangs on the image, each once."""
    weights: tuple[Part, ...]
    """Of parameters, buffers, numbers in the code and what is made of them."""
    writes: tuple[Part, ...]
    returned: frozenset[int]
    """Which of the tensors that it writes the network returns."""
    largest: int
    """Elements of the largest tensor that it reads or makes."""
    figures: Mapping[str, int]
    """What it adds to the sums of ``lkdn_deploy.bench.complexity.count.Complexity``, by their names; empty: nothing."""


def trace(network: nn.Module, shape: tuple[int, ...]) -> tuple[Operation, ...]:
    """The operations of one run for inference, in the order of execution.

    Views are none, nor is what is made of parameters alone.

    Args:
        network: on whatever device and in whatever mode; it is left as it is. ``forward`` may make tensors on its
            input's device only.
        shape: of the input, (N, C, H, W).

    Raises:
        RuntimeError: PyTorch's, if the network does not take such an input.
    """
    plan, x = without_values(network), meta_input(network, shape)
    seen = _Operations(plan, x)
    # In inference mode operations that are made of others arrive whole: a linear layer with its bias.
    with torch.inference_mode(), seen:
        result = plan(x)
    return seen.returning(_tensors(result))


class _Origin(IntEnum):
    """The most that a tensor's values hang on."""

    FIXED = 0
    """Numbers in the code, and buffers."""
    LEARNED = 1
    """Parameters."""
    IMAGE = 2


@dataclass(slots=True)
class _Known:
    """What is known of a storage."""

    storage: UntypedStorage
    """Kept, so that no other gets its id. On the device meta it holds nothing."""
    value: int
    origin: _Origin
    square: bool = False


class _Memory:
    """What is known of tensors, by the storage that they lie in."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}
        self._values = 0

    def __contains__(self, tensor: Tensor) -> bool:
        return id(tensor.untyped_storage()) in self._known

    def note(self, tensor: Tensor, origin: _Origin) -> None:
        """The tensor has new values."""
        storage = tensor.untyped_storage()
        self._known[id(storage)] = _Known(storage, self._values, origin)
        self._values += 1

    def note_square(self, tensor: Tensor) -> None:
        self._of(tensor).square = True

    def origin(self, tensor: Tensor) -> _Origin:
        return self._of(tensor).origin

    def is_square(self, tensor: Tensor) -> bool:
        return self._of(tensor).square

    def part(self, tensor: Tensor) -> Part:
        whole = tensor.untyped_storage().nbytes() // tensor.element_size()
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        elements = math.prod(size for size, stride in steps if stride)
        return Part(self._of(tensor).value, int(tensor.storage_offset()), elements, whole)

    def _of(self, tensor: Tensor) -> _Known:
        if tensor not in self:
            self.note(tensor, _Origin.FIXED)  # a number in the code
        return self._known[id(tensor.untyped_storage())]


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down what passes by."""

    def __init__(self, plan: nn.Module, x: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._done: list[Operation] = []
        self._memory = _Memory()
        for buffer in plan.buffers():
            self._memory.note(buffer, _Origin.FIXED)
        for parameter in plan.parameters():
            self._memory.note(parameter, _Origin.LEARNED)
        self._memory.note(x, _Origin.IMAGE)
        self._pixels: set[int] = set()  # of all maps of the batch, for each size that maps were seen to have
        self._note_pixels(x)

    def returning(self, results: Iterable[Tensor]) -> tuple[Operation, ...]:
        """What was seen, by a network that returns this."""
        values = {self._memory.part(result).value for result in results}
        return tuple(
            replace(operation, returned=frozenset(values.intersection(part.value for part in operation.writes)))
            for operation in self._done
        )

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__.rstrip("_")  # in place or not, it is the same operation
        if name not in _FIGURES and not name.startswith(_WHOLE):
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        read, made = _tensors((args, kwargs)), _tensors(result)
        takes_shape = name.endswith("_like") or name.startswith("new_")  # and no values
        origin = _Origin.FIXED if takes_shape else max(map(self._memory.origin, read), default=_Origin.FIXED)
        works = made and (
            func._schema.is_mutable or any(tensor not in self._memory for tensor in made)
        )  # a view does not
        if works and origin is _Origin.IMAGE:
            operation = self._operation(name, func, args, read, made)  # with what is known before it
            self._note(func, made, origin)
            self._done.append(replace(operation, writes=tuple(map(self._memory.part, made))))
            if _is_square(name, args):
                self._memory.note_square(result)
        else:
            self._note(func, made, origin)
        return result

    def _note(self, func: Any, made: list[Tensor], origin: _Origin) -> None:
        for tensor in made:
            if func._schema.is_mutable or tensor not in self._memory:
                self._memory.note(tensor, origin)

    def _operation(
        self, name: str, func: Any, args: tuple[Any, ...], read: list[Tensor], made: list[Tensor]
    ) -> Operation:
        """The call, but for what it writes."""
        kind = _kind(name, func, args)
        pointwise = self._is_pointwise(kind, name, args, read, made[0])
        if kind in _MAPS or name in _SHUFFLES:
            self._note_pixels(made[0])
        reads = [self._memory.part(tensor) for tensor in read if self._memory.origin(tensor) is _Origin.IMAGE]
        weights = [self._memory.part(tensor) for tensor in read if self._memory.origin(tensor) is not _Origin.IMAGE]
        if name in _OVERWRITING:
            old = self._memory.part(args[0])
            reads, weights = _without(old, reads), _without(old, weights)
        refined = self._refined(name, args)
        return Operation(
            name=refined,
            kind=kind,
            pointwise=pointwise,
            flops=_flops(kind, name, args, made[0], len(weights)),
            reads=tuple(dict.fromkeys(reads)),
            weights=tuple(dict.fromkeys(weights)),
            writes=(),
            returned=frozenset(),
            largest=max(tensor.numel() for tensor in read + made),
            figures=_FIGURES[refined](args, made[0]) if refined in _FIGURES else {},
        )

    def _refined(self, name: str, args: tuple[Any, ...]) -> str:
        """The operation's name, or another where papers do not count it."""
        if any(self._memory.origin(args[place]) is _Origin.FIXED for place in _WEIGHTS.get(name, ())):
            return f"fixed {name}"
        if name == "mean" and self._memory.is_square(args[0]):
            return "mean of squares"
        return name

    def _is_pointwise(self, kind: OpKind, name: str, args: tuple[Any, ...], read: list[Tensor], result: Tensor) -> bool:
        match kind:
            case OpKind.CONV_1X1 | OpKind.DEPTHWISE:
                _, weight, _, stride, padding = args[:5]
                return {*weight.shape[2:], *stride} == {1} and not any(padding)
            case OpKind.LINEAR:
                x, *others = args[1:] if name == "addmm" else args
                learned = all(self._memory.origin(other) < _Origin.IMAGE for other in _tensors(others))
                return name in {"addmm", "linear", "mm"} and learned and self._is_of_pixels(x)
            case OpKind.NORM:
                over_channels = name == "layer_norm" and len(args[1]) == 1 and self._is_of_pixels(args[0])
                return name == "batch_norm" or over_channels
            case OpKind.ARITHMETIC:
                maps = (tensor for tensor in read if self._memory.origin(tensor) is _Origin.IMAGE)
                return all(_size(x) in {_size(result), (1, 1)} for x in maps)
            case OpKind.REARRANGING:
                return name in _COPIES or (name == "cat" and result.ndim == 4 and args[1:] in {(1,), (-3,)})
            case _:
                return kind is OpKind.ACTIVATION

    def _note_pixels(self, x: Tensor) -> None:
        if x.ndim == 4:
            self._pixels.add(_positions(x))

    def _is_of_pixels(self, x: Tensor) -> bool:
        """Whether the last axis is that of channels, told by all others having as many positions as a map."""
        return math.prod(x.shape[:-1]) in self._pixels


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _size(x: Tensor) -> tuple[int, ...]:
    """Height and width of a map."""
    return (1, 1, *x.shape)[-2:]


def _is_square(name: str, args: tuple[Any, ...]) -> bool:
    if name == "pow":
        return not isinstance(args[1], Tensor) and bool(args[1] == 2)
    return name == "mul" and args[0] is args[1]


def _without(old: Part, parts: list[Part]) -> list[Part]:
    """What is overwritten is not read. But if it is a part, the rest of its tensor goes on in the new one."""
    kept = [replace(old, elements=0)] if old in parts and old.elements < old.whole else []
    return [part for part in parts if part != old] + kept


def _kind(name: str, func: Any, args: tuple[Any, ...]) -> OpKind:
    if name == "convolution":
        return _convolution_s_kind(args)
    if name.startswith(("upsample", "_upsample")):
        return OpKind.RESAMPLING
    if "pool" in name:
        return OpKind.POOLING
    if name in _KINDS:
        return _KINDS[name]
    return OpKind.ARITHMETIC if torch.Tag.pointwise in func.tags else OpKind.OTHER


def _convolution_s_kind(args: tuple[Any, ...]) -> OpKind:
    weight, transposed, groups = args[1], args[6], args[8]
    if transposed:
        return OpKind.OTHER_CONV
    if groups > 1 and weight.shape[1] == 1:
        return OpKind.DEPTHWISE
    return OpKind.CONV_1X1 if set(weight.shape[2:]) == {1} else OpKind.OTHER_CONV


def _flops(kind: OpKind, name: str, args: tuple[Any, ...], result: Tensor, weights: int) -> int:
    match kind:
        case OpKind.CONV_1X1 | OpKind.DEPTHWISE | OpKind.OTHER_CONV | OpKind.LINEAR:
            figures = _FIGURES[name](args, result)
            return 2 * figures["macs"] + figures.get("bias_additions", 0)
        case OpKind.NORM if name == "batch_norm":
            return _batch_norm(args, result)["batch_norm_operations"]
        case OpKind.NORM:
            return result.numel() * (5 + min(weights, 2))  # scale and shift, if there are any
        case OpKind.POOLING:
            return int(args[0].numel())
        case OpKind.REARRANGING:
            return 0
        case OpKind.RESAMPLING if "nearest" in name:
            return 0
        case _:
            return result.numel()


_Figures = dict[str, int]
"""What one call adds to the figures of ``Complexity``; empty: nothing."""


def _convolution(args: tuple[Any, ...], result: Tensor) -> _Figures:
    x, weight, bias, stride, _, _, transposed = args[:7]
    if transposed:
        cell = math.prod(stride)
        # Each input position has a cell of outputs. A border put on has cells beyond the output, and an output that
        # goes on, to be cut off, has positions beyond the cells: the fewer are those of the picture.
        at_outputs = min(_positions(x) * cell, _positions(result)) * weight.numel()
        macs = at_outputs // cell
    else:
        macs = at_outputs = result.numel() * weight[0].numel()
    return {
        "macs": macs,
        "macs_at_outputs": at_outputs,
        "bias_additions": 0 if bias is None else result.numel(),
        "activations": result.numel(),
        "convolutions": 1,
    }


def _positions(x: Tensor) -> int:
    return x.numel() // x.shape[1]


def _linear(args: tuple[Any, ...], result: Tensor) -> _Figures:
    biased = len(args) > 2 and args[2] is not None
    return _product(args, result) | {"bias_additions": result.numel() if biased else 0}


def _product(args: tuple[Any, ...], result: Tensor) -> _Figures:
    macs = result.numel() * args[0].shape[-1]
    return {"macs": macs, "macs_at_outputs": macs}


def _sum_with_product(args: tuple[Any, ...], result: Tensor) -> _Figures:
    return _product(args[1:], result) | {"bias_additions": result.numel()}


def _mean(args: tuple[Any, ...], result: Tensor) -> _Figures:
    x, axes = args[0], args[1] if len(args) > 1 else None
    if x.ndim < 3 or axes is None or {axis % x.ndim for axis in axes} != set(range(2, x.ndim)):
        return {}
    return {"pool_additions": x.numel()}


def _relu(args: tuple[Any, ...], result: Tensor) -> _Figures:
    return {"relu_elements": result.numel()}


def _hardtanh(args: tuple[Any, ...], result: Tensor) -> _Figures:
    return _relu(args, result) if args[1:] == (0, 6) else {}  # ReLU6


def _layer_norm(args: tuple[Any, ...], result: Tensor) -> _Figures:
    return {"norm_elements": args[0].numel()}


def _batch_norm(args: tuple[Any, ...], result: Tensor) -> _Figures:
    return {"batch_norm_operations": result.numel() * (1 if args[1] is None else 2)}


_FIGURES: dict[str, Callable[[tuple[Any, ...], Any], _Figures]] = {
    "addmm": _sum_with_product,
    "addmv": _sum_with_product,
    "baddbmm": _sum_with_product,
    "batch_norm": _batch_norm,
    "bmm": _product,
    "convolution": _convolution,
    "dot": _product,
    "elu": _relu,
    "hardtanh": _hardtanh,
    "layer_norm": _layer_norm,
    "leaky_relu": _relu,
    "linear": _linear,
    "mean": _mean,
    "mm": _product,
    "mv": _product,
    "prelu": _relu,
    "relu": _relu,
}
"""From an operation's name in ATen, without the underscore of those that work in place."""

_WEIGHTS = {
    "addmm": (1, 2),
    "addmv": (1, 2),
    "baddbmm": (1, 2),
    "bmm": (0, 1),
    "convolution": (1,),
    "dot": (0, 1),
    "linear": (1,),
    "mm": (0, 1),
    "mv": (0, 1),
}
"""Places of the arguments of which one that is fixed makes it no layer."""

_WHOLE = ("_upsample", "instance_norm", "selu", "upsample")
"""How the names of operations begin that are not taken apart: their parts would count as layers, or tell nothing."""

_NAMES = {
    OpKind.LINEAR: [name for name in _WEIGHTS if name != "convolution"],
    OpKind.NORM: ["batch_norm", "instance_norm", "layer_norm", "native_group_norm"],
    OpKind.ACTIVATION: [
        *("celu", "clamp", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish", "prelu"),
        *("relu", "selu", "sigmoid", "silu", "softplus", "tanh", "threshold"),
    ],
    OpKind.REARRANGING: [
        *("_to_copy", "cat", "channel_shuffle", "clone", "col2im", "constant_pad_nd", "copy", "fill", "flip"),
        *("gather", "im2col", "index", "index_select", "pixel_shuffle", "pixel_unshuffle", "reflection_pad2d"),
        *("repeat", "replication_pad2d", "roll", "stack", "zero"),
    ],
    OpKind.RESAMPLING: ["grid_sampler_2d"],
    OpKind.POOLING: ["amax", "amin", "mean", "prod", "std", "sum", "var"],
}
"""Of operations whose kind neither a part of the name tells nor PyTorch's tag of elementwise ones."""

_KINDS = {name: kind for kind, names in _NAMES.items() for name in names}

_MAPS = (OpKind.CONV_1X1, OpKind.DEPTHWISE, OpKind.OTHER_CONV, OpKind.POOLING, OpKind.RESAMPLING)
"""What makes tensors of (N, C, H, W)."""

_SHUFFLES = ("pixel_shuffle", "pixel_unshuffle")

_COPIES = ("_to_copy", "clone", "copy")

_OVERWRITING = ("copy", "fill", "zero")
"""In place, without reading what was there."""
