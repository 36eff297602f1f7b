"""What a backend must offer."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lkdn_deploy.core.artifact import ArtifactMetadata

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Session(Protocol):
    """An artefact made ready to run."""

    @property
    def backend(self) -> str:
        """The engine and device really used, such as ``ort-cpu``."""
        ...

    @property
    def metadata(self) -> ArtifactMetadata:
        """What the artefact says of itself."""
        ...

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """Height and width, if the artefact takes only these."""
        ...

    def run(self, batch: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """(N, 3, H, W) RGB in 0..1 -> (N, 3, scale * H, scale * W), not clipped.

        Raises:
            UsageError: if the artefact does not take this shape.
            InputError: if the engine fails.
        """
        ...

    def bytes_per_pixel(self) -> int:
        """Memory that a run takes, in bytes a LR pixel."""
        ...


class Backend(Protocol):
    """Opens artefacts on one engine."""

    def __call__(self, artefact: Path, *, threads: int | None = None) -> Session:
        """Open ``artefact`` with so many threads (``None``: the engine's choice).

        Raises:
            MissingError: if the engine or its device is not there.
            InputError: if the file is not an artefact.
        """
        ...
