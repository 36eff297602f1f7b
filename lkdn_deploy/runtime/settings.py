"""The settings that decide the bytes of an output, beside its input and the network.

They are alike for a file, a folder and a film.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.imaging.files.formats import BY_SUFFIX, format_for
from lkdn_deploy.imaging.resize import OutputSize


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """The settings of an output. What changes no byte of it, such as threads, does not belong here.

    Attributes:
        format: name of the output's format as its suffix without the dot; ``None``: the output's name chooses.
        quality: 1 to 100 for lossy formats; ``None``: the default.
        size: size of the output; ``None``: as the network's scale gives it.
        self_ensemble: whether it is the mean over all flips and rotations.
        wrap: whether the input is a texture that tiles.
    """

    format: str | None = None
    quality: int | None = None
    size: OutputSize | None = None
    self_ensemble: bool = False
    wrap: bool = False

    def __post_init__(self) -> None:
        if self.format is not None and f".{self.format}" not in BY_SUFFIX:
            msg = f"expected the format to be one of {', '.join(name[1:] for name in BY_SUFFIX)}, got {self.format!r}"
            raise UsageError(msg)

    def for_target(self, target: Path, *, many: bool = False) -> "OutputSettings":
        """Return the settings of one output, whose name has chosen its format.

        Args:
            target: the output.
            many: whether it is one of several, of which those in lossless formats ignore a quality.

        Raises:
            UsageError: if the suffix of ``target`` names no format.
        """
        kind = format_for(target)
        quality = None if many and not kind.lossy else self.quality
        return replace(self, format=kind.suffixes[0][1:], quality=quality)

    def canonical(self) -> str:
        """Return the settings as JSON, the same text for the same settings."""
        return json.dumps(asdict(self), sort_keys=True, default=str)
