"""Kinds of layers, and the kind of each operator in PyTorch, ONNX and OpenVINO."""

from enum import StrEnum


class OpKind(StrEnum):
    """The kind of work that an operation does."""

    CONV_1X1 = "conv 1x1"
    DEPTHWISE = "depthwise conv"
    OTHER_CONV = "other conv"
    LINEAR = "linear"
    """Matrix products of any sort."""
    NORM = "norm"
    ACTIVATION = "activation"
    ARITHMETIC = "arithmetic"
    """Elementwise functions that are not activations."""
    REARRANGING = "rearranging"
    """Concatenation, pixel shuffle, padding, copies."""
    RESAMPLING = "resampling"
    POOLING = "pooling"
    """Means, sums and other reductions over any axes."""
    OTHER = "other"


_NAMES = {
    OpKind.LINEAR: "addmm addmv baddbmm bmm dot fullyconnected fusedmatmul gemm linear matmul mm mv",
    OpKind.NORM: "batch_norm batchnormalization instance_norm layer_norm layernormalization mvn native_group_norm rms "
    "simplifiedlayernormalization",
    OpKind.ACTIVATION: "celu clamp clip elu erf fastgelu gelu hardsigmoid hardswish hardtanh leaky_relu leakyrelu mish "
    "prelu relu selu sigmoid silu softplus tanh threshold",
    OpKind.ARITHMETIC: "Sum add div eltwise exp mul neg pow power reciprocal rsub sqrt square sub subgraph",
    OpKind.REARRANGING: "_to_copy cast cat channel_shuffle clone col2im concat constant_pad_nd contiguous convert copy "
    "depthtospace expand fill flatten flip gather im2col index index_select memcpyfromhost memcpytohost pad "
    "pixel_shuffle pixel_unshuffle reflection_pad2d reorder reorderinput reorderoutput repeat replication_pad2d "
    "reshape roll shapeof slice spacetodepth split squeeze stack stridedslice tile transpose unsqueeze zero",
    OpKind.RESAMPLING: "grid_sampler_2d interpolate resize upsample",
    OpKind.POOLING: "amax amin mean prod reduce reducemean reducesum std sum var",
}
"""Operator names of PyTorch, and in lower case of ONNX and OpenVINO, but for ONNX's ``Sum``, which is no reduction."""
_KIND_OF = {name: kind for kind, names in _NAMES.items() for name in names.split()}


def kind_of(name: str) -> OpKind | None:
    """Return the kind of an operator of PyTorch (without ``aten::``), ONNX or OpenVINO, or ``None`` if not known."""
    lower = name.lower()
    if "conv" in lower and lower != "convert":
        return OpKind.OTHER_CONV
    if "upsample" in lower:
        return OpKind.RESAMPLING
    if "pool" in lower:
        return OpKind.POOLING
    return _KIND_OF.get(name) or _KIND_OF.get(lower)


def conv_kind(input_channels: int, weight_shape: tuple[int, ...]) -> OpKind:
    """Return the kind of a convolution that is not transposed.

    Args:
        input_channels: number of channels of its input.
        weight_shape: (out, in / groups, height, width).
    """
    if weight_shape[1] == 1 and input_channels > 1:
        return OpKind.DEPTHWISE
    return OpKind.CONV_1X1 if set(weight_shape[2:]) == {1} else OpKind.OTHER_CONV
