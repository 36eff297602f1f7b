"""Loops that reach a processor's highest rates: of fused multiply-adds, and of reading and writing memory."""

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from lkdn_deploy.jit import builder
from lkdn_deploy.jit.builder import INT, POINTER, Builder
from lkdn_deploy.jit.compiler import Library, library, processor

ALIGNMENT = 16
"""Float32 values to whose multiples addresses must be aligned: the widest vector."""
_VECTORS = 4
"""Vectors that an iteration of the addition handles."""


@dataclass(frozen=True, slots=True)
class PeakLoops:
    """Compiled loops; other Python threads run meanwhile.

    Attributes:
        multiply: called with the address of ``ALIGNMENT`` float32 values for the result, and a number of iterations.
        flops: floating-point operations of an iteration of ``multiply``.
        add: called with the addresses of two arrays of float32 values and of their sum, and a number of blocks.
        block: values in a block of ``add``.
    """

    multiply: Any
    flops: int
    add: Any
    block: int
    library: Library


def peak_loops() -> PeakLoops:
    """Return the loops for the processor of this machine."""
    target = processor()
    # As many accumulators as fit into registers: each instruction waits for the one before on its own accumulator only.
    accumulators = 2 * target.max_outputs

    def emit(module: ir.Module) -> None:
        b = Builder(_function(module, "multiply", [POINTER, INT]), target.lanes)
        result, count = b.function.args
        factor, summand = b.constant(0.5), b.constant(1)
        starts = [b.constant(number) for number in range(accumulators)]
        sums = b.loop(count, starts, lambda _, values: [b.fma(value, factor, summand) for value in values])
        total = sums[0]
        for value in sums[1:]:
            total = b.fadd(total, value)
        b.store_vector(total, result)
        b.ret_void()

        b = Builder(_function(module, "add", [POINTER, POINTER, POINTER, INT]), target.lanes)
        one, other, both, count = b.function.args

        def iteration(index: Any) -> None:
            for number in range(_VECTORS):
                at = b.add(b.mul(index, INT(block)), INT(number * target.lanes))
                value = b.fadd(b.load_vector(b.at(one, at)), b.load_vector(b.at(other, at)))
                b.store_vector(value, b.at(both, at))

        b.repeat(count, iteration)
        b.ret_void()

    block = _VECTORS * target.lanes
    code = library("native", emit, target, [__file__, builder.__file__], ["peaks"])
    flops = 2 * target.lanes * accumulators
    return PeakLoops(code.function("multiply", "pi"), flops, code.function("add", "pppi"), block, code)


def _function(module: ir.Module, name: str, kinds: list[Any]) -> ir.Function:
    return ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
