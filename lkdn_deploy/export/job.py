"""checkpoint -> fuse -> ONNX -> verify -> publish."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy import __version__
from lkdn_deploy.backends.io import from_output, to_input
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.artifact import IOS, ArtifactMetadata, Io
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import publish
from lkdn_deploy.core.optional import needs
from lkdn_deploy.export.to_fp16 import HalfExport, to_half_precision
from lkdn_deploy.export.to_onnx import DEFAULT_OPSET, OPSETS, to_onnx
from lkdn_deploy.fuse.state_dict import fuse_state
from lkdn_deploy.graph.ir_utils import Outcome
from lkdn_deploy.graph.pipeline import TARGETS
from lkdn_deploy.graph.target import rewrite_for
from lkdn_deploy.imaging.pixels import to_batch
from lkdn_deploy.imaging.resample import imresize
from lkdn_deploy.runtime.bundled import DEFAULT_MODEL, DEFAULT_SCALE
from lkdn_deploy.samples import sample_pixels
from lkdn_deploy.verify.comparison import Comparison, Run, check_finite, verify

with needs("train"):
    import onnx
    import torch
    from torch import nn
    from torch.nn.utils.parametrize import is_parametrized

    from lkdn_models.checkpoint import Checkpoint, load_checkpoint
    from lkdn_models.download import usable
    from lkdn_models.liveness import peak_floats
    from lkdn_models.nets.lapar import LAPAR
    from lkdn_models.nets.lkdn import LKDN
    from lkdn_models.rgb import as_rgb
    from lkdn_models.training.evaluate import floats
    from lkdn_models.zoo import find

PRECISIONS = ("fp32", "fp16")
FP16_TARGETS = ("plain", "tensorrt")


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What to export.

    Raises:
        UsageError: if a value is out of range.
    """

    fuse: bool = True
    opset: int = DEFAULT_OPSET
    static: tuple[int, int] | None = None
    """Height and width to fix, with a batch of 1; ``None``: all free."""
    target: str = "plain"
    """Engine that the graph is made for; ``plain`` is the network as it is."""
    precision: str = "fp32"
    """Of weights and values; ``fp16``: FP32 remains where the numbers need it."""
    io: Io = "fp32"
    """What input and output hold, other than ``fp32`` with ``precision`` ``fp16`` only."""
    skip: tuple[str, ...] = ()
    """Rewrites of the target's that are left out, see ``graph.pipeline.TARGETS``."""

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            msg = f"no such target: {self.target}"
            raise UsageError(msg, f"known are {', '.join(TARGETS)}")
        if unknown := [name for name in self.skip if name not in TARGETS[self.target]]:
            msg = f"the target {self.target} has no rewrite {', '.join(unknown)} to skip"
            raise UsageError(msg, f"it has {', '.join(TARGETS[self.target]) or 'none'}")
        if self.precision not in PRECISIONS or self.io not in IOS:
            msg = f"no such precision or kind of input and output: {self.precision}, {self.io}"
            raise UsageError(msg, f"known are {', '.join(PRECISIONS)}, and {', '.join(IOS)}")
        if self.precision == "fp16" and self.target not in FP16_TARGETS:
            msg = f"a file for {self.target} is in FP32: its kernels on CPUs compute in nothing less"
            raise UsageError(msg, f"leave out --fp16, or take the target {' or '.join(FP16_TARGETS)}")
        if self.io != "fp32" and self.precision != "fp16":
            msg = f"input and output in {self.io} go with an FP16 network only"
            raise UsageError(msg, "add --fp16")
        if self.opset not in OPSETS:
            msg = f"opset must be one of {', '.join(map(str, OPSETS))}, got {self.opset}"
            raise UsageError(msg)
        if self.static is not None and not all(1 <= size <= 1 << 14 for size in self.static):
            msg = f"static height and width must be between 1 and {1 << 14}, got {self.static}"
            raise UsageError(msg)


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What came of it."""

    path: Path
    metadata: ArtifactMetadata
    applied: tuple[str, ...]
    """A line for each thing that was fused."""
    skipped: tuple[str, ...]
    """A line for each thing that was not, with the reason."""
    comparisons: list[Comparison]
    rewrites: dict[str, Outcome]
    """What was done to the graph for the target, by rewrite."""
    half: HalfExport | None = None
    """Of an FP16 artefact: what in it is FP32, and how large its values are."""


def open_checkpoint(weights: Path | None, model: str | None = None, scale: int | None = None) -> Checkpoint:
    """The checkpoint in the file ``weights``, or the one of ``model`` (default lkdn-s) and ``scale`` (4).

    That is the bundled one, or the published one if it is downloaded.

    Raises:
        UsageError: if the file holds another network or scale than the one named, or there is no such network.
        MissingError: if it is neither bundled nor downloaded.
        InputError: as ``load_checkpoint`` does.
    """
    if weights is None:
        entry = find(model or DEFAULT_MODEL, scale or DEFAULT_SCALE)
        return load_checkpoint(entry.bundled or usable(entry), entry.scale)
    checkpoint = load_checkpoint(weights, scale)
    found = checkpoint.name, checkpoint.scale
    asked = model or found[0], scale or found[1]
    if asked != found:
        msg = "{} x{} was asked for, but {} is {} x{}".format(*asked, weights, *found)
        raise UsageError(msg, "leave out --model and --scale: the weights tell them")
    return checkpoint


def file_name(checkpoint: Checkpoint, settings: ExportSettings) -> str:
    """``lkdn-s_x4.onnx``, with what is unusual about it in the name."""
    form = "" if settings.fuse else "_unfused"
    precision = "" if settings.precision == "fp32" else f"_{settings.precision}"
    io = "" if settings.io == "fp32" else f"_{settings.io}"
    size = "_{1}x{0}".format(*settings.static) if settings.static else ""
    target = (
        "" if settings.target == "plain" else "_".join(("", settings.target, *(f"no-{it}" for it in settings.skip)))
    )
    opset = "" if settings.opset == DEFAULT_OPSET else f"_opset{settings.opset}"
    return f"{checkpoint.name}_x{checkpoint.scale}{form}{precision}{io}{size}{opset}{target}.onnx"


def export_onnx(checkpoint: Checkpoint, path: Path, settings: ExportSettings) -> ExportReport:
    """Write ``path``, unless its numbers differ from the checkpoint's.

    The reference is the checkpoint in PyTorch in the form it came in; the candidate is the written file on ONNX
    Runtime. So the comparison covers fusion, export and engine. An FP16 file must also give finite values on what
    drives values up: noise, black and white.

    Raises:
        VerificationError: if they differ by more than the tolerance, or FP16 overflows; no file is left.
        InputError: if the file cannot be written.
        MissingError: if a package is missing.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{path.parent} cannot be made: {error.strerror}"
        raise InputError(msg) from error
    fused = fuse(checkpoint) if settings.fuse else Fused(checkpoint.build(), skipped=("left out as asked",))
    deployed = as_rgb(fused.network, checkpoint.input, checkpoint.scale)
    metadata = describe(checkpoint, deployed, whole=fused.whole)
    if settings.static and min(settings.static) < metadata.smallest:
        msg = f"{metadata.model} x{metadata.scale} takes {metadata.smallest} pixels a side or more"
        raise UsageError(msg, "static height and width must be as large")
    plain = to_onnx(deployed, metadata, opset=settings.opset, static=settings.static)
    rewritten = rewrite_for(plain, settings.target, settings.skip)
    model, metadata = rewritten.model, rewritten.metadata
    inputs = verification_inputs(metadata, settings.static)
    if settings.io == "uint8":  # what it takes of them
        inputs = {name: from_output(to_input(batch, "uint8"), "uint8") for name, batch in inputs.items()}
    extremes = extreme_inputs(metadata, settings.static)
    half = None
    if settings.precision == "fp16":
        half = to_half_precision(model, settings.io, [*inputs.values(), *extremes.values()])
        metadata = half.describe(metadata, settings.io)
        model = half.model
        onnx.helper.set_model_props(model, metadata.to_props())
    with publish(path) as part:
        if half:
            part.write_bytes(half.shows_all.SerializeToString())
            check_finite(extremes, open_session(part, "ort-cpu").run)
        part.write_bytes(model.SerializeToString())
        session = open_session(part, "ort-cpu")
        comparisons = verify(inputs, session.run, _reference(checkpoint), settings.precision)
    return ExportReport(path, metadata, fused.applied, fused.skipped, comparisons, rewritten.outcomes, half)


