"""What an artefact says of itself: the metadata inside an ``.onnx`` file, read by the runtime and nothing else."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from lkdn_deploy.core.errors import InputError

PREFIX = "lkdn."
FORMAT = 2


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
        for name, only in (("colour", "RGB"), ("value_range", "0..1"), ("size_multiple", 1)):
            if getattr(self, name) != only:
                msg = f"artefact metadata: this version runs {name} {only} only, got {getattr(self, name)!r}"
                raise InputError(msg, "install a newer lkdn-deploy, or export again with this one")

    def to_props(self) -> dict[str, str]:
        """As string pairs, values in JSON."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {f"{PREFIX}format": str(FORMAT)} | {
            f"{PREFIX}{name}": json.dumps(dict(value) if isinstance(value, Mapping) else value)
            for name, value in values.items()
        }

    @classmethod
    def from_props(cls, props: Mapping[str, str]) -> "ArtifactMetadata":
        """Read back ``to_props``; pairs of other tools are ignored.

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
            return cls(**{item.name: json.loads(props[PREFIX + item.name]) for item in fields(cls)})
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            msg = f"artefact metadata is damaged: {error}"
            raise InputError(msg, "export it again") from error
