"""An exported graph in FP16: its values measured, brought into range, converted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.artifact import ArtifactMetadata, Io
from lkdn_deploy.core.optional import needs
from lkdn_deploy.export.ranges import measure_ranges

with needs("train"):
    from lkdn_deploy.graph.fp16.cast import HalfResult, to_half
    from lkdn_deploy.graph.fp16.ranges import Peak, peak
    from lkdn_deploy.graph.fp16.rescale import rescale

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class HalfExport:
    """A graph in FP16 and what is known of it."""

    result: HalfResult
    shows_all: "onnx.ModelProto"
    """The graph, or of one whose output is 8-bit levels, which show nothing that is not finite, the same with float32
    input and output."""
    peak: Peak
    """The largest value that it holds in FP16."""
    ranges: Mapping[str, float]
    """Of each tensor that it holds in FP16 the largest absolute value seen, to four digits."""
    rescaled: int
    """Tensors that were divided by a power of two to fit."""

    @property
    def model(self) -> "onnx.ModelProto":
        """The graph."""
        return self.result.model

    def __str__(self) -> str:
        """One line for a report."""
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.result.reasons.items()))
        return (
            f"{len(self.result.islands)} operations stay in FP32 ({reasons or 'none needs it'}), "
            f"{self.rescaled} tensors divided to fit; largest value {self.peak.value:.4g} at {self.peak.tensor}, "
            f"{self.peak.margin:.1f} times as much fits"
        )

    def describe(self, metadata: ArtifactMetadata, io: Io) -> ArtifactMetadata:
        """``metadata`` of the FP32 graph, with what is true of this one."""
        return replace(
            metadata,
            precision="fp16",
            io=io,
            islands=self.result.reasons,
            peak=self.peak.value,
            peak_at=self.peak.tensor,
            ranges=self.ranges,
        )


def to_half_precision(model: "onnx.ModelProto", io: Io, inputs: Sequence[NDArray[np.float32]]) -> HalfExport:
    """Convert an exported float32 graph, whose values on ``inputs`` say what may be FP16.

    Raises:
        InputError: as ``to_half`` does.
    """
    scaled = rescale(model, measure_ranges(model, inputs))
    result = to_half(scaled.model, io, scaled.ranges)
    shows_all = to_half(scaled.model, "fp32", scaled.ranges) if io == "uint8" else result
    largest = peak(result.held, scaled.ranges) or Peak("", 0.0)
    held = sorted(result.held)  # in the same order in every process: engines are found by the file's hash
    ranges = {name: float(f"{scaled.ranges[name].largest:.3e}") for name in held if name in scaled.ranges}
    return HalfExport(result, shows_all.model, largest, ranges, len(scaled.exponents))
