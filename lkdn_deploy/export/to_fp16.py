"""Convert an exported graph to FP16: measure its values, bring them into range, cast it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.artifact import ArtifactMetadata, Io
from lkdn_deploy.core.optional import import_engine, needs

with needs("train"):
    from lkdn_deploy.graph.fp16.cast import CastResult, cast_to_fp16
    from lkdn_deploy.graph.fp16.ranges import Peak, Range, Ranges, expose_maxima, find_peak, gather_ranges
    from lkdn_deploy.graph.fp16.rescale import rescale

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Fp16Export:
    """A graph in FP16 and the values that it holds."""

    result: CastResult
    shows_all: "onnx.ModelProto"
    """The same graph with float32 input and output if its own output is 8-bit levels, which hide infinities and NaN."""
    peak: Peak
    ranges: Ranges
    """The ranges of the tensors of the rescaled FP32 graph."""
    rescaled: int
    """Number of tensors that were divided by a power of two to fit."""

    def __str__(self) -> str:
        """Return one line for a report."""
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.result.reasons.items()))
        return (
            f"{len(self.result.kept)} operations stay in FP32 ({reasons or 'none has to'}), "
            f"{self.rescaled} tensors divided to fit; largest value {self.peak.value:.4g} at {self.peak.tensor}, "
            f"{self.peak.margin:.1f} times as much fits"
        )

    def describe(self, metadata: ArtifactMetadata, io: Io) -> ArtifactMetadata:
        """Return the metadata of the FP32 graph with the facts of this one."""
        held = sorted(self.result.held)  # in the same order in every process: engines are found by the file's hash
        return replace(
            metadata,
            precision="fp16",
            io=io,
            islands=self.result.reasons,
            peak=self.peak.value,
            peak_at=self.peak.tensor,
            ranges={name: float(f"{self.ranges[name].largest:.3e}") for name in held if name in self.ranges},
        )


def to_fp16(model: "onnx.ModelProto", io: Io, inputs: Sequence[NDArray[np.float32]]) -> Fp16Export:
    """Convert an exported float32 graph.

    Args:
        model: the graph; it is not changed.
        io: the type of its input and output.
        inputs: (N, 3, H, W) in 0..1; the values of the network on them decide what may be FP16.

    Raises:
        InputError: as ``cast_to_fp16`` does.
        MissingError: without onnxruntime.
    """
    scaled = rescale(model, measure_ranges(model, inputs))
    result = cast_to_fp16(scaled.model, io, scaled.ranges)
    shows_all = cast_to_fp16(scaled.model, "fp32", scaled.ranges) if io == "uint8" else result
    peak = find_peak(result.held, scaled.ranges) or Peak("", 0.0)
    return Fp16Export(result, shows_all.model, peak, scaled.ranges, len(scaled.exponents))


def measure_ranges(model: "onnx.ModelProto", inputs: Iterable[NDArray[np.float32]]) -> dict[str, Range]:
    """Return the range of each float32 tensor over ``inputs``, (N, 3, H, W) in 0..1, run by ONNX Runtime on the CPU.

    Raises:
        MissingError: without onnxruntime.
    """
    ort = import_engine("onnxruntime", "cpu")
    exposed, names = expose_maxima(model)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_mem_pattern = False
    # The default order leaves the maxima for last and holds all tensors until then: four times the memory (measured).
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    session = ort.InferenceSession(exposed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = model.graph.input[0].name
    return gather_ranges(names, [[float(value) for value in session.run(None, {given: batch})] for batch in inputs])
