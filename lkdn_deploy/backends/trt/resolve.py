"""Completes the specification of an engine: from what the user chose, this machine, and the artefact."""

import hashlib
from dataclasses import replace

from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.backends.trt.engine_spec import DEFAULT_PROFILE, DEFAULT_WORKSPACE, EngineSpec, Profile, Size
from lkdn_deploy.backends.trt.form import rewrites_for
from lkdn_deploy.backends.trt.gpu import Gpu, gpu_here
from lkdn_deploy.backends.trt.runtimes import (
    RUNTIMES,
    RuntimeName,
    check_targets,
    default_runtime,
    open_runtime,
    system,
)
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.core.optional import needs


def resolve(
    runtime: RuntimeName | None = None,
    targets: tuple[str, ...] = (),
    *,
    profile: Profile | None = None,
    batch: int = 1,
    workspace: int = DEFAULT_WORKSPACE,
    aux_streams: int | None = None,
    tf32: bool = True,
) -> EngineSpec:
    """Decide what to build on this machine, as far as no artefact is needed for it.

    Args:
        runtime: by default TensorRT if both it and a GPU are available, else TensorRT for RTX.
        targets: compute capabilities such as ``sm86``; by default that of this machine's GPU.
        profile: input sizes; by default those that suit the artefact.
        batch: images at once.
        workspace: MiB of GPU memory for what lies between the engine's layers.
        aux_streams: most streams beside the main one; by default the builder's choice.
        tf32: whether factors of products in FP32 may be rounded to TF32.

    Raises:
        UsageError: if a value is out of range, the runtime does not build for the targets, or no target is named and
            there is no GPU.
        MissingError: if no runtime is installed, or the chosen one needs a GPU and there is none.
    """
    gpu = gpu_here()
    runtime, targets = _runtime_and_targets(runtime, targets, gpu)
    module = open_runtime(runtime)
    if RUNTIMES[runtime].builds_ahead:
        check_targets(module, targets)
        gpu = None  # the engine is not bound to it
    return EngineSpec(
        runtime=runtime,
        runtime_version=module.__version__,
        targets=targets,
        system=system(),
        gpu=gpu.name if gpu else "",
        driver=gpu.driver if gpu else "",
        profile=profile,
        batch=batch,
        workspace=workspace,
        aux_streams=aux_streams,
        tf32=tf32,
    )


def resolve_for(spec: EngineSpec, artifact: Artifact) -> EngineSpec:
    """Complete ``spec`` with what depends on an artefact.

    Raises:
        UsageError: if the chosen profile does not suit the artefact.
        InputError: if the artefact does not have one input (N, 3, H, W).
        MissingError: if the package onnx is missing, which the extras of both runtimes install.
    """
    return replace(
        spec,
        profile=suitable_profile(spec, artifact.metadata, _fixed_size(artifact)),
        precision=artifact.metadata.precision,
        artefact_sha256=hashlib.sha256(artifact.data).hexdigest(),
        rewrites=rewrites_for(artifact.metadata),
    )


def suitable_profile(spec: EngineSpec, metadata: ArtifactMetadata, fixed_size: Size | None) -> Profile:
    """Return the chosen profile, or else the one that suits an artefact.

    Args:
        spec: what was asked for; its profile may be ``None``.
        metadata: the artefact's description of itself.
        fixed_size: the only height and width that the artefact takes; ``None`` if any.

    Raises:
        UsageError: if the artefact does not accept the chosen sizes.
    """
    if fixed_size:
        only = Profile.fixed(fixed_size)
        asked = replace(spec, profile=spec.profile or only)
        if asked.profile != only or spec.batch > 1:
            msg = f"the artefact accepts one picture of {only.text()} pixels, but {asked.inputs} were asked for"
            raise UsageError(msg, "export it without --static")
        return only
    least = metadata.smallest
    if spec.profile is None:
        height, width = DEFAULT_PROFILE.minimum
        return replace(DEFAULT_PROFILE, minimum=(max(height, least), max(width, least)))
    if min(spec.profile.minimum) < least:
        msg = f"{metadata.model} accepts sides of {least} pixels or more, but {spec.inputs} were asked for"
        raise UsageError(msg, "raise the smallest size")
    return spec.profile


def _runtime_and_targets(
    runtime: RuntimeName | None, targets: tuple[str, ...], gpu: Gpu | None
) -> tuple[RuntimeName, tuple[str, ...]]:
    runtime = runtime or default_runtime(gpu is not None)
    targets = targets or ((gpu.capability,) if gpu else ())
    if not RUNTIMES[runtime].builds_ahead:
        if gpu is None:
            msg = "TensorRT builds on the GPU that the engine is for, and this machine has none"
            raise MissingError(msg, "build on that machine, or ahead with --runtime tensorrt-rtx --sm 89")
        if targets != (gpu.capability,):
            msg = f"TensorRT builds for the GPU at hand, a {gpu.name} ({gpu.capability}), not for {', '.join(targets)}"
            raise UsageError(msg, "leave out --sm, or use --runtime tensorrt-rtx")
    elif not targets:
        msg = "this machine has no GPU, so the GPUs to build for must be named"
        raise UsageError(msg, "give their compute capabilities: --sm 86 --sm 89")
    return runtime, tuple(sorted(set(targets), key=lambda target: (len(target), target)))


def _fixed_size(artifact: Artifact) -> Size | None:
    """Return the only height and width of an artefact's input, if it has them."""
    with needs("trt-rtx"):
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    try:
        inputs = onnx.load_model_from_string(artifact.data).graph.input
    except (DecodeError, ValueError) as error:
        msg = f"{artifact.path} is not an ONNX model"
        raise InputError(msg, "export the checkpoint with lkdn-export") from error
    dims = inputs[0].type.tensor_type.shape.dim if len(inputs) == 1 else []
    if len(dims) != 4:
        msg = f"{artifact.path}: expected one input (N, 3, H, W)"
        raise InputError(msg, "export the checkpoint with lkdn-export")
    height, width = dims[2].dim_value, dims[3].dim_value
    return (height, width) if height and width else None
