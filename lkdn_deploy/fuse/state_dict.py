"""Apply the identities of ``kernels`` to the state dict of an LKDN."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_deploy.fuse import kernels

State = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class FuseResult:
    """A fused state dict, the network that it fits, and a line for each fusion that was made, or not and why."""

    state: State
    spec: LkdnSpec
    applied: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def fuse_state(state: Mapping[str, NDArray[np.float32]], spec: LkdnSpec) -> FuseResult:
    """Fuse the weights of the network ``spec``; the arguments are left as they are.

    Fusing a fused state changes nothing.
    """
    fused, applied = fuse_branches(state)
    skipped = []
    if spec.block is Block.BSRB:
        skipped.append("blocks: a BSRB's shortcut spans both convolutions, and their sum with it is not separable")
    elif spec.block is Block.BSB:
        skipped.append("blocks: BSB has no branches")
    if spec.upsampler is Upsampler.PLAIN:
        skipped.append("upsampler: it is a single convolution")
    if spec.input_copies == 1:
        skipped.append("input: it is read once")
    else:
        name = "fea_conv.pw.weight"
        fused[name] = kernels.replicated_input(fused[name], spec.input_copies)
        applied.append(f"input: {spec.input_copies} copies -> 1")
    dtype = next(iter(state.values())).dtype
    rounded = {name: np.asarray(value, dtype) for name, value in fused.items()}
    return FuseResult(rounded, replace(spec.deployed, input_copies=1), tuple(applied), tuple(skipped))


def fuse_branches(state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Collapse the branches that the names in a state dict show.

    An RBSB becomes a BSB: eq. 8's shortcut goes into the 1x1, eq. 9's shortcut and depthwise 1x1 go into the depthwise
    3x3. The three branches of a re-parameterised up-sampler become one 3x3.

    Args:
        state: NumPy arrays or tensors by name. Fused arrays are in float64; fused tensors are differentiable.

    Returns:
        The fused state, and a line for each fusion.
    """
    fused, applied = dict(state), []
    for site in sorted(name.removesuffix(".rep1x1.weight") for name in state if name.endswith(".rep1x1.weight")):
        depthwise = kernels.identity_into_depthwise(state[f"{site}.dw.weight"]), state[f"{site}.dw.bias"]
        branch = fused.pop(f"{site}.rep1x1.weight"), fused.pop(f"{site}.rep1x1.bias")
        fused[f"{site}.dw.weight"], fused[f"{site}.dw.bias"] = kernels.parallel([depthwise, branch])
        fused[f"{site}.pw.weight"] = kernels.identity_into_pointwise(state[f"{site}.pw.weight"])
        applied.append(f"{site}: RBSB -> 1x1 and depthwise 3x3")
    if "upsampler.conv3.weight" in fused:
        part = {
            name: (fused.pop(f"upsampler.{name}.weight"), fused.pop(f"upsampler.{name}.bias"))
            for name in ("conv1", "conv3", "conv1x1", "conv3x3")
        }
        composed = kernels.pointwise_then_conv(*part["conv1x1"], *part["conv3x3"])
        merged = kernels.parallel([part["conv3"], part["conv1"], composed])
        fused["upsampler.0.weight"], fused["upsampler.0.bias"] = merged
        applied.append("upsampler: 1x1 + 3x3 + (1x1, 3x3) -> one 3x3")
    return fused, applied
