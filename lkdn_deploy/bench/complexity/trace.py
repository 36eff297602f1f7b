"""The operations on the image in one run of a network, in order: what each one computes, reads and writes.

Runs on PyTorch's meta device, so no value is computed and no memory is used. FLOPs are counted as follows:

============================  =======================================================================================
convolution, matrix product   2 per multiply-accumulate, 1 per bias added; if transposed, at every input position
layer normalisation           7 per element: mean 1, subtract it 1, square and add 2, divide 1, scale 1, shift 1
other normalisation           the same; with fixed statistics a scale and a shift, 2 per element
activation, arithmetic        1 per element written, also for transcendental functions
pooling                       1 per element read
resampling                    1 per element written; none for nearest-neighbour
rearranging                   none
anything else                 1 per element written
============================  =======================================================================================
"""

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lkdn_deploy.bench.complexity.eager_memory import meta_input, tensors, without_values
from lkdn_deploy.bench.complexity.op_counts import FIGURES, WEIGHT_ARGS, flops, positions
from lkdn_deploy.bench.complexity.op_kinds import OpKind, conv_kind, kind_of

_KEPT_WHOLE = ("_upsample", "instance_norm", "selu", "upsample")
"""Prefixes of operations that are not decomposed: their parts would count as layers, or have no telling name."""
_MAKES_MAPS = (OpKind.CONV_1X1, OpKind.DEPTHWISE, OpKind.OTHER_CONV, OpKind.POOLING, OpKind.RESAMPLING)
"""Kinds whose results are maps (N, C, H, W)."""
_SHUFFLES = ("pixel_shuffle", "pixel_unshuffle")
_COPIES = ("_to_copy", "clone", "copy")
_OVERWRITING = ("copy", "fill", "zero")
"""Operations that work in place without reading the old values."""


@dataclass(frozen=True, slots=True)
class Part:
    """Elements of a tensor that an operation reads or writes. A view has the number of its tensor."""

    value: int
    """Number of the tensor within the run. Changing a tensor in place gives it a new number."""
    start: int
    """Index in the tensor's memory at which the part begins, in elements."""
    elements: int
    """Number of elements; elements repeated by broadcasting count once."""
    whole: int
    """Number of elements of the whole tensor."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call. All figures are for the whole batch."""

    name: str
    """PyTorch's, the same in place or not; ``fixed …`` if no weight depends on parameters, or ``mean of squares``."""
    kind: OpKind
    pointwise: bool
    """Whether each output pixel depends only on the same pixel of the inputs, or on values that all pixels share.

    Views are not tracked: a map whose pixels a view has moved is treated like the original.
    """
    flops: int
    """Floating-point operations by the table above."""
    reads: tuple[Part, ...]
    """Parts that depend on the image, each once."""
    weights: tuple[Part, ...]
    """Parts that do not: parameters, buffers, constants, and what is computed from them."""
    writes: tuple[Part, ...]
    returned: frozenset[int]
    """Numbers of the written tensors that the network returns."""
    largest: int
    """Elements of the largest tensor that it reads or writes."""
    figures: Mapping[str, int]
    """Additions to fields of ``count.Complexity``; empty if no rule counts the operation."""


def trace(network: nn.Module, shape: tuple[int, ...]) -> tuple[Operation, ...]:
    """List the operations of one inference run, in execution order, without views and without work on parameters only.

    The network, on any device and in any mode, is not changed. Its ``forward`` may create tensors only on its input's
    device. ``shape`` is that of the input, (N, C, H, W).

    Raises:
        RuntimeError: from PyTorch, if the network does not accept such an input.
    """
    plan, x = without_values(network), meta_input(network, shape)
    tracer = _Tracer(plan, x)
    # In inference mode composite operations such as a linear layer with its bias arrive undivided.
    with torch.inference_mode(), tracer:
        result = plan(x)
    return tracer.operations(tensors(result))


class _Origin(IntEnum):
    """The sources of a tensor's values; a tensor made from several has the highest."""

    FIXED = 0
    """Constants and buffers."""
    LEARNED = 1
    """Parameters."""
    IMAGE = 2


@dataclass(slots=True)
class _TracedStorage:
    """Facts about the storage of tensors."""

    storage: UntypedStorage
    """A reference, so that no other storage gets its id. On the meta device it holds no memory."""
    value: int
    origin: _Origin
    square: bool = False


