"""Which identities apply to which weights of an LKDN, in order."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_deploy.fuse import kernels

State = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class FuseResult:
    """A fused state, the specification of the network that it now fits, and a line for each thing done or not."""

    state: State
    spec: LkdnSpec
    applied: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def fuse_state(state: Mapping[str, NDArray[np.float32]], spec: LkdnSpec, *, skip: Collection[str] = ()) -> FuseResult:
    """Fuse the weights of the network ``spec``; the arguments are left as they are.

    The steps are named in ``STEPS``; those in ``skip`` are left out. Fusing a fused state changes nothing.

    Raises:
        UsageError: if ``skip`` names no step.
    """
    if unknown := set(skip) - set(STEPS):
        msg = f"no such fusion: {', '.join(sorted(unknown))}"
        raise UsageError(msg, f"known are {', '.join(STEPS)}")
    result = FuseResult(dict(state), spec)
    for name, step in STEPS.items():
        if name in skip:
            done = replace(result, applied=(), skipped=(f"{name}: left out as asked",))
        else:
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
    """Copies of the input read by the first 1x1 -> the input read once."""
    if spec.input_copies == 1:
        return FuseResult(state, spec, skipped=("input: it is read once",))
    name = "fea_conv.pw.weight"
    weight = _like(state, kernels.replicated_input(state[name], spec.input_copies))
    applied = f"input: {spec.input_copies} copies -> 1"
    return FuseResult({**state, name: weight}, replace(spec, input_copies=1), (applied,))


def _like(state: State, values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Back to the type of the weights."""
    return values.astype(next(iter(state.values())).dtype)


STEPS = {"blocks": _fuse_blocks, "upsampler": _fuse_upsampler, "input": _fuse_input}
