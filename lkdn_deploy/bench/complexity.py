"""A network's operations, counted from those that one run executes.

No value is computed and no memory taken, so any network and any size are counted at once. An operation counts by its
kind, whether a module or a function calls it.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lkdn_deploy.core.counting import Rule
from lkdn_models.liveness import meta_input, peak_floats, without_values


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An operation that no rule counts."""

    calls: int
    elements: int
    """Of the largest tensor that it reads or makes, over all calls."""


@dataclass(frozen=True, slots=True)
class Complexity:
    """What one run of a network takes. All figures are of the whole batch."""

    parameters: int
    """Values of all parameters, frozen ones too; shared ones once."""
    macs: int
    """Multiply-accumulates of all convolutions and linear layers, transposed convolutions' at every input position.

    A border that is put on a transposed convolution's input, or cut off its output, does not count.
    """
    macs_at_outputs: int
    """The same with transposed convolutions counted at every output position, stride**2 times too many."""
    bias_additions: int
    """One for each output element of a convolution or linear layer that has a bias."""
    pool_additions: int
    """One for each element that a global average pool reads: a mean over the whole map.

    The mean of squares is none: BSRN's figures leave out the deviation, which its attention adds to the mean.
    """
    norm_elements: int
    """What layer normalisations read."""
    relu_elements: int
    """What ReLU, LeakyReLU, PReLU, ELU and ReLU6 make."""
    batch_norm_operations: int
    """Two for each element that a batch normalisation makes, one if it has no weights."""
    activations: int
    """Elements of the outputs of all convolutions."""
    convolutions: int
    """How many times one is called."""
    peak_floats: int
    """See ``lkdn_models.liveness.peak_floats``."""
    left_out: Mapping[str, LeftOut]
    """Operations on the image that none of the figures above counts, by PyTorch's name for them.

    ``fixed convolution``, ``fixed mm`` and the like have weights that hang on no parameter: they interpolate or
    rearrange, which papers do not count. Views are not listed, nor is what is made of parameters alone, as by weight
    normalisation.
    """

    def multi_adds(self, rule: Rule) -> int:
        """Multi-Adds as a paper of this rule has them."""
        match rule:
            case Rule.C:
                return self.macs
            case Rule.C_OUT:
                return self.macs_at_outputs
            case Rule.B:
                return self.macs + self.bias_additions
            case Rule.B_POOLS:
                return self.macs + self.bias_additions + self.pool_additions
            case Rule.T:
                return self.macs + 4 * self.norm_elements

    @property
    def ntire_flops(self) -> int:
        """FLOPs as NTIRE 2023's challenge on efficient super-resolution counts them, at 1x3x256x256.

        These are MACs, of transposed convolutions at every output position, without biases, and the operations of
        ReLU kinds and batch normalisations. The challenge's script (github.com/ofsoundof/NTIRE2023_ESR,
        ``utils/model_summary.py``) hooks modules: it misses what is called as a function, and 1x1 convolutions that
        are written as linear layers, as in BSRN-S, are no convolutions to it. Here the kind of operation decides.
        """
        return self.macs_at_outputs + self.relu_elements + self.batch_norm_operations


def count(network: nn.Module, shape: tuple[int, ...]) -> Complexity:
    """Count one run for inference.

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
        plan(x)
    return Complexity(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        macs=seen.figures["macs"],
        macs_at_outputs=seen.figures["macs_at_outputs"],
        bias_additions=seen.figures["bias_additions"],
        pool_additions=seen.figures["pool_additions"],
        norm_elements=seen.figures["norm_elements"],
        relu_elements=seen.figures["relu_elements"],
        batch_norm_operations=seen.figures["batch_norm_operations"],
        activations=seen.figures["activations"],
        convolutions=seen.figures["convolutions"],
        peak_floats=peak_floats(network, shape),
        left_out=dict(sorted(seen.left_out.items())),
    )


class _Origin(IntEnum):
    """The most that a tensor's values hang on."""

    FIXED = 0
    """Numbers in the code, and buffers."""
    LEARNED = 1
    """Parameters."""
    IMAGE = 2


class _Memory:
    """What is known of tensors, by the storage that they lie in."""

    def __init__(self) -> None:
        # Storages are kept, so that none gets the id of one that is gone. On the device meta they hold nothing.
        self._origins: dict[int, tuple[UntypedStorage, _Origin]] = {}
        self._squares: set[int] = set()

    def __contains__(self, tensor: Tensor) -> bool:
        return id(tensor.untyped_storage()) in self._origins

    def note(self, tensor: Tensor, origin: _Origin) -> None:
        storage = tensor.untyped_storage()
        self._origins[id(storage)] = storage, origin

    def origin(self, tensor: Tensor) -> _Origin:
        """What was never noted is a buffer or a number in the code."""
        known = self._origins.get(id(tensor.untyped_storage()))
        return known[1] if known else _Origin.FIXED

    def note_square(self, tensor: Tensor) -> None:
        self._squares.add(id(tensor.untyped_storage()))

    def is_square(self, tensor: Tensor) -> bool:
        return id(tensor.untyped_storage()) in self._squares


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what passes by."""

    def __init__(self, plan: nn.Module, x: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.figures: Counter[str] = Counter()
        """By the names that they have in ``Complexity``."""
        self.left_out: dict[str, LeftOut] = {}
        self._memory = _Memory()
        for parameter in plan.parameters():
            self._memory.note(parameter, _Origin.LEARNED)
        self._memory.note(x, _Origin.IMAGE)

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
        origin = max(map(self._memory.origin, read), default=_Origin.FIXED)
        works = func._schema.is_mutable or any(tensor not in self._memory for tensor in made)  # a view does not
        for tensor in made:
            self._memory.note(tensor, origin)
        if works and origin is _Origin.IMAGE:
            self._add(self._refined(name, args), args, result, max(tensor.numel() for tensor in read + made))
            if _is_square(name, args):
                self._memory.note_square(result)
        return result

    def _refined(self, name: str, args: tuple[Any, ...]) -> str:
        """The operation's name, or another where papers do not count it."""
        if any(self._memory.origin(args[place]) is _Origin.FIXED for place in _WEIGHTS.get(name, ())):
            return f"fixed {name}"
        if name == "mean" and self._memory.is_square(args[0]):
            return "mean of squares"
        return name

    def _add(self, name: str, args: tuple[Any, ...], result: Any, elements: int) -> None:
        figures = _FIGURES[name](args, result) if name in _FIGURES else {}
        self.figures.update(figures)
        if not figures:
            before = self.left_out.get(name, LeftOut(0, 0))
            self.left_out[name] = LeftOut(before.calls + 1, before.elements + elements)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _is_square(name: str, args: tuple[Any, ...]) -> bool:
    if name == "pow":
        return not isinstance(args[1], Tensor) and bool(args[1] == 2)
    return name == "mul" and args[0] is args[1]


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
