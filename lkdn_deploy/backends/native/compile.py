"""A program compiled for this processor."""

from functools import partial

from llvmlite import ir

from lkdn_deploy.backends.native import layout
from lkdn_deploy.backends.native.codegen import activations, buffers, output, stage, threads
from lkdn_deploy.backends.native.fallback import Detours
from lkdn_deploy.backends.native.ir import Floats, Kind, Program
from lkdn_deploy.backends.native.layout import aligned
from lkdn_deploy.backends.native.lower import Shape, lower
from lkdn_deploy.backends.native.schedule import Schedule, schedule
from lkdn_deploy.jit import builder
from lkdn_deploy.jit.compiler import Processor, library


class Engine:
    """A network on the CPU."""

    def __init__(self, program: Program, target: Processor) -> None:
        self.program, self.lanes = program, target.lanes
        self.plan = schedule(program)
        self.scale = int(program.order.shape[1])
        self.stages = [[lower(it, program, self.plan, target.results) for it in one.stages] for one in self.plan.passes]
        shapes = dict.fromkeys(lowered.shape for stages in self.stages for lowered in stages)
        sources = [str(it.__file__) for it in (activations, buffers, builder, layout, output, stage, threads)]
        self._library = library("native", partial(_emit, tuple(shapes), target.lanes), target, sources, shapes)
        self.lead = self._library.function("lead", "piipipii")
        self.follow = self._library.function("follow", "ppip")
        self.addresses = {shape: self._library.address(_name(number)) for number, shape in enumerate(shapes)}
        self.planes, self.pixels = (self._library.address(name) for name in ("planes", "pixels"))
        """Of the functions that give what is enlarged."""
        self.detours = Detours(program.detours)
        self.weights = [[_aligned_copy(lowered.weights) for lowered in stages] for stages in self.stages]

    def bytes_per_pixel(self) -> int:
        """Of the frames, and of planes of the outside. Rows of a pass are too few to count."""
        channels = self.program.channels
        most: dict[int, int] = {}
        for value, slot in frame_slots(self.plan).items():
            most[slot] = max(most.get(slot, 0), channels[value])
        planes: dict[int, int] = {}
        for value, there in self.program.outside.items():
            if there.kind in (Kind.PLANES, Kind.LINES):
                depth = self.program.depths[value]
                planes[depth] = planes.get(depth, 0) + channels[value]
        outside = 2 * max(planes.values())  # here, and there
        return 4 * (sum(most.values()) + outside)


def _name(number: int) -> str:
    return f"stage{number}"


def _emit(shapes: tuple[Shape, ...], lanes: int, module: ir.Module) -> None:
    """Functions of the stages of these shapes, and of what is around them."""
    for number, shape in enumerate(shapes):
        stage.emit_stage(module, _name(number), shape, lanes)
    threads.emit_bands(module)
    output.emit_results(module, lanes)


def frame_slots(plan: Schedule) -> dict[int, int]:
    """A number for the memory of each frame; those that are not needed at the same time share one."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for number, one in enumerate(plan.passes):
        for kernel in (kernel for it in one.stages for kernel in it.kernels):
            for value in plan.frames & {kernel.output, *kernel.inputs}:
                first.setdefault(value, number)
                last[value] = number
    slots: dict[int, int] = {}
    free: dict[int, list[int]] = {}
    for number in range(len(plan.passes)):
        for value in (value for value, place in first.items() if place == number):
            alike = free.get(plan.margins[value])
            slots[value] = alike.pop() if alike else len(set(slots.values()))
        for value in (value for value, place in last.items() if place == number):
            free.setdefault(plan.margins[value], []).append(slots[value])
    return slots


def _aligned_copy(values: Floats) -> Floats:
    copy = aligned(values.size)
    copy[:] = values
    return copy
