"""Compilation: a program is scheduled, its stages are lowered, and their code is generated for one processor."""

from functools import partial

from llvmlite import ir

from lkdn_deploy.backends.native import layout
from lkdn_deploy.backends.native.codegen import activations, buffers, output, stage, threads
from lkdn_deploy.backends.native.fallback import Fallback
from lkdn_deploy.backends.native.ir import BoundaryKind, Program
from lkdn_deploy.backends.native.layout import aligned_copy
from lkdn_deploy.backends.native.lower import StageSignature, lower
from lkdn_deploy.backends.native.schedule import schedule
from lkdn_deploy.jit import builder
from lkdn_deploy.jit.compiler import Processor, library

_SOURCES = [str(it.__file__) for it in (activations, buffers, builder, layout, output, stage, threads)]
"""Modules that determine the generated code, apart from the signatures."""


class CompiledNetwork:
    """A program as machine code, with its weights.

    Attributes:
        plan: schedule of ``program``.
        segments: lowered stages of each segment.
        weights: weights of each of these stages, aligned to cache lines.
        stage_addresses: addresses of the stages' functions, by signature.
        float_output: address of the function that writes rows of the output image; ``uint8_output`` likewise.
        lead: runs a segment, as ``codegen.threads`` describes; ``follow`` likewise.
    """

    def __init__(self, program: Program, target: Processor) -> None:
        self.program, self.lanes = program, target.lanes
        self.plan = schedule(program)
        self.scale = int(program.pixel_order.shape[1])
        stages_of = (segment.stages for segment in self.plan.segments)
        self.segments = [[lower(it, program, self.plan, target.max_outputs) for it in stages] for stages in stages_of]
        signatures = dict.fromkeys(it.signature for stages in self.segments for it in stages)
        self._library = library("native", partial(_emit, tuple(signatures), target.lanes), target, _SOURCES, signatures)
        self.lead = self._library.function("lead", "piipipii")
        self.follow = self._library.function("follow", "ppip")
        self.stage_addresses = {it: self._library.address(f"stage{number}") for number, it in enumerate(signatures)}
        self.float_output, self.uint8_output = (self._library.address(it) for it in output.NAMES)
        self.fallback = Fallback(program.subgraphs)
        self.weights = [[aligned_copy(it.weights) for it in stages] for stages in self.segments]

    def bytes_per_pixel(self) -> int:
        """Return the memory of materialized and boundary values, in bytes for each input pixel.

        Line buffers are not counted: they do not grow with the image's height.
        """
        channels = self.program.channels
        slots: dict[int, int] = {}
        for value, slot in self.plan.slots().items():
            slots[slot] = max(slots.get(slot, 0), channels[value])
        boundaries: dict[int, int] = {}
        for value, boundary in self.program.boundaries.items():
            if boundary.kind in (BoundaryKind.NCHW, BoundaryKind.INTERP_ROWS):
                depth = self.program.depths[value]
                boundaries[depth] = boundaries.get(depth, 0) + channels[value]
        return 4 * (sum(slots.values()) + 2 * max(boundaries.values()))  # twice: here, and in the other engine


def _emit(signatures: tuple[StageSignature, ...], lanes: int, module: ir.Module) -> None:
    for number, signature in enumerate(signatures):
        stage.emit_stage(module, f"stage{number}", signature, lanes)
    threads.emit_bands(module)
    output.emit_output(module, lanes)
