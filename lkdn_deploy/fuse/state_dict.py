"""Apply the identities of ``kernels`` to the state dict of an LKDN."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_deploy.fuse import kernels

State = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class FuseResult:
    """A fused state dict."""

    state: State
    spec: LkdnSpec
    """The network that it fits."""
    applied: tuple[str, ...] = ()
    """A line for each fusion that was made."""
    skipped: tuple[str, ...] = ()
    """A line for each fusion that was not made, with the reason."""


def fuse_state(state: Mapping[str, NDArray[np.float32]], spec: LkdnSpec) -> FuseResult:
    """Fuse the weights of the network ``spec``; the arguments are left as they are.

    Fusing a fused state changes nothing.
    """
    result = FuseResult(dict(state), spec)
    for step in (_fuse_blocks, _fuse_upsampler, _fuse_input):
        done = step(result.state, result.spec)
        result = replace(done, applied=result.applied + done.applied, skipped=result.skipped + done.skipped)
    return result


def _fuse_blocks(state: State, spec: LkdnSpec) -> FuseResult:
    """RBSB -> BSB: eq. 8's shortcut into the 1x1; eq. 9's shortcut and depthwise 1x1 into the depthwise 3x3."""
    if spec.block is Block.BSRB:
        reason = "blocks: a BSRB's shortcut spans both convolutions, and their sum with it is not separable"
        return FuseResult(state, spec, skipped=(reason,))
    if spec.block is Block.BSB:
        return FuseResult(state, spec, skipped=("blocks: BSB has no branches",))
    fused, applied = dict(state), []
    for site in sorted(name.removesuffix(".rep1x1.weight") for name in state if name.endswith(".rep1x1.weight")):
        weight, bias = kernels.pointwise_into_depthwise(
            kernels.identity_into_depthwise(state[f"{site}.dw.weight"]),
            state[f"{site}.dw.bias"],
            fused.pop(f"{site}.rep1x1.weight"),
            fused.pop(f"{site}.rep1x1.bias"),
        )
        fused[f"{site}.pw.weight"] = _like(state, kernels.identity_into_pointwise(state[f"{site}.pw.weight"]))
        fused[f"{site}.dw.weight"], fused[f"{site}.dw.bias"] = _like(state, weight), _like(state, bias)
        applied.append(f"{site}: RBSB -> 1x1 and depthwise 3x3")
    return FuseResult(fused, replace(spec, block=Block.BSB), tuple(applied))


def _fuse_upsampler(state: State, spec: LkdnSpec) -> FuseResult:
    """Three parallel branches -> one 3x3."""
    if spec.upsampler is Upsampler.PLAIN:
        return FuseResult(state, spec, skipped=("upsampler: it is a single convolution",))
    fused = dict(state)
    branch = {
        name: (fused.pop(f"upsampler.{name}.weight"), fused.pop(f"upsampler.{name}.bias"))
        for name in ("conv1", "conv3", "conv1x1", "conv3x3")
    }
    composed = kernels.pointwise_then_conv(*branch["conv1x1"], *branch["conv3x3"])
    weight, bias = kernels.parallel([branch["conv3"], branch["conv1"], composed])
    fused["upsampler.0.weight"], fused["upsampler.0.bias"] = _like(state, weight), _like(state, bias)
    applied = "upsampler: 1x1 + 3x3 + (1x1, 3x3) -> one 3x3"
    return FuseResult(fused, replace(spec, upsampler=Upsampler.PLAIN), (applied,))


def _fuse_input(state: State, spec: LkdnSpec) -> FuseResult:
    """Copies of the input that the first 1x1 reads -> the input read once."""
    if spec.input_copies == 1:
        return FuseResult(state, spec, skipped=("input: it is read once",))
    name = "fea_conv.pw.weight"
    weight = _like(state, kernels.replicated_input(state[name], spec.input_copies))
    applied = f"input: {spec.input_copies} copies -> 1"
    return FuseResult({**state, name: weight}, replace(spec, input_copies=1), (applied,))


def _like(state: State, values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return ``values`` in the type of the state's weights."""
    return values.astype(next(iter(state.values())).dtype)
