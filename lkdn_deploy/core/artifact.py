"""What an artefact says of itself: the metadata inside an ``.onnx`` file, read by the runtime and nothing else."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, get_args

from lkdn_deploy.core.errors import InputError

PREFIX = "lkdn."
FORMAT = 2

Io = Literal["fp32", "fp16", "uint8"]
"""What an artefact's input and output hold: floats for 0..1, or 8-bit levels for the same."""
IOS: tuple[Io, ...] = get_args(Io)

_LATER = {"io", "islands", "peak", "peak_at", "ranges"}
"""Facts that files of this format have lacked: the first versions wrote FP32 only, of which the defaults are true."""


@dataclass(frozen=True, slots=True)
class ArtifactMetadata:
    """Facts about a deployed network.

    Raises:
        InputError: if a value is out of range; artefacts are files, and files are not trusted.
    """

    model: str
    """Name in the zoo, or one made of its widths."""
    scale: int
    receptive_radius: int | None
    """Distance in LR pixels beyond which nothing can change an output pixel: the halo of an exact tile. ``None``: every
    pixel depends on the whole picture, and tiles are not exact."""
    live_channels: int
    """Values alive at once at the worst moment, for each LR pixel: an estimate of memory."""
    fused: bool
    target: str = "plain"
    colour: str = "RGB"
    value_range: str = "0..1"
    precision: str = "fp32"
    smallest: int = 1
    """The least height and width that the network takes."""
    size_multiple: int = 1
    """Height and width must be multiples of it."""
    weights_sha256: str = ""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Versions of what made the artefact."""
    io: Io = "fp32"
    """Of the file; a session takes and gives float32 in 0..1 whatever it is."""
    islands: Mapping[str, int] = field(default_factory=dict)
    """Of an FP16 artefact: how many operations are in FP32, by reason."""
    peak: float | None = None
    """Of an FP16 artefact: the largest absolute value seen that it holds in FP16, which ends at 65504."""
    peak_at: str = ""
    """The tensor that had it."""
    ranges: Mapping[str, float] = field(default_factory=dict)
    """Of an FP16 artefact: the largest absolute value seen of each tensor that it holds in FP16."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("scale", 1, 8),
            ("receptive_radius", 0, 4096),
            ("live_channels", 1, 1 << 20),
            ("smallest", 1, 64),
            ("size_multiple", 1, 256),
        ):
            value = getattr(self, name)
            if value is None and name == "receptive_radius":
                continue
            if type(value) is not int or not low <= value <= high:
                msg = f"artefact metadata: {name} must be between {low} and {high}, got {value!r}"
                raise InputError(msg)
        if not isinstance(self.model, str) or not self.model.isprintable() or not isinstance(self.fused, bool):
            msg = f"artefact metadata: expected a name and whether it is fused, got {self.model!r} and {self.fused!r}"
            raise InputError(msg)
        texts = (self.target, self.precision, self.weights_sha256)
        if not all(isinstance(text, str) for text in texts) or not isinstance(self.tools, Mapping):
            msg = "artefact metadata: target, precision and the weights' hash are texts, tools are a table"
            raise InputError(msg)
        if self.io not in IOS:
            msg = f"artefact metadata: io is one of {', '.join(IOS)}, got {self.io!r}"
            raise InputError(msg, "install a newer lkdn-deploy, or export again with this one")
        if not isinstance(self.islands, Mapping) or not all(type(count) is int for count in self.islands.values()):
            msg = f"artefact metadata: islands are counted by reason, got {self.islands!r}"
            raise InputError(msg)
        if not isinstance(self.ranges, Mapping) or not all(map(_is_size, self.ranges.values())):
            msg = "artefact metadata: ranges are numbers by tensor"
            raise InputError(msg)
        number = self.peak is None or _is_size(self.peak)
        if not number or not isinstance(self.peak_at, str):
            msg = f"artefact metadata: the peak is a number and a tensor's name, got {self.peak!r}, {self.peak_at!r}"
            raise InputError(msg)
        for name, only in (("colour", "RGB"), ("value_range", "0..1"), ("size_multiple", 1)):
            if getattr(self, name) != only:
                msg = f"artefact metadata: this version runs {name} {only} only, got {getattr(self, name)!r}"
                raise InputError(msg, "install a newer lkdn-deploy, or export again with this one")

    @property
    def margin(self) -> float | None:
        """How many times more than the peak fits into FP16."""
        return 65504 / self.peak if self.peak else None

    def to_props(self) -> dict[str, str]:
        """As string pairs, values in JSON."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {f"{PREFIX}format": str(FORMAT)} | {
            f"{PREFIX}{name}": json.dumps(dict(value) if isinstance(value, Mapping) else value)
            for name, value in values.items()
        }

    @classmethod
    def from_props(cls, props: Mapping[str, str]) -> "ArtifactMetadata":
        """Read back ``to_props``; pairs of other tools are ignored, and facts of ``_LATER`` may be missing.

        Raises:
            InputError: if they are not there, of another format, or not valid.
        """
        if f"{PREFIX}format" not in props:
            msg = "the file says nothing of scale and tiles: it was not made by lkdn-export"
            raise InputError(msg, "export its checkpoint with: lkdn-export --fuse --onnx --weights FILE")
        if props[f"{PREFIX}format"] != str(FORMAT):
            msg = f"artefact format {props[f'{PREFIX}format']!r} is not known, this version reads {FORMAT}"
            raise InputError(msg, "export it again with this version of lkdn-deploy")
        try:
            names = [item.name for item in fields(cls) if item.name not in _LATER or PREFIX + item.name in props]
            return cls(**{name: json.loads(props[PREFIX + name]) for name in names})
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            msg = f"artefact metadata is damaged: {error}"
            raise InputError(msg, "export it again") from error


def _is_size(value: object) -> bool:
    """A number of 0 or more."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
