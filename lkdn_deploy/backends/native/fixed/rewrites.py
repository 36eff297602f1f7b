"""Rewrites of a program that leave its results as they are, and suit fixed point."""

from dataclasses import replace

import numpy as np

from lkdn_deploy.backends.native.ir import ConvOp, Elementwise, NormOp, Op, Program


def centre_norms(program: Program) -> tuple[Program, frozenset[int]]:
    """Subtract the mean over channels in the weights of each convolution that only a normalisation reads.

    Returns:
        The program, and the values whose mean over channels is 0 at each pixel.
    """
    readers: dict[int, list[Op]] = {}
    for op in program.ops:
        for value in op.inputs:
            readers.setdefault(value, []).append(op)
    ops: list[Op] = []
    centred: set[int] = set()
    for op in program.ops:
        read_by = readers.get(op.output, [])
        only_norms = bool(read_by) and all(isinstance(it, NormOp) for it in read_by)
        if isinstance(op, ConvOp) and op.blocks == (1, 1) and only_norms and op.output != program.result:
            weight, bias = op.weight.astype(float), op.bias.astype(float)
            weight, bias = weight - weight.mean(axis=0), bias - bias.mean()
            op = replace(op, weight=weight.astype(op.weight.dtype), bias=bias.astype(op.bias.dtype))
            centred.add(op.output)
        ops.append(op)
    return replace(program, ops=tuple(ops)), frozenset(centred)


def can_split(op: Op) -> bool:
    """Return whether ``split_sum`` can split an operation."""
    return isinstance(op, ConvOp) and (op.weight.shape[2] > 1 or (len(op.inputs) > 1 and op.blocks == (1, 1)))


def split_sum(program: Program, output: int, parts: int) -> Program:
    """Replace a convolution by several, of parts of its window or of its inputs, and the sum of all.

    Args:
        program: the program, to which values are added.
        output: the value that the convolution computes, which ``can_split``.
        parts: number of parts, at most.
    """
    ops: list[Op] = []
    added = 0
    for op in program.ops:
        if not isinstance(op, ConvOp) or op.output != output:
            ops.append(op)
            continue
        pieces = _pieces(op, program.channels, parts)
        added = 2 * len(pieces) - 2
        first = len(program.channels)
        ops.append(replace(pieces[0], output=first))
        sums = [*range(first + len(pieces), first + added), output]
        for place, (piece, total) in enumerate(zip(pieces[1:], sums, strict=True)):
            ops.append(replace(piece, output=first + 1 + place, bias=0 * op.bias))
            ops.append(Elementwise((sums[place - 1] if place else first, first + 1 + place), total, "add"))
    new = (program.channels[output],) * added, (program.depths[output],) * added
    return replace(program, ops=tuple(ops), channels=program.channels + new[0], depths=program.depths + new[1])


def _pieces(op: ConvOp, channels: tuple[int, ...], parts: int) -> list[ConvOp]:
    """Return convolutions whose sum is a convolution, apart from its bias: of some rows, or of some inputs, each."""
    rows = op.weight.shape[2]
    if rows > 1:
        found = []
        for places in np.array_split(np.arange(rows), min(parts, rows)):
            inside = np.isin(np.arange(rows), places)[:, None]
            found.append(replace(op, weight=op.weight * inside))  # no code is made for weights that are 0
        return found
    starts = np.cumsum([0, *(channels[it] for it in op.inputs)])
    return [
        replace(
            op,
            inputs=tuple(op.inputs[it] for it in places),
            weight=op.weight[:, starts[places[0]] : starts[places[-1] + 1]],
        )
        for places in np.array_split(np.arange(len(op.inputs)), min(parts, len(op.inputs)))
    ]
