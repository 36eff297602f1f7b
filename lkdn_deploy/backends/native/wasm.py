"""Networks compiled for WebAssembly: code, weights, and a description from which its host makes an executor's tables.

The code is the same as that of this machine's processor, for vectors of four lanes: it takes windows of any size. Where
everything lies in memory depends on the size, and is decided where the module runs: ``web/static/engine.mjs`` is there
what ``executor`` is here. What both need to know of a network is its description.

There is code for two sets of instructions. Relaxed SIMD has a multiplication with an addition, which takes one
instruction, and is rounded once, on processors that can. Hosts without it run the plain code.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from llvmlite import ir

from lkdn_deploy.backends.native.codegen import output
from lkdn_deploy.backends.native.codegen.threads import emit_rest
from lkdn_deploy.backends.native.compile import (
    distinct_signatures,
    emit_network,
    lane_formats,
    lower_program,
    stage_name,
)
from lkdn_deploy.backends.native.fixed.fixed_ir import FixedProgram
from lkdn_deploy.backends.native.ir import Program, UnsupportedError
from lkdn_deploy.backends.native.layout import BLOCK, LINE, LaneFormat, block_floats, halo_blocks, whole_lines
from lkdn_deploy.backends.native.lower import LoweredStage
from lkdn_deploy.backends.native.lower_fixed import even
from lkdn_deploy.backends.native.schedule import Schedule
from lkdn_deploy.backends.native.winograd import row_step, row_unit, window_halo, window_step
from lkdn_deploy.jit.compiler import compile_module
from lkdn_deploy.jit.wasm_module import WASM, WASM_RELAXED, for_threads, link

_CALLS = 1024
"""Bytes of a stack for the functions that call stages."""
_LINE_BYTES = 4 * LINE


@dataclass(frozen=True, slots=True)
class WasmCode:
    """The modules of one set of instructions."""

    alone: bytes
    """A module whose memory belongs to one thread."""
    threads: bytes
    """The same for memory that threads share."""


@dataclass(frozen=True, slots=True)
class WasmNetwork:
    """A network for WebAssembly."""

    plain: WasmCode
    """Code that needs SIMD of 128 bits."""
    relaxed: WasmCode
    """The same code for relaxed SIMD."""
    window_halo: int
    """The least halo of windows that give the whole image's values; 0 if the receptive radius is enough."""
    weights: bytes
    """The weights of all stages, little-endian float32, each stage's aligned to a cache line."""
    description: dict[str, Any]
    """Everything else that a host must know, of numbers, texts, lists and tables; see ``_row`` and ``_described``."""


def compile_wasm(program: Program, fixed: FixedProgram | None = None) -> WasmNetwork:
    """Compile a program for WebAssembly.

    Args:
        program: the program.
        fixed: its integers, if it is to be computed in fixed point.

    Raises:
        UnsupportedError: if another engine has to run a part of it, if it accepts one size only, or as
            ``lower_program`` does.
    """
    if program.subgraphs:
        msg = "a network of which every pixel depends on the whole picture: ONNX Runtime has to compute a part of it"
        raise UnsupportedError(msg)
    if program.fixed_size is not None:
        msg_0 = "a network that accepts pictures of {1}x{0} pixels only".format(*program.fixed_size)
        raise UnsupportedError(msg_0)
    program, plan, segments = lower_program(program, WASM, fixed)
    formats = {} if fixed is None else lane_formats(segments)
    signatures = distinct_signatures(segments)
    module = ir.Module()
    emit_network(signatures, WASM, module)
    functions = [*map(stage_name, range(len(signatures))), *output.NAMES]
    exports = [*functions, "lead"]
    targets = WASM, WASM_RELAXED
    alone = [link(compile_module(module, it), exports, shared=False) for it in targets]
    emit_rest(module)
    exports += ["follow", "rest"]
    threads = [link(compile_module(module, for_threads(it)), exports, shared=True) for it in targets]
    plain, relaxed = map(WasmCode, alone, threads)
    weights, starts = _packed(segments)
    return WasmNetwork(
        plain,
        relaxed,
        window_halo(program),
        weights,
        {
            "lanes": WASM.lanes,
            "block": BLOCK,
            "rowUnit": row_unit(program),
            "scale": int(program.pixel_order.shape[1]),
            "windowStep": window_step(program),
            "rowStep": row_step(program),
            "stack": _stack_bytes(module),
            "functions": functions,
            "result": program.result,
            "rows": {str(it): _row(program, plan, it, formats.get(it)) for it in plan.halo_columns},
            "slots": {str(value): slot for value, slot in plan.slots().items()},
            "segments": list(_described(plan, segments, starts)),
        },
    )


def _packed(segments: list[list[LoweredStage]]) -> tuple[bytes, list[int]]:
    """Return the weights of all stages, one after the other, and where each stage's begin, in bytes."""
    packed, starts = b"", []
    for it in chain.from_iterable(segments):
        starts.append(len(packed))
        packed += np.pad(it.weights, (0, whole_lines(it.weights.size) - it.weights.size)).astype("<f4").tobytes()
    return packed, starts


def _row(program: Program, plan: Schedule, value: int, paired: LaneFormat | None) -> dict[str, Any]:
    """Describe the size of a stored value's row, as ``RowLayout.row_floats`` computes it from its vectors.

    ``each`` are the vectors of a plane in a block, and ``margin`` those of its halo. Channel by channel, a row has
    ``unit`` lanes for each of its vectors, of which there is an odd number; otherwise it has ``unit`` lanes for each
    block of vectors. ``paired`` is the content of lanes in fixed point.
    """
    lane_format, channels = paired or LaneFormat.FLOAT, program.channels[value]
    planes = (even(channels) if paired else channels) // lane_format.channels
    channel_major, each = value in plan.channel_major, lane_format.block_vectors
    unit = planes * WASM.lanes if channel_major else block_floats(planes, WASM.lanes)
    margin = 2 * halo_blocks(plan.halo_columns[value]) * each
    return {"unit": unit, "each": each, "margin": margin, "channelMajor": channel_major}


def _described(plan: Schedule, segments: list[list[LoweredStage]], starts: list[int]) -> Iterator[dict[str, Any]]:
    """Describe each segment: the values in its line buffers with their rows, and its stages.

    A stage has the number of its ``function``, the ``values`` that are its operands, the byte at which its ``weights``
    begin, its row delay, its halo in rows, whether it computes the output image, and the values whose extremes it
    records. ``halo`` of a segment are the rows beside the requested ones that it computes; None: all.
    """
    numbers = {signature: number for number, signature in enumerate(distinct_signatures(segments))}
    following = iter(starts)
    for segment, stages in zip(plan.segments, segments, strict=True):
        yield {
            "halo": segment.output_halo,
            "buffers": [[value, rows] for value, rows in segment.buffer_rows.items()],
            "stages": [
                {
                    "function": numbers[lowered.signature],
                    "values": list(lowered.values),
                    "weights": next(following),
                    "delay": stage.row_delay,
                    "halo": stage.halo_rows,
                    "output": lowered.signature.shuffled is not None,
                    "watched": list(lowered.watched),
                }
                for stage, lowered in zip(segment.stages, stages, strict=True)
            ],
        }


def _stack_bytes(module: ir.Module) -> int:
    """Return the bytes of stack that a thread takes at most: those that the largest function allocates, and of its
    callers."""
    return _CALLS + max(
        sum(4 * whole_lines(int(it)) + _LINE_BYTES for it in re.findall(r"alloca \[(\d+) x float\]", str(function)))
        for function in module.functions
    )
