"""Additions of single calls of ATen operations to a network's complexity figures, and their FLOPs.

An operation's name is ATen's without the underscore of in-place variants; ``args`` are the call's arguments.
"""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from lkdn_deploy.bench.complexity.op_kinds import OpKind

Figures = dict[str, int]
"""Additions to fields of ``count.Complexity``, by field name. An empty one means that no rule counts the operation."""


def flops(kind: OpKind, name: str, args: tuple[Any, ...], result: Tensor, weights: int) -> int:
    """Count a call's FLOPs by the table in ``lkdn_deploy.bench.complexity.trace``.

    Args:
        kind: kind of the operation.
        name: its name.
        args: its arguments.
        result: its first result.
        weights: number of weight tensors that it reads.
    """
    if kind in (OpKind.CONV_1X1, OpKind.DEPTHWISE, OpKind.OTHER_CONV, OpKind.LINEAR):
        counted = FIGURES[name](args, result)
        return 2 * counted["macs"] + counted.get("bias_additions", 0)
    if name == "batch_norm":
        return FIGURES[name](args, result)["batch_norm_operations"]
    if kind is OpKind.NORM:
        return result.numel() * (5 + min(weights, 2))  # scale and shift, if present
    if kind is OpKind.POOLING:
        return int(args[0].numel())
    return 0 if kind is OpKind.REARRANGING or "nearest" in name else result.numel()


def positions(x: Tensor) -> int:
    """Return the number of pixels of a batch of maps (N, C, H, W)."""
    return x.numel() // x.shape[1]


def _convolution(args: tuple[Any, ...], result: Tensor) -> Figures:
    x, weight, bias, stride, _, _, transposed = args[:7]
    if transposed:
        cell = math.prod(stride)
        # Each input position makes one cell of outputs. Padding around the input makes cells beyond the picture, and
        # an output that is cropped later has positions beyond the cells: the smaller count is that of the picture.
        at_outputs = min(positions(x) * cell, positions(result)) * weight.numel()
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


def _product(args: tuple[Any, ...], result: Tensor) -> Figures:
    macs = result.numel() * args[0].shape[-1]
    return {"macs": macs, "macs_at_outputs": macs}


def _linear(args: tuple[Any, ...], result: Tensor) -> Figures:
    biased = len(args) > 2 and args[2] is not None
    return _product(args, result) | {"bias_additions": result.numel() if biased else 0}


def _mean(args: tuple[Any, ...], _: Tensor) -> Figures:
    x, axes = args[0], args[1] if len(args) > 1 else None
    whole_map = x.ndim > 2 and axes is not None and {axis % x.ndim for axis in axes} == set(range(2, x.ndim))
    return {"pool_additions": x.numel()} if whole_map else {}


_ADDED, _PRODUCTS = ("addmm", "addmv", "baddbmm"), ("bmm", "dot", "mm", "mv")
FIGURES: dict[str, Callable[[tuple[Any, ...], Tensor], Figures]] = {
    "batch_norm": lambda args, y: {"batch_norm_operations": y.numel() * (1 if args[1] is None else 2)},
    "convolution": _convolution,
    "hardtanh": lambda args, y: {"relu_elements": y.numel()} if args[1:] == (0, 6) else {},  # ReLU6
    "adaptive_avg_pool2d": lambda args, y: {
        "pool_additions": args[0].numel() if y.shape[2:].numel() == 1 else 0,
        "fvcore_others": args[0].numel(),
    },
    "layer_norm": lambda args, _: {
        "norm_elements": args[0].numel(),
        "fvcore_others": args[0].numel() * (5 if len(args) > 2 and args[2] is not None else 4),
    },
    "linear": _linear,
    "mean": _mean,
    **dict.fromkeys(_ADDED, lambda args, y: _product(args[1:], y) | {"bias_additions": y.numel()}),
    **dict.fromkeys(_PRODUCTS, _product),
    "upsample_bilinear2d": lambda _, y: {"fvcore_others": 4 * y.numel()},
    "upsample_nearest2d": lambda _, y: {"fvcore_others": y.numel()},
    **dict.fromkeys(("elu", "leaky_relu", "prelu", "relu"), lambda _, y: {"relu_elements": y.numel()}),
}
"""Counting function of each operation that some rule counts, called with its arguments and its first result."""

WEIGHT_ARGS = {
    "convolution": (1,),
    "linear": (1,),
    **dict.fromkeys(_ADDED, (1, 2)),
    **dict.fromkeys(_PRODUCTS, (0, 1)),
}
"""Indices of the arguments of which none may be constant, or the operation does not count as a layer."""


def _fixed(counted: Callable[[tuple[Any, ...], Tensor], Figures]) -> Callable[[tuple[Any, ...], Tensor], Figures]:
    return lambda args, y: {"fvcore_others": counted(args, y)["macs"]}


FIGURES |= {f"fixed {name}": _fixed(FIGURES[name]) for name in WEIGHT_ARGS}
