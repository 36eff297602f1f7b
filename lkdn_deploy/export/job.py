"""checkpoint -> fuse -> ONNX -> verify -> publish."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy import __version__
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import publish
from lkdn_deploy.core.optional import needs
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.export.to_onnx import DEFAULT_OPSET, OPSETS, to_onnx
from lkdn_deploy.fuse.plan import FuseResult, State, fuse_state
from lkdn_deploy.imaging.layout import to_batch
from lkdn_deploy.runtime.bundled import DEFAULT_MODEL, DEFAULT_SCALE
from lkdn_deploy.samples import sample_pixels
from lkdn_deploy.verify.compare import Comparison, Run, verify

with needs("train"):
    import torch

    from lkdn_models.checkpoint import Checkpoint, load_checkpoint
    from lkdn_models.lkdn import LKDN
    from lkdn_models.zoo import bundled_checkpoint, name_of

TARGETS = ("plain",)


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

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            msg = f"no such target: {self.target}"
            raise UsageError(msg, f"known are {', '.join(TARGETS)}")
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
    fused: FuseResult | None
    comparisons: list[Comparison]


def open_checkpoint(weights: Path | None, model: str | None = None, scale: int | None = None) -> Checkpoint:
    """The checkpoint in the file ``weights``, or the bundled one of ``model`` (default lkdn-s) and ``scale`` (4).

    Raises:
        UsageError: if the file holds another network or scale than the one named.
        MissingError: if the bundled one is not there.
        InputError: as ``load_checkpoint`` does.
    """
    if weights is None:
        return load_checkpoint(bundled_checkpoint(model or DEFAULT_MODEL, scale or DEFAULT_SCALE))
    checkpoint = load_checkpoint(weights)
    found = name_of(checkpoint.spec), checkpoint.spec.scale
    asked = model or found[0], scale or found[1]
    if asked != found:
        msg = "{} x{} was asked for, but {} is {} x{}".format(*asked, weights, *found)
        raise UsageError(msg, "leave out --model and --scale: the weights tell them")
    return checkpoint


def file_name(spec: LkdnSpec, settings: ExportSettings) -> str:
    """``lkdn-s_x4.onnx``, with what is unusual about it in the name."""
    form = "" if settings.fuse else "_unfused"
    size = "_{}x{}".format(*settings.static) if settings.static else ""
    opset = "" if settings.opset == DEFAULT_OPSET else f"_opset{settings.opset}"
    return f"{name_of(spec)}_x{spec.scale}{form}{size}{opset}.onnx"


def export_onnx(checkpoint: Checkpoint, path: Path, settings: ExportSettings) -> ExportReport:
    """Write ``path``, unless its numbers differ from the checkpoint's.

    The reference is the checkpoint in PyTorch in the form it came in; the candidate is the written file on ONNX
    Runtime. So the comparison covers fusion, export and engine.

    Raises:
        VerificationError: if they differ by more than the tolerance; no file is left.
        InputError: if the file cannot be written.
        MissingError: if a package is missing.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{path.parent} cannot be made: {error.strerror}"
        raise InputError(msg) from error
    spec, state = checkpoint.spec, {name: value.numpy() for name, value in checkpoint.state.items()}
    fused = fuse_state(state, spec) if settings.fuse else None
    deployed = _build(fused.spec, fused.state) if fused else checkpoint.build()
    metadata = ArtifactMetadata(
        model=name_of(spec),
        scale=spec.scale,
        receptive_radius=spec.receptive_radius,
        live_channels=spec.live_channels,
        fused=deployed.spec.fused,
        target=settings.target,
        weights_sha256=checkpoint.sha256,
        tools={"lkdn-deploy": __version__, "torch": version("torch"), "onnx": version("onnx")},
    )
    model = to_onnx(deployed, metadata, opset=settings.opset, static=settings.static)
    with publish(path) as part:
        part.write_bytes(model.SerializeToString())
        session = open_session(part, "ort-cpu")
        comparisons = verify(verification_inputs(spec, settings.static), session.run, _reference(checkpoint))
    return ExportReport(path, metadata, fused, comparisons)


def verification_inputs(spec: LkdnSpec, static: tuple[int, int] | None = None) -> dict[str, NDArray[np.float32]]:
    """What artefacts are compared on; none of these sizes is the one that was traced.

    Noise at an odd size, noise smaller than the receptive field (all of it within reach of the zero padding), and a
    photograph; with ``static``, noise and a photograph of that size.
    """
    random = np.random.default_rng(0)
    photograph = to_batch(sample_pixels())
    if static:
        rows, columns = (np.arange(size) % limit for size, limit in zip(static, photograph.shape[2:], strict=True))
        return {
            "noise": random.random((1, 3, *static), np.float32),
            "photograph": np.ascontiguousarray(photograph[:, :, rows][:, :, :, columns]),
        }
    small = max(1, spec.receptive_radius // 3)
    return {
        "noise": random.random((2, 3, 61, 83), np.float32),
        "smaller than the receptive field": random.random((1, 3, small, small + 2), np.float32),
        "photograph": photograph,
    }


def _build(spec: LkdnSpec, state: State) -> LKDN:
    network = LKDN(spec)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return network.eval()


def _reference(checkpoint: Checkpoint) -> Run:
    network = checkpoint.build()

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(torch.from_numpy(batch)).numpy()  # type: ignore[no-any-return]

    return run
