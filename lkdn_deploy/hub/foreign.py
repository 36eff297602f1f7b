"""ONNX files of other programs: what they do not say is found out, and they become artefacts that do."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lkdn_deploy import __version__
from lkdn_deploy.backends.onnx_bytes import Artifact, parse_artifact, reading
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.cache import Store
from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.optional import import_engine, needs

if TYPE_CHECKING:
    from lkdn_deploy.runtime.probing import Batch, Run

STORE = Store("foreign", ".onnx")

TRIED = (40, 48, 192)
"""Heights and widths of which a network of any size has to take one."""
UNKNOWN_LIVE_CHANNELS = 4096
"""Values alive at once for each pixel that are assumed where the graph does not tell: more than most networks have."""


@dataclass(frozen=True, slots=True)
class Hints:
    """Facts that a user knows about a file of another program; ``None`` is found out."""

    peak: float | None = None
    """Upper end of the range of values."""
    bgr: bool | None = None
    """Whether colours begin with blue."""

    @property
    def any(self) -> bool:
        """Whether something is known."""
        return self.peak is not None or self.bgr is not None


def adopt(path: Path, data: bytes, hints: Hints, told: Callable[[str], None]) -> Artifact:
    """Return the artefact that computes what a file of another program does.

    It is made once and kept in the user's cache.

    Args:
        path: the file, for messages and for the network's name.
        data: its content, which refers to no other file.
        hints: what is known about it.
        told: called with a sentence for each finding, when the artefact is made.

    Raises:
        InputError: if it is no network for pictures, or what it needs cannot be told.
        MissingError: if a package is missing.
    """
    name = f"{hashlib.sha256(data).hexdigest()}-{hints.peak}-{hints.bgr}-{__version__}"
    if kept := STORE.load(name):
        return parse_artifact(path, kept[1])
    with reading(path):
        try:
            content = _adopted(path, data, hints, told)
        except LkdnError as error:
            msg = f"{path}: {error.message}"
            raise type(error)(msg, error.hint) from error
    STORE.write(name, content)
    return parse_artifact(path, content)


def _adopted(path: Path, data: bytes, hints: Hints, told: Callable[[str], None]) -> bytes:
    with needs("native"):
        import onnx

        from lkdn_deploy.graph.interface import adapted, read_interface, smallest_side, takes
        from lkdn_deploy.graph.liveness import live_channels
        from lkdn_deploy.graph.pipeline import serialize
        from lkdn_deploy.graph.radius import receptive_radius

    from lkdn_deploy.runtime.probing import probe

    model = onnx.load_from_string(data)
    interface = read_interface(model)
    size = interface.height, interface.width
    plain = adapted(model, interface)
    tried = [tuple(side or free for side in size) for free in TRIED]
    if not any(takes(plain, *sides) for sides in tried):
        msg = "its operations do not fit pictures of {1}x{0}".format(*tried[0])
        raise InputError(msg, "networks that need larger pictures cannot be used")
    luma = interface.channels == 1
    if luma and hints.bgr is not None:
        msg = "it takes luma, which has no order of colours"
        raise InputError(msg, "leave out --bgr and --rgb")
    run = _runner(plain.SerializeToString(), interface.channels)
    found = probe(run, size=size, peak=hints.peak, bgr=False if luma else hints.bgr)
    ours = adapted(model, interface, peak=found.peak, bgr=found.bgr, scale=found.scale)
    radius = receptive_radius(ours, found.multiple)
    metadata = ArtifactMetadata(
        model="".join(letter for letter in path.stem if letter.isprintable()) or "network",
        scale=found.scale,
        receptive_radius=radius.pixels,
        live_channels=live_channels(ours) or UNKNOWN_LIVE_CHANNELS,
        fused=False,
        precision="fp16" if interface.half else "fp32",
        smallest=1 if None not in size else smallest_side(ours, found.multiple),
        size_multiple=found.multiple,
        weights_sha256=hashlib.sha256(data).hexdigest(),
    )
    exact = f"its tiles are exact: pixels depend on others within {radius.pixels}"
    for line in (
        f"its input is {interface}",
        *found.reasons,
        *(
            ["it takes luma, 16..235 of 255 as in MATLAB's YCbCr; a bicubic filter enlarges the colours"]
            if luma
            else []
        ),
        f"its tiles cannot be exact: {radius.reason}" if radius.pixels is None else exact,
    ):
        told(f"{path}: {line}")
    return serialize(ours, metadata)


def _runner(data: bytes, channels: int) -> "Run":
    """Return a graph on ONNX Runtime, as a function of one picture at a time; one of luma works on each colour."""
    import numpy as np

    ort = import_engine("onnxruntime", "cpu")
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what fails here is tried otherwise
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(batch: "Batch") -> Any:
        parts = np.split(np.ascontiguousarray(batch), 3 // channels, axis=1)
        return np.concatenate([session.run(None, {name: np.ascontiguousarray(it)})[0] for it in parts], axis=1)

    return run
