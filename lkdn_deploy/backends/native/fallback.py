"""What crosses between the native engine and the outside: parts of a graph that ONNX Runtime does between passes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.ir import Detour
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.optional import import_engine


class Detours:
    """The detours of a program, opened."""

    def __init__(self, detours: tuple[Detour, ...]) -> None:
        self._opened: dict[int, tuple[Detour, Any]] = {}
        self._last_use = {name: detour.depth for detour in detours for name in detour.inputs}
        if not detours:
            return
        onnxruntime = import_engine("onnxruntime", "cpu")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # as in backends.ort
        # More would wait for work in a loop, on cores that the kernels then need.
        options.intra_op_num_threads = 1
        for detour in detours:
            session = onnxruntime.InferenceSession(detour.model, options, providers=["CPUExecutionProvider"])
            self._opened[detour.depth] = detour, session

    def run(self, depth: int, known: dict[str, NDArray[Any]], given: Mapping[str, NDArray[np.float32]]) -> None:
        """Add to the tensors that are known what is computed at this depth, in the memory that is given for some.

        Raises:
            InputError: if it cannot be computed.
        """
        if depth not in self._opened:
            return
        detour, session = self._opened[depth]
        binding = session.io_binding()
        for name in detour.inputs:
            binding.bind_cpu_input(name, known[name])
        for name in detour.outputs:
            if name in given:  # fresh memory for each run would cost more than what is done there
                target = given[name]
                binding.bind_output(name, "cpu", 0, target.dtype, target.shape, target.ctypes.data)
            else:
                binding.bind_output(name)
        try:
            session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            msg = "ONNX Runtime, which does a part of this network for the native engine, failed"
            raise InputError(msg, f"if memory ran out, use smaller tiles; it said: {str(error)[:200]}") from error
        for name, value in zip(detour.outputs, binding.get_outputs(), strict=True):
            known[name] = given[name] if name in given else value.numpy()

    def last_use(self, name: str) -> int:
        """The greatest depth that takes this tensor; -1: none does."""
        return self._last_use.get(name, -1)


def between(lines: int, height: int) -> NDArray[np.int64]:
    """(height, 3): for each row the lines before and behind it, and how far on it is, as the bits of a float32.

    ONNX's Resize with half_pixel: the middles of first and last lines' pixels lie as far inside as those of rows.
    """
    place = ((np.arange(height) + 0.5) * (lines / height) - 0.5).clip(0, lines - 1)
    before = place.astype(np.int64)
    on = (place - before).astype(np.float32).view(np.int32)
    return np.stack([before, np.minimum(before + 1, lines - 1), on.astype(np.int64)], axis=1)


def mean(sums: NDArray[np.float32], pixels: int) -> NDArray[np.float32]:
    """(H, C), of each row of a map -> (1, C, 1, 1)."""
    found: NDArray[np.float32] = (sums.sum(axis=0, dtype=np.float64) / pixels).astype(np.float32)
    return found[None, :, None, None]
