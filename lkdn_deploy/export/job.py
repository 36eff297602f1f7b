"""Export a checkpoint: fuse it, convert it to ONNX, verify the file and publish it."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from lkdn_deploy import __version__
from lkdn_deploy.backends.io import from_output, to_input
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.artifact import IOS, ArtifactMetadata, Io
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import publish
from lkdn_deploy.core.optional import needs
from lkdn_deploy.export.to_fp16 import Fp16Export, to_fp16
from lkdn_deploy.export.to_onnx import DEFAULT_OPSET, OPSETS, to_onnx
from lkdn_deploy.graph.ir_utils import Outcome
from lkdn_deploy.graph.liveness import live_channels
from lkdn_deploy.graph.pipeline import rewrite_for, serialize
from lkdn_deploy.graph.targets import OPTIONAL, TARGETS
from lkdn_deploy.runtime.bundled import DEFAULT_MODEL, DEFAULT_SCALE
from lkdn_deploy.verify.comparison import Comparison, check_finite, verify
from lkdn_deploy.verify.probes import extreme_inputs, verification_inputs

with needs("train"):
    from torch.nn.utils.parametrize import is_parametrized

    from lkdn_models.checkpoint import Checkpoint, load_checkpoint
    from lkdn_models.download import usable
    from lkdn_models.nets.blocks import SRNetwork
    from lkdn_models.nets.lapar import LAPAR
    from lkdn_models.reparameterised import fuse_network
    from lkdn_models.rgb import as_rgb
    from lkdn_models.training.evaluate import floats
    from lkdn_models.zoo import find

PRECISIONS = ("fp32", "fp16")
FP16_TARGETS = ("plain", "tensorrt")


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """The form of an exported file.

    Raises:
        UsageError: if a value is out of range.
    """

    fuse: bool = True
    opset: int = DEFAULT_OPSET
    static: tuple[int, int] | None = None
    """Fixed height and width, with a batch of 1; ``None`` leaves all three free."""
    target: str = "plain"
    """Engine for which the graph is rewritten; ``plain`` leaves the network as it is."""
    precision: str = "fp32"
    """Precision of weights and values; ``fp16`` leaves in FP32 what needs it."""
    io: Io = "fp32"
    """Type of the input and output; other than ``fp32`` only with ``precision`` ``fp16``."""
    skip: tuple[str, ...] = ()
    """Passes of the target to leave out, see ``graph.targets.TARGETS``."""
    also: tuple[str, ...] = ()
    """Passes of ``graph.targets.OPTIONAL`` to apply as well."""

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            msg = f"no such target: {self.target}"
            raise UsageError(msg, f"known are {', '.join(TARGETS)}")
        if unknown := [name for name in self.skip if name not in TARGETS[self.target]]:
            msg = f"the target {self.target} has no rewrite {', '.join(unknown)} to skip"
            raise UsageError(msg, f"it has {', '.join(TARGETS[self.target]) or 'none'}")
        offered = OPTIONAL.get(self.target, ())
        if unknown := [name for name in self.also if name not in offered]:
            msg = f"the target {self.target} has no optional rewrite {', '.join(unknown)}"
            raise UsageError(msg, f"it has {', '.join(offered) or 'none'}")
        if self.precision not in PRECISIONS or self.io not in IOS:
            msg = f"no such precision, or type of input and output: {self.precision}, {self.io}"
            raise UsageError(msg, f"known are {', '.join(PRECISIONS)}, and {', '.join(IOS)}")
        if self.precision == "fp16" and self.target not in FP16_TARGETS:
            msg = f"a file for {self.target} is in FP32: its CPU kernels do not compute in FP16"
            raise UsageError(msg, f"leave out --fp16, or choose the target {' or '.join(FP16_TARGETS)}")
        if self.io != "fp32" and self.precision != "fp16":
            msg = f"input and output in {self.io} need an FP16 network"
            raise UsageError(msg, "add --fp16")
        if self.opset not in OPSETS:
            msg = f"opset must be one of {', '.join(map(str, OPSETS))}, got {self.opset}"
            raise UsageError(msg)
        if self.static is not None and not all(1 <= size <= 1 << 14 for size in self.static):
            msg = f"static height and width must be between 1 and {1 << 14}, got {self.static}"
            raise UsageError(msg)


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The result of an export: lines about fusions as in ``Fused``, and the outcome of each pass of the target."""

    path: Path
    metadata: ArtifactMetadata
    applied: tuple[str, ...]
    skipped: tuple[str, ...]
    comparisons: list[Comparison]
    rewrites: dict[str, Outcome]
    fp16: Fp16Export | None = None


