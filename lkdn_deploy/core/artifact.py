"""The description that an artefact carries in its ``.onnx`` file, on which the runtime relies alone."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from lkdn_deploy.core.errors import InputError

PREFIX = "lkdn."
FORMAT = 2

Io = Literal["fp32", "fp16", "uint8"]
"""Type of an artefact's input and output: floats in 0..1, or 8-bit levels for the same range."""
IOS: tuple[Io, ...] = get_args(Io)

_OPTIONAL = {"io", "islands", "peak", "peak_at", "ranges"}
"""Facts that the first files of this format lack: those files are FP32, which the defaults describe."""

_LIMITS = {
    "scale": (1, 8),
    "receptive_radius": (0, 4096),
    "live_channels": (1, 1 << 20),
    "smallest": (1, 64),
    "size_multiple": (1, 256),
}
_ONLY = {"colour": "RGB", "value_range": "0..1"}
_UPDATE = "install a newer lkdn-deploy, or export again with this one"


@dataclass(frozen=True, slots=True)
class ArtifactMetadata:
    """Facts about a deployed network.

    Raises:
        InputError: if a value is out of range; artefacts are files, and files are not trusted.
    """

    model: str
    """Name in the zoo, or a name made of the network's widths."""
    scale: int
    receptive_radius: int | None
    """Distance in LR pixels beyond which an input pixel cannot change an output pixel: the halo of an exact tile.
    ``None``: every output pixel depends on the whole picture, and tiles are not exact."""
    live_channels: int
    """Peak number of live values per LR pixel, from which memory is estimated."""
    fused: bool
    target: str = "plain"
    colour: str = "RGB"
    value_range: str = "0..1"
    precision: str = "fp32"
    smallest: int = 1
    """The smallest height and width that the network takes, in LR pixels."""
    size_multiple: int = 1
    """Divisor that height and width must have, and the places of exact tiles."""
    weights_sha256: str = ""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Versions of the programs that made the artefact."""
    io: Io = "fp32"
    """Type of input and output in the file; a session takes and gives float32 in 0..1 all the same."""
    islands: Mapping[str, int] = field(default_factory=dict)
    """Number of operations that an FP16 artefact keeps in FP32, by reason."""
    peak: float | None = None
    """Largest absolute value seen in a tensor that an FP16 artefact holds in FP16, whose limit is 65504."""
    peak_at: str = ""
    """Name of that tensor."""
    ranges: Mapping[str, float] = field(default_factory=dict)
    """Largest absolute value seen in each tensor that an FP16 artefact holds in FP16."""

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if (value is not None or name != "receptive_radius") and not (type(value) is int and low <= value <= high):
                expected = f"{name} must be between {low} and {high}"
                raise _invalid(expected, value)
        texts = (self.target, self.precision, self.weights_sha256, self.peak_at)
        for fits, expected, value in (
            (isinstance(self.model, str) and self.model.isprintable(), "model must be a printable name", self.model),
            (isinstance(self.fused, bool), "fused must be true or false", self.fused),
            (all(isinstance(text, str) for text in texts), "target, precision, hash and tensor must be texts", texts),
            (isinstance(self.tools, Mapping), "tools must be a table", self.tools),
            (self.io in IOS, f"io must be one of {', '.join(IOS)}", self.io),
            (_is_table(self.islands, lambda count: type(count) is int), "islands must be counts", self.islands),
            (_is_table(self.ranges, _is_size), "ranges must be numbers by tensor", self.ranges),
            (self.peak is None or _is_size(self.peak), "peak must be a number", self.peak),
        ):
            if not fits:
                raise _invalid(expected, value)
        for name, only in _ONLY.items():
            if getattr(self, name) != only:
                msg = f"artefact metadata: this version runs {name} {only} only, got {getattr(self, name)!r}"
                raise InputError(msg, _UPDATE)

    def to_props(self) -> dict[str, str]:
        """Return the facts as string pairs for ``metadata_props``, with values in JSON."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {f"{PREFIX}format": str(FORMAT)} | {
            f"{PREFIX}{name}": json.dumps(dict(value) if isinstance(value, Mapping) else value)
            for name, value in values.items()
        }

    @classmethod
    def from_props(cls, props: Mapping[str, str]) -> "ArtifactMetadata":
        """Read the result of ``to_props``; pairs of other tools are ignored, and facts of ``_OPTIONAL`` may be missing.

        Raises:
            InputError: if the facts are missing, of another format, or not valid.
        """
        if f"{PREFIX}format" not in props:
            msg = "the file does not describe its scale and tiles: it was not made by lkdn-export"
            raise InputError(msg, "export its checkpoint with: lkdn-export --fuse --onnx --weights FILE")
        if props[f"{PREFIX}format"] != str(FORMAT):
            msg = f"artefact format {props[f'{PREFIX}format']!r} is not known, this version reads {FORMAT}"
            raise InputError(msg, "export it again with this version of lkdn-deploy")
        try:
            names = [item.name for item in fields(cls) if item.name not in _OPTIONAL or PREFIX + item.name in props]
            return cls(**{name: json.loads(props[PREFIX + name]) for name in names})
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            msg = f"artefact metadata is damaged: {error}"
            raise InputError(msg, "export it again") from error


def _invalid(expected: str, value: object) -> InputError:
    return InputError(f"artefact metadata: {expected}, got {value!r}", _UPDATE)


def _is_table(value: object, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, Mapping) and all(map(fits, value.values()))


def _is_size(value: object) -> bool:
    """Return whether the value is a number of 0 or more."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max
