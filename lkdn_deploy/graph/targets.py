"""The targets of rewrites: the passes for each engine, by their names in ``pipeline.PASSES``. Imports nothing heavy."""

_FOLDS = ("fold-replicated-input", "merge-separable-conv")
_CPU = ("split-concat-conv", "fold-shift", "pad-channels")

TARGETS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "tensorrt": ("fold-replicated-input", "layer-norm-to-sum", "merge-parallel-conv", "pad-channels"),
    "ort-cpu": (*_FOLDS, "layer-norm-to-conv", *_CPU),
    "openvino": (*_FOLDS, "layer-norm-to-rms", *_CPU),
}
"""The passes for each engine. Concatenations cost TensorRT nothing."""

OPTIONAL: dict[str, tuple[str, ...]] = {"tensorrt": ("merge-wide-separable-conv", "approximate-gelu")}
"""Further passes of a target that are applied only when asked for: they do more arithmetic, or approximate."""