def open_checkpoint(weights: Path | None, model: str | None = None, scale: int | None = None) -> Checkpoint:
    """Load a checkpoint from a file, or the bundled or downloaded one of a network.

    Args:
        weights: the file, or ``None`` for the weights of ``model`` and ``scale``.
        model: the network, by default lkdn-s or the one that the file holds.
        scale: its scale, by default 4 or the one that the file holds.

    Raises:
        UsageError: if the file holds another network or scale than the one named, or there is no such network.
        MissingError: if the weights are neither bundled nor downloaded.
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
        raise UsageError(msg, "leave out --model and --scale: they are detected from the weights")
    return checkpoint


def file_name(checkpoint: Checkpoint, settings: ExportSettings) -> str:
    """Return the name of an exported file: ``lkdn-s_x4.onnx``, with a part for each setting that is not the default."""
    parts = [f"{checkpoint.name}_x{checkpoint.scale}"]
    parts += [] if settings.fuse else ["unfused"]
    parts += [kind for kind in (settings.precision, settings.io) if kind != "fp32"]
    if settings.static:
        parts.append("{1}x{0}".format(*settings.static))
    parts += [] if settings.opset == DEFAULT_OPSET else [f"opset{settings.opset}"]
    if settings.target != "plain":
        parts += [settings.target, *(f"no-{name}" for name in settings.skip), *settings.also]
    return "_".join(parts) + ".onnx"


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, unless it exists.

    Raises:
        InputError: if it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{folder} cannot be made: {error.strerror}"
        raise InputError(msg) from error


def export_onnx(checkpoint: Checkpoint, path: Path, settings: ExportSettings) -> ExportReport:
    """Write an ONNX file, if it computes what the checkpoint does.

    The reference is the checkpoint in PyTorch in the form in which it came; the candidate is the written file on ONNX
    Runtime. So the comparison covers fusion, export and engine. An FP16 file must also give finite values on noise,
    black and white.

    Args:
        checkpoint: the weights and their network.
        path: the file to write; its folder is made.
        settings: the form of the file.

    Raises:
        VerificationError: if they differ by more than the tolerance, or FP16 overflows; no file is left.
        UsageError: if the network does not take the fixed size.
        InputError: if the file cannot be written.
        MissingError: if a package is missing.
    """
    make_folder(path.parent)
    fused = fuse(checkpoint) if settings.fuse else Fused(checkpoint.build(), skipped=("left out as asked",))
    deployed = as_rgb(fused.network, checkpoint.input, checkpoint.scale)
    smallest, static = deployed.smallest, settings.static
    if static and min(static) < smallest:
        msg = f"{checkpoint.name} x{checkpoint.scale} takes pictures of {smallest} pixels a side or more"
        raise UsageError(msg, "choose a larger static size")
    plain = to_onnx(deployed, checkpoint.scale, smallest=smallest, opset=settings.opset, static=static)
    live = live_channels(plain)
    if live is None:
        msg = "the sizes of the exported graph's tensors cannot be inferred"
        raise InputError(msg, "please report it with the checkpoint and the command")
    plain_metadata = describe(checkpoint, deployed, whole=fused.whole, live_channels=live)
    model, metadata, rewrites = rewrite_for(plain, plain_metadata, settings.target, settings.skip, settings.also)
    inputs = verification_inputs(metadata, static)
    if settings.io == "uint8":  # compare on what the file receives
        inputs = {name: from_output(to_input(batch, "uint8"), "uint8") for name, batch in inputs.items()}
    extremes = extreme_inputs(metadata, static)
    converted = None
    if settings.precision == "fp16":
        converted = to_fp16(model, settings.io, [*inputs.values(), *extremes.values()])
        model, metadata = converted.result.model, converted.describe(metadata, settings.io)
    with publish(path) as part:
        if converted:
            shown = converted.describe(metadata, "fp32" if settings.io == "uint8" else settings.io)
            part.write_bytes(serialize(converted.shows_all, shown))
            check_finite(extremes, open_session(part, "ort-cpu").run)
        part.write_bytes(serialize(model, metadata))
        reference = floats(as_rgb(checkpoint.build(), checkpoint.input, checkpoint.scale).eval())
        comparisons = verify(inputs, open_session(part, "ort-cpu").run, reference, settings.precision)
    return ExportReport(path, metadata, fused.applied, fused.skipped, comparisons, rewrites, converted)


def describe(
    checkpoint: Checkpoint, deployed: SRNetwork, *, whole: bool, live_channels: int, precision: str = "fp32"
) -> ArtifactMetadata:
    """Return the metadata of a checkpoint's deployed network.

    Args:
        checkpoint: the weights.
        deployed: their network, of RGB in 0..1.
        whole: whether no branch is left to fuse.
        live_channels: the values alive at once, for each LR pixel.
        precision: ``fp32`` or ``fp16``.
    """
    return ArtifactMetadata(
        model=checkpoint.name,
        scale=checkpoint.scale,
        receptive_radius=deployed.receptive_radius,
        live_channels=live_channels,
        fused=whole,
        precision=precision,
        smallest=deployed.smallest,
        weights_sha256=checkpoint.sha256,
        tools={"lkdn-deploy": __version__, "torch": version("torch"), "onnx": version("onnx")},
    )


@dataclass(frozen=True, slots=True)
class Fused:
    """A network with fewer branches, and a line for each fusion that was made, or not and why."""

    network: SRNetwork
    applied: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether no branch is left that can be fused."""
        if any(is_parametrized(module) for module in self.network.modules()):
            return False
        # An LKDN that reads copies of its input is not one with branches.
        return not any(block for block in fuse_network(self.network)[1].applied)


def fuse(checkpoint: Checkpoint) -> Fused:
    """Return the checkpoint's network as it is deployed: branches collapsed, LAPAR's norms multiplied in."""
    network = checkpoint.build()
    if isinstance(network, LAPAR):
        return Fused(network.fold(), ("weights: their norms multiplied in",))
    plain, result = fuse_network(network)
    applied, skipped = _lines(result.applied), _lines(result.skipped)
    if not applied and not skipped:
        skipped = (f"{checkpoint.name} has no branches",)
    return Fused(plain, applied, skipped)


def _lines(told: Mapping[str, str]) -> tuple[str, ...]:
    """Return what is told of blocks by their names, in a line for all of which the same is told."""
    blocks: dict[str, list[str]] = {}
    for block, what in told.items():
        blocks.setdefault(what, []).append(block or "input")
    more = {what: f" and {len(names) - 1} more" if len(names) > 1 else "" for what, names in blocks.items()}
    return tuple(f"{names[0]}{more[what]}: {what}" for what, names in blocks.items() if what)
