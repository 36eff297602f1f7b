"""Which engine an artefact needs here: said once, so that what was built ahead is what is looked for later."""

import hashlib
from dataclasses import dataclass

from lkdn_deploy.backends.trt.build import DEFAULT_WORKSPACE, BuildSettings
from lkdn_deploy.backends.trt.engine_cache import Key
from lkdn_deploy.backends.trt.gpu import Gpu, gpu_here
from lkdn_deploy.backends.trt.record import Kind, Profile, Size
from lkdn_deploy.backends.trt.runtimes import RUNTIMES, check_targets, default_kind, open_runtime, system
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.core.optional import needs

DEFAULT_PROFILE = Profile((32, 32), (256, 256), (512, 512))
"""Of artefacts of any size. The least size is raised to what the network takes."""


@dataclass(frozen=True, slots=True)
class Described:
    """What an ``.onnx`` file says of itself."""

    metadata: ArtifactMetadata
    fixed_size: Size | None
    sha256: str
    """Of its bytes."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted of an engine; what is left out is decided by what is here."""

    kind: Kind | None = None
    """``None``: TensorRT if it is installed and there is a GPU, else TensorRT for RTX."""
    profile: Profile | None = None
    """``None``: ``DEFAULT_PROFILE``, or the artefact's fixed size."""
    targets: tuple[str, ...] = ()
    """None: the GPU of this machine."""
    batch: int = 1
    """Of the profile, if that is left out."""
    workspace: int = DEFAULT_WORKSPACE


def read_onnx(artefact: bytes) -> Described:
    """Read an artefact's metadata and size, without an engine.

    Raises:
        InputError: if it was not made by lkdn-export.
        MissingError: without the package onnx, which the extras of both runtimes have.
    """
    with needs("trt-rtx"):
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    try:
        model = onnx.load_model_from_string(artefact)
    except (DecodeError, ValueError) as error:
        msg = "the file is no ONNX model"
        raise InputError(msg, "export the checkpoint with lkdn-export") from error
    metadata = ArtifactMetadata.from_props({item.key: item.value for item in model.metadata_props})
    inputs = model.graph.input
    dims = inputs[0].type.tensor_type.shape.dim if len(inputs) == 1 else []
    if len(dims) != 4:
        msg = "expected one input (N, 3, H, W)"
        raise InputError(msg, "export the checkpoint with lkdn-export")
    height, width = dims[2].dim_value, dims[3].dim_value
    return Described(metadata, (height, width) if height and width else None, hashlib.sha256(artefact).hexdigest())


def resolve(described: Described, request: Request, gpu: Gpu | None) -> BuildSettings:
    """Decide what a request leaves open.

    Args:
        gpu: of this machine.

    Raises:
        UsageError: if the profile does not suit the artefact; UsageError, MissingError: as ``choose``.
    """
    kind, targets = choose(request, gpu)
    return BuildSettings(kind, _profile(described, request), targets, request.workspace)


def choose(request: Request, gpu: Gpu | None) -> tuple[Kind, tuple[str, ...]]:
    """Decide on runtime and targets, which no artefact is needed for.

    Args:
        gpu: of this machine.

    Raises:
        UsageError: if there is no GPU and no target is named, or the runtime builds for another GPU.
        MissingError: if no runtime is installed, or the one that is asked for needs a GPU and there is none.
    """
    kind = request.kind or default_kind(gpu is not None)
    targets = request.targets or ((gpu.capability,) if gpu else ())
    if not RUNTIMES[kind].builds_ahead:
        if gpu is None:
            msg = "TensorRT builds on the GPU that the engine is for, and there is none here"
            raise MissingError(msg, "build there, or ahead with --runtime tensorrt-rtx --sm 89")
        if targets != (gpu.capability,):
            msg = f"TensorRT builds for the GPU at hand, a {gpu.name} ({gpu.capability}), not for {', '.join(targets)}"
            raise UsageError(msg, "leave out --sm, or use --runtime tensorrt-rtx")
    elif not targets:
        msg = "there is no GPU here, so it must be said for which the engine is"
        raise UsageError(msg, "name their compute capabilities: --sm 86 --sm 89")
    return kind, tuple(sorted(dict.fromkeys(targets), key=lambda target: (len(target), target)))


def wanted_key(described: Described, settings: BuildSettings, gpu: Gpu | None) -> Key:
    """Of the cache.

    Args:
        gpu: of this machine.

    Raises:
        MissingError: if the runtime is not installed.
    """
    bound = None if RUNTIMES[settings.kind].builds_ahead else gpu
    return Key(
        artefact_sha256=described.sha256,
        runtime=settings.kind,
        runtime_version=open_runtime(settings.kind).__version__,
        targets=settings.targets,
        gpu=bound.name if bound else "",
        driver=bound.driver if bound else "",
        system=system(),
        profile=settings.profile,
        precision=described.metadata.precision,
        io=described.metadata.io,
        options=settings.options,
    )


def check_request(request: Request) -> None:
    """Refuse here and now what no artefact is needed to refuse.

    Raises:
        UsageError, MissingError: as ``choose``, ``open_runtime`` and ``check_targets``.
    """
    kind, targets = choose(request, gpu_here())
    module = open_runtime(kind)
    if RUNTIMES[kind].builds_ahead:
        check_targets(module, targets)


def wanted_here(artefact: bytes, request: Request) -> tuple[Described, BuildSettings, Key]:
    """All of the above for this machine.

    Raises:
        LkdnError: as they do.
    """
    described, gpu = read_onnx(artefact), gpu_here()
    settings = resolve(described, request, gpu)
    return described, settings, wanted_key(described, settings, gpu)


def _profile(described: Described, request: Request) -> Profile:
    asked, least = request.profile, described.metadata.smallest
    if described.fixed_size:
        profile = Profile.fixed(described.fixed_size, request.batch) if asked is None else asked
        if profile != Profile.fixed(described.fixed_size):
            msg = "the artefact takes one picture of {1}x{0} pixels".format(*described.fixed_size)
            msg += f", asked for is {profile}"
            raise UsageError(msg, "export it without --static")
        return profile
    if asked is None:
        low, high = DEFAULT_PROFILE.minimum, DEFAULT_PROFILE.maximum
        return Profile((max(low[0], least), max(low[1], least)), DEFAULT_PROFILE.optimum, high, request.batch)
    if min(asked.minimum) < least:
        msg = f"{described.metadata.model} takes {least} pixels a side or more, asked for is {asked}"
        raise UsageError(msg, "raise the least size")
    return asked
