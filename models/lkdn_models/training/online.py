"""Train a re-parameterised network at the cost of its fused form.

The branches of an RBSB (LKDN paper, eqs. 8 and 9) and of the re-parameterised up-sampler are linear, so their sum is
one convolution whose weights are differentiable functions of the branches' weights ("Online Convolutional
Re-parameterization", Hu et al., CVPR 2022). Merging weights inside the graph, once a step, gives the outputs and the
gradients of the branch form; the branches' feature maps are never computed.

``lkdn_deploy.fuse`` has the same identities for export, in float64 and without torch; a test holds both together.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lkdn_deploy.core.spec import LkdnSpec
from lkdn_models.nets.lkdn import LKDN


def merge(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the plain network's weights, from those of any training form, as differentiable functions of them."""
    merged: dict[str, Tensor] = {}
    for name, value in weights.items():
        prefix, _, kind = name.rpartition(".rep1x1.")
        if prefix and kind == "weight":
            merged |= _merge_rbsb(weights, prefix)
        elif name == "upsampler.conv3.weight":
            merged |= _merge_upsampler(weights)
        elif not prefix and not name.startswith(("upsampler.conv1.", "upsampler.conv1x1.", "upsampler.conv3")):
            merged.setdefault(name, value)
    return merged


def _merge_rbsb(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Merge ``y = pw(x) + x``, ``dw(y) + y + rep1x1(y)`` into pw, then dw."""
    pointwise, depthwise = weights[f"{prefix}.pw.weight"], weights[f"{prefix}.dw.weight"]
    identity = torch.eye(len(pointwise), dtype=pointwise.dtype, device=pointwise.device)
    return {
        f"{prefix}.pw.weight": pointwise + identity[:, :, None, None],
        f"{prefix}.dw.weight": depthwise + _centred(1 + weights[f"{prefix}.rep1x1.weight"]),
        f"{prefix}.dw.bias": weights[f"{prefix}.dw.bias"] + weights[f"{prefix}.rep1x1.bias"],
    }


def _merge_upsampler(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Merge ``conv1(x) + conv3(x) + conv3x3(conv1x1(x))`` into one 3x3 convolution."""
    part = {name: weights[f"upsampler.{name}.weight"] for name in ("conv1", "conv3", "conv1x1", "conv3x3")}
    bias = {name: weights[f"upsampler.{name}.bias"] for name in part}
    composed = torch.einsum("omhw,mi->oihw", part["conv3x3"], part["conv1x1"][:, :, 0, 0])
    through = torch.einsum("omhw,m->o", part["conv3x3"], bias["conv1x1"])
    return {
        "upsampler.0.weight": part["conv3"] + _centred(part["conv1"]) + composed,
        "upsampler.0.bias": bias["conv1"] + bias["conv3"] + bias["conv3x3"] + through,
    }


def _centred(kernel: Tensor) -> Tensor:
    """Return a kernel (O, I, 1, 1) as (O, I, 3, 3), padded with zeros."""
    return nn.functional.pad(kernel, (1, 1, 1, 1))


class OnlineLKDN:
    """An LKDN that runs training-form weights as the plain network."""

    def __init__(self, spec: LkdnSpec) -> None:
        with torch.device("meta"):  # a graph to call: it needs no weights of its own
            self._plain = LKDN(spec.deployed)

    def __call__(self, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Enlarge RGB in 0..1, (N, 3, H, W) -> (N, 3, scale * H, scale * W)."""
        return functional_call(self._plain, merge(weights), (x,))  # type: ignore[no-any-return]
