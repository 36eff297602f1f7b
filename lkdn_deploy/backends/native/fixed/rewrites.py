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


def split_sum(program: Program, output: int) -> Program:
    """Replace a convolution by two, with the weights of half its input channels each, and the sum of both.

    Args:
        program: the program, to which two values are added.
        output: the value that the convolution computes.
    """
    first = len(program.channels)
    ops: list[Op] = []
    for op in program.ops:
        if not isinstance(op, ConvOp) or op.output != output:
            ops.append(op)
            continue
        inputs = op.weight.shape[1]
        is_early = (np.arange(inputs) < inputs // 2)[:, None, None]
        parts = op.blocks[1] * (1 + op.blocks[1] % 2)
        blocks = op.blocks[0], parts if inputs % parts == 0 else op.blocks[1]  # no code is made for a half of zeros
        early = replace(op, output=first, weight=op.weight * is_early, blocks=blocks)
        late = replace(op, output=first + 1, weight=op.weight * ~is_early, bias=0 * op.bias, blocks=blocks)
        ops += [early, late, Elementwise((first, first + 1), output, "add")]
    both = program.channels[output], program.channels[output]
    depths = program.depths[output], program.depths[output]
    return replace(program, ops=tuple(ops), channels=program.channels + both, depths=program.depths + depths)
