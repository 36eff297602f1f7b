"""The least time that a network can take on a device, from its operations, for three degrees of fusion.

After Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore architectures",
Communications of the ACM 52 (4), 2009: a kernel takes as long as its operations at the device's peak, or as its
traffic at the bandwidth of its memory, whichever is longer. Kernels run one after the other.

An engine takes longer, for what is not in the model: the launch of a kernel, cores that stand idle, what neighbouring
tiles of a fused kernel compute twice, and that depthwise convolutions and arithmetic do not reach the peak of tensor
cores. What can make it faster than a bound: caches, which spare the traffic of maps that fit into them (so of the
three only that of the whole network holds for every engine), algorithms that save multiplications (Winograd's,
or one that skips the zeros of a border), and another number format than the device's peak is for (TF32).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from lkdn_deploy.bench.complexity.devices import DevicePeaks
from lkdn_deploy.bench.complexity.operations import Operation, Part
from lkdn_deploy.bench.results import Bounds
from lkdn_deploy.core.errors import UsageError

BYTES = {"fp32": 4, "fp16": 2}
"""Of a value, for each precision. Weights have the same as activations."""


class Fusion(StrEnum):
    """Which operations share a kernel."""

    LAYERS = "layer by layer"
    """None do."""
    POINTWISE = "pointwise and elementwise operations fused"
    """A pointwise operation joins the latest of the kernels that made its inputs; any other starts a kernel, as does
    one whose inputs no kernel made.

    This is generous to attention: what scales a map by one value a channel joins the kernel that made the values,
    though that must have read the map once over by then.
    """
    NETWORK = "whole network"
    """All do."""


@dataclass(frozen=True, slots=True)
class RooflineKernel:
    """Operations that run as one. What passes between them alone is not in memory."""

    operations: tuple[Operation, ...]
    flops: int
    read: int
    """Values that are made outside and read, each once."""
    written: int
    """Values of tensors that are read outside later, or returned by the network."""
    weights: int
    """Values of weights, each once."""

    def traffic(self, precision: str) -> int:
        """Bytes to and from memory, at a precision of ``BYTES``."""
        return BYTES[precision] * (self.read + self.written + self.weights)


def kernels(operations: Sequence[Operation], fusion: Fusion) -> tuple[RooflineKernel, ...]:
    """The kernels of a run, in the order in which they can run.

    Args:
        operations: in the order of execution, as ``operations.trace`` gives them.
        fusion: which of them share a kernel.
    """
    match fusion:
        case Fusion.LAYERS:
            groups = [[operation] for operation in operations]
        case Fusion.POINTWISE:
            groups = _with_pointwise(operations)
        case Fusion.NETWORK:
            groups = [list(operations)] if operations else []
    readers: defaultdict[int, set[int]] = defaultdict(set)
    for number, group in enumerate(groups):
        for part in _read(group):
            readers[part.value].add(number)
    needed = [{value for value, who in readers.items() if who - {number}} for number in range(len(groups))]
    return tuple(map(_kernel, groups, needed))


def least_time(kernels: Iterable[RooflineKernel], device: DevicePeaks, precision: str) -> float:
    """In seconds, one kernel after the other.

    Raises:
        UsageError: if the device has no peak for the precision.
    """
    if precision not in BYTES or precision not in device.flops:
        msg = f"{device.title} has no peak for {precision}"
        raise UsageError(msg, f"it has one for {', '.join(name for name in BYTES if name in device.flops)}")
    peak = device.flops[precision]
    return sum(max(kernel.flops / peak, kernel.traffic(precision) / device.bandwidth) for kernel in kernels)


def bounds(operations: Sequence[Operation], device: DevicePeaks, precision: str) -> Bounds:
    """Compute the least times of a run in milliseconds for all degrees of fusion: the more is fused, the less.

    Raises:
        UsageError: if the device has no peak for the precision.
    """
    layers, pointwise, network = (
        least_time(kernels(operations, fusion), device, precision) * 1e3
        for fusion in (Fusion.LAYERS, Fusion.POINTWISE, Fusion.NETWORK)
    )
    return Bounds(device.title, layers, pointwise, network)


def _with_pointwise(operations: Sequence[Operation]) -> list[list[Operation]]:
    groups: list[list[Operation]] = []
    makers: dict[int, int] = {}  # by tensor: its kernel
    for operation in operations:
        before = [makers[part.value] for part in operation.reads if part.value in makers]
        # The latest kernel, not that of the latest operation: so none needs what a later one makes.
        place = max(before) if operation.pointwise and before else len(groups)
        if place == len(groups):
            groups.append([])
        groups[place].append(operation)
        makers |= {part.value: place for part in operation.writes}
    return groups


def _kernel(operations: Sequence[Operation], needed: set[int]) -> RooflineKernel:
    """One that makes tensors of which others read those that are needed."""
    return RooflineKernel(
        operations=tuple(operations),
        flops=sum(operation.flops for operation in operations),
        read=_values(_read(operations)),
        written=sum(
            part.elements
            for operation in operations
            for part in operation.writes
            if part.value in needed | operation.returned
        ),
        weights=_values(part for operation in operations for part in operation.weights),
    )


def _read(operations: Sequence[Operation]) -> list[Part]:
    """What they read that none of them made."""
    made = {part.value for operation in operations for part in operation.writes}
    return [part for operation in operations for part in operation.reads if part.value not in made]


def _values(parts: Iterable[Part]) -> int:
    """How many different values there are: of parts of one tensor that begin at one place, one holds the others."""
    largest: defaultdict[int, dict[int, int]] = defaultdict(dict)
    whole: dict[int, int] = {}
    for part in parts:
        starts = largest[part.value]
        starts[part.start] = max(starts.get(part.start, 0), part.elements)
        whole[part.value] = part.whole
    return sum(min(sum(starts.values()), whole[value]) for value, starts in largest.items())