class _Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records each call."""

    def __init__(self, plan: nn.Module, x: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._done: list[Operation] = []
        self._storages: dict[int, _TracedStorage] = {}
        self._numbers = itertools.count()
        self._pixels: set[int] = set()  # numbers of pixels that the maps of the batch have had
        self._note(plan.buffers(), _Origin.FIXED)
        self._note(plan.parameters(), _Origin.LEARNED)
        self._note([x], _Origin.IMAGE)
        self._note_pixels(x)

    def operations(self, results: Iterable[Tensor]) -> tuple[Operation, ...]:
        """Return the calls recorded of a network that returns ``results``."""
        values = {self._of(result).value for result in results}
        return tuple(
            replace(operation, returned=frozenset(values.intersection(part.value for part in operation.writes)))
            for operation in self._done
        )

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__.rstrip("_")  # the same in place or not
        if name not in FIGURES and not name.startswith(_KEPT_WHOLE):
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        read, made = tensors((args, kwargs)), tensors(result)
        shape_only = name.endswith("_like") or name.startswith("new_")  # reads no values
        origin = _Origin.FIXED if shape_only else max(map(self._origin, read), default=_Origin.FIXED)
        # A result in a known storage is a view, unless the call works in place.
        new = [each for each in made if func._schema.is_mutable or id(each.untyped_storage()) not in self._storages]
        if new and origin is _Origin.IMAGE:
            operation = self._operation(name, func, args, read, made)  # uses what is known before the call
            self._note(new, origin)
            self._done.append(replace(operation, writes=tuple(map(self._part, made))))
            if name == "pow":
                self._of(result).square = not isinstance(args[1], Tensor) and bool(args[1] == 2)
            elif name == "mul":
                self._of(result).square = args[0] is args[1]
        else:
            self._note(new, origin)
        return result

    def _note(self, new: Iterable[Tensor], origin: _Origin) -> None:
        """Record that the tensors have new values."""
        for tensor in new:
            storage = tensor.untyped_storage()
            self._storages[id(storage)] = _TracedStorage(storage, next(self._numbers), origin)

    def _of(self, tensor: Tensor) -> _TracedStorage:
        """Return the facts about a tensor; one not seen before is a constant in the code."""
        if id(tensor.untyped_storage()) not in self._storages:
            self._note([tensor], _Origin.FIXED)
        return self._storages[id(tensor.untyped_storage())]

    def _origin(self, tensor: Tensor) -> _Origin:
        return self._of(tensor).origin

    def _part(self, tensor: Tensor) -> Part:
        """Return the part of the storage that the tensor covers."""
        whole = tensor.untyped_storage().nbytes() // tensor.element_size()
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        elements = math.prod(size for size, stride in steps if stride)
        return Part(self._of(tensor).value, int(tensor.storage_offset()), elements, whole)

    def _operation(
        self, name: str, func: Any, args: tuple[Any, ...], read: list[Tensor], made: list[Tensor]
    ) -> Operation:
        """Describe a call except for its writes."""
        kind = _kind(name, func, args)
        pointwise = self._is_pointwise(kind, name, args, read, made[0])
        if kind in _MAKES_MAPS or name in _SHUFFLES:
            self._note_pixels(made[0])
        reads = [self._part(tensor) for tensor in read if self._origin(tensor) is _Origin.IMAGE]
        weights = [self._part(tensor) for tensor in read if self._origin(tensor) is not _Origin.IMAGE]
        if name in _OVERWRITING:
            old = self._part(args[0])
            reads, weights = _without_overwritten(old, reads), _without_overwritten(old, weights)
        counted_name = self._counted_name(name, args)
        return Operation(
            name=counted_name,
            kind=kind,
            pointwise=pointwise,
            flops=flops(kind, name, args, made[0], len(weights)),
            reads=tuple(dict.fromkeys(reads)),
            weights=tuple(dict.fromkeys(weights)),
            writes=(),
            returned=frozenset(),
            largest=max(tensor.numel() for tensor in read + made),
            figures=FIGURES[counted_name](args, made[0]) if counted_name in FIGURES else {},
        )

    def _counted_name(self, name: str, args: tuple[Any, ...]) -> str:
        """Return the operation's name, or a distinct one for calls that papers do not count."""
        if any(self._origin(args[place]) is _Origin.FIXED for place in WEIGHT_ARGS.get(name, ())):
            return f"fixed {name}"
        return "mean of squares" if name == "mean" and self._of(args[0]).square else name

    def _is_pointwise(self, kind: OpKind, name: str, args: tuple[Any, ...], read: list[Tensor], result: Tensor) -> bool:
        match kind:
            case OpKind.CONV_1X1 | OpKind.DEPTHWISE:
                _, weight, _, stride, padding = args[:5]
                return {*weight.shape[2:], *stride} == {1} and not any(padding)
            case OpKind.LINEAR:
                x, *others = args[1:] if name == "addmm" else args
                learned = all(self._origin(other) < _Origin.IMAGE for other in tensors(others))
                return name in {"addmm", "linear", "mm"} and learned and self._has_channels_last(x)
            case OpKind.NORM:
                over_channels = name == "layer_norm" and len(args[1]) == 1 and self._has_channels_last(args[0])
                return name == "batch_norm" or over_channels
            case OpKind.ARITHMETIC:
                maps = (tensor for tensor in read if self._origin(tensor) is _Origin.IMAGE)
                return all(_height_width(x) in {_height_width(result), (1, 1)} for x in maps)
            case OpKind.REARRANGING:
                return name in _COPIES or (name == "cat" and result.ndim == 4 and args[1:] in {(1,), (-3,)})
            case _:
                return kind is OpKind.ACTIVATION

    def _note_pixels(self, x: Tensor) -> None:
        if x.ndim == 4:
            self._pixels.add(positions(x))

    def _has_channels_last(self, x: Tensor) -> bool:
        """Whether the other axes have as many positions as some map has pixels."""
        return math.prod(x.shape[:-1]) in self._pixels


def _height_width(x: Tensor) -> tuple[int, ...]:
    return (1, 1, *x.shape)[-2:]


def _without_overwritten(old: Part, parts: list[Part]) -> list[Part]:
    """Remove the overwritten part; the rest of its tensor, if any, lives on in the new one, with nothing read."""
    rest = [replace(old, elements=0)] if old in parts and old.elements < old.whole else []
    return [part for part in parts if part != old] + rest


def _kind(name: str, func: Any, args: tuple[Any, ...]) -> OpKind:
    if name == "convolution":
        x, weight, transposed = args[0], args[1], args[6]
        return OpKind.OTHER_CONV if transposed else conv_kind(x.shape[1], tuple(weight.shape))
    return kind_of(name) or (OpKind.ARITHMETIC if torch.Tag.pointwise in func.tags else OpKind.OTHER)
