"""The ranges of a network's values, measured by running it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.optional import import_engine
from lkdn_deploy.graph.fp16.ranges import Range, expose, gather

if TYPE_CHECKING:
    import onnx


def measure_ranges(model: "onnx.ModelProto", inputs: Iterable[NDArray[np.float32]]) -> dict[str, Range]:
    """The range of each float32 tensor over ``inputs``, (N, 3, H, W) in 0..1, on ONNX Runtime's CPU provider.

    Raises:
        MissingError: without onnxruntime.
    """
    ort = import_engine("onnxruntime", "cpu")
    exposed, names = expose(model)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_mem_pattern = False
    # The default order leaves the maxima for last and holds all tensors until then: four times the memory (measured).
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    session = ort.InferenceSession(exposed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = model.graph.input[0].name
    return gather(names, [[float(value) for value in session.run(None, {given: batch})] for batch in inputs])