def describe(checkpoint: Checkpoint, deployed: nn.Module, *, whole: bool, precision: str = "fp32") -> ArtifactMetadata:
    """What an artefact says of ``deployed``, the checkpoint's network of RGB in 0..1; ``whole``: no branch is left."""
    return ArtifactMetadata(
        model=checkpoint.name,
        scale=checkpoint.scale,
        receptive_radius=deployed.receptive_radius,  # type: ignore[arg-type]
        live_channels=live_channels(deployed),
        fused=whole,
        precision=precision,
        smallest=deployed.smallest,  # type: ignore[arg-type]
        weights_sha256=checkpoint.sha256,
        tools={"lkdn-deploy": __version__, "torch": version("torch"), "onnx": version("onnx")},
    )


def verification_inputs(
    metadata: ArtifactMetadata, static: tuple[int, int] | None = None
) -> dict[str, NDArray[np.float32]]:
    """What artefacts are compared on; none of these sizes is the one that was traced.

    Clouds at an odd size, clouds smaller than the receptive field (all of it within reach of the zero padding) or, of a
    network that sees the whole picture, as small as it takes, and a photograph; with ``static``, clouds and a
    photograph of that size. Clouds are noise as soft as pictures are: on white noise PAN's values leave all bounds, and
    the rounding of its own layers with them.
    """
    random = np.random.default_rng(0)
    photograph = to_batch(sample_pixels())
    if static:
        rows, columns = (np.arange(size) % limit for size, limit in zip(static, photograph.shape[2:], strict=True))
        return {
            "clouds": _clouds(random, 1, *static),
            "photograph": np.ascontiguousarray(photograph[:, :, rows][:, :, :, columns]),
        }
    small = max(metadata.smallest, (metadata.receptive_radius or 0) // 3, 1)
    return {
        "clouds": _clouds(random, 2, 61, 83),
        "small clouds": _clouds(random, 1, small, small + 2),
        "photograph": photograph,
    }


def extreme_inputs(metadata: ArtifactMetadata, static: tuple[int, int] | None = None) -> dict[str, NDArray[np.float32]]:
    """What no picture is, but what drives a network's values up: FP16 must stay finite on it."""
    height, width = static or (max(61, metadata.smallest), max(83, metadata.smallest))
    noise = np.random.default_rng(0).random((1, 3, height, width), np.float32)
    return {"noise": noise, "black": np.zeros_like(noise), "white": np.ones_like(noise)}


def _clouds(random: np.random.Generator, count: int, height: int, width: int) -> NDArray[np.float32]:
    """(count, 3, height, width) in 0..1: noise, enlarged."""
    times = 4
    seeds = random.random((count * 3, -(-height // times), -(-width // times)))
    clouds = np.stack([imresize(seed, times)[:height, :width] for seed in seeds])
    return clouds.reshape(count, 3, height, width).clip(0, 1).astype(np.float32)


def live_channels(network: nn.Module) -> int:
    """What ``ArtifactMetadata.live_channels`` says of a network."""
    height, width = 180, 320
    return -(-peak_floats(network, (1, 3, height, width)) // (height * width))


@dataclass(frozen=True, slots=True)
class Fused:
    """A network with fewer branches, and a line for each thing done or not."""

    network: nn.Module
    applied: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether no branch is left."""
        if isinstance(self.network, LKDN):
            return self.network.spec.fused
        return not any(is_parametrized(module) for module in self.network.modules())


def fuse(checkpoint: Checkpoint) -> Fused:
    """The checkpoint's network as it is deployed: an LKDN's branches collapsed, LAPAR's norms multiplied in."""
    network = checkpoint.build()
    if isinstance(network, LKDN):
        result = fuse_state({name: value.numpy() for name, value in checkpoint.state.items()}, checkpoint.spec)
        network = LKDN(result.spec)
        network.load_state_dict({name: torch.from_numpy(value) for name, value in result.state.items()})
        return Fused(network.eval(), result.applied, result.skipped)
    if isinstance(network, LAPAR):
        return Fused(network.fold(), ("weights: their norms multiplied in",))
    return Fused(network, skipped=(f"{checkpoint.name} has no branches",))


def _reference(checkpoint: Checkpoint) -> Run:
    return floats(as_rgb(checkpoint.build(), checkpoint.input, checkpoint.scale).eval())
