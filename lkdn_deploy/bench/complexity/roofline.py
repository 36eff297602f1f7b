"""The least time that a network can take on a device, by its operations, for three degrees of fusion.

After Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore architectures",
Communications of the ACM 52 (4), 2009: a kernel takes as long as its operations at the device's peak rate or its
traffic at the memory's bandwidth, whichever is longer. Kernels run one after the other.

Real engines take longer, because the model has no kernel launches, idle cores or values that neighbouring tiles of a
fused kernel compute twice, and because depthwise convolutions and arithmetic do not reach the peak of tensor cores.
An engine can beat a bound by caches, which spare the traffic of maps that fit into them (so of the three only the bound
of the whole network holds for every engine), by algorithms that save multiplications (Winograd's, or one that skips the
zeros of a border), or by another number format than the peak is for (TF32).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from lkdn_deploy.bench.complexity.devices import DevicePeaks
from lkdn_deploy.bench.complexity.trace import Operation, Part
from lkdn_deploy.bench.results import Bounds
from lkdn_deploy.core.errors import UsageError

BYTES = {"fp32": 4, "fp16": 2}
"""Bytes of a weight or activation, by precision."""


class Fusion(StrEnum):
    """The rule by which operations share a kernel."""

    LAYERS = "layer by layer"
    """Each operation is a kernel."""
    POINTWISE = "pointwise and elementwise operations fused"
    """A pointwise operation joins the latest kernel that wrote one of its inputs. Other operations, and those whose
    inputs no kernel wrote, start a kernel.

    This favours attention: scaling a map by one value per channel joins the kernel that made the values, although that
    kernel must have read the whole map before.
    """
    NETWORK = "whole network"
    """All operations are one kernel."""


@dataclass(frozen=True, slots=True)
class RooflineKernel:
    """Operations that run as one; values used only between them do not go through memory."""

    operations: tuple[Operation, ...]
    flops: int
    read: int
    """Values that it reads and does not write, each counted once."""
    written: int
    """Values of tensors that other kernels read, or that the network returns."""
    weights: int
    """Values of weights, each counted once."""

    def traffic(self, precision: str) -> int:
        """Return the bytes read and written, at a precision of ``BYTES``."""
        return BYTES[precision] * (self.read + self.written + self.weights)


def kernels(operations: Sequence[Operation], fusion: Fusion) -> tuple[RooflineKernel, ...]:
    """Group the operations of a run into kernels, in an order in which they can run."""
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


def bounds(operations: Sequence[Operation], device: DevicePeaks, precision: str) -> Bounds:
    """Compute the least times of a run for all degrees of fusion; more fusion never takes longer.

    Args:
        operations: the operations of the run, whose kernels run one after the other.
        device: the device.
        precision: precision of weights and activations.

    Raises:
        UsageError: if the device has no peak for the precision.
    """
    if precision not in BYTES or precision not in device.flops:
        msg = f"{device.title} has no peak for {precision}"
        raise UsageError(msg, f"it has peaks for {', '.join(name for name in BYTES if name in device.flops)}")
    peak, times = device.flops[precision], []
    for fusion in (Fusion.LAYERS, Fusion.POINTWISE, Fusion.NETWORK):
        found = kernels(operations, fusion)
        times.append(sum(max(each.flops / peak, each.traffic(precision) / device.bandwidth) for each in found) * 1e3)
    return Bounds(device.title, *times)


def _with_pointwise(operations: Sequence[Operation]) -> list[list[Operation]]:
    groups: list[list[Operation]] = []
    makers: dict[int, int] = {}  # kernel by tensor
    for operation in operations:
        before = [makers[part.value] for part in operation.reads if part.value in makers]
        # The latest kernel, not the kernel of the latest operation: so that none needs results of a later one.
        place = max(before) if operation.pointwise and before else len(groups)
        if place == len(groups):
            groups.append([])
        groups[place].append(operation)
        makers |= {part.value: place for part in operation.writes}
    return groups


def _kernel(operations: Sequence[Operation], needed: set[int]) -> RooflineKernel:
    """Make the kernel of a group, given the tensors that other groups read."""
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
    """List the parts that the group reads and does not write."""
    made = {part.value for operation in operations for part in operation.writes}
    return [part for operation in operations for part in operation.reads if part.value not in made]


def _values(parts: Iterable[Part]) -> int:
    """Count distinct values: of parts of one tensor with the same start, the largest contains the others."""
    largest: defaultdict[int, dict[int, int]] = defaultdict(dict)
    whole: dict[int, int] = {}
    for part in parts:
        starts = largest[part.value]
        starts[part.start] = max(starts.get(part.start, 0), part.elements)
        whole[part.value] = part.whole
    return sum(min(sum(starts.values()), whole[value]) for value, starts in largest.items())
