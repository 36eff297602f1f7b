"""What a backend must offer."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lkdn_deploy.core.artifact import ArtifactMetadata

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    import numpy as np
    from numpy.typing import NDArray


class Session(Protocol):
    """An artefact made ready to run."""

    @property
    def backend(self) -> str:
        """The engine and device really used, such as ``ort-cpu``."""
        ...

    @property
    def on_cpu(self) -> bool:
        """Whether the network runs on the CPU."""
        ...

    @property
    def build_seconds(self) -> float | None:
        """Seconds that it took to build the engine, or ``None`` if opening the session is all that it takes."""
        ...

    @property
    def metadata(self) -> ArtifactMetadata:
        """What the artefact says of itself."""
        ...

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """Height and width, if the artefact takes only these."""
        ...

    @property
    def largest(self) -> tuple[int, int] | None:
        """The greatest height and width that it takes; ``None``: any."""
        ...

    def run(self, batch: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """(N, 3, H, W) RGB in 0..1 -> (N, 3, scale * H, scale * W), not clipped.

        Raises:
            UsageError: if the artefact does not take this shape.
            InputError: if the engine fails.
            DeviceError: if the device does; ``OutOfDeviceMemory``, if a smaller window may succeed.
        """
        ...

    def run_many(self, batches: "Iterable[NDArray[np.float32]]") -> "Generator[NDArray[np.float32], None, None]":
        """``run`` of each, in order; a session may take the next batches while it computes one.

        To be taken to the end, or closed. A result is the caller's until the next is asked for: then its memory may be
        used again.

        Raises:
            LkdnError: as ``run`` does, when the result is asked for.
        """
        ...

    def bytes_per_pixel(self) -> int:
        """Memory that a run takes, in bytes a LR pixel."""
        ...

    def inference_seconds(self, batch: "NDArray[np.float32]") -> float | None:
        """Run a batch and return the seconds of its inference, without copies, as the device itself measures them.

        Returns:
            ``None``, after the run, if the session has no such clock.

        Raises:
            LkdnError: as ``run`` does.
        """
        ...

    def device_memory(self, batch: "NDArray[np.float32]") -> tuple[int, str] | None:
        """Run a batch and return the peak of allocated device memory in bytes, with the device's name.

        Returns:
            ``None``, after the run, if there is no such device, or it does not report its memory.

        Raises:
            LkdnError: as ``run`` does.
        """
        ...


Part = tuple[slice, slice]
"""Rows and columns of a picture, from where to where."""


@runtime_checkable
class PixelSession(Session, Protocol):
    """One that makes pixels itself."""

    def fill(self, batch: "NDArray[np.float32]", kept: Part, place: "NDArray[np.uint8]") -> None:
        """Put a part of ``run(batch)``, clipped and rounded to 8 bits, into (h, w, 3) of a picture.

        Args:
            batch: (1, 3, H, W).
            kept: rows and columns of the result, as many as ``place`` has.
            place: its rows may be any distance apart.

        Raises:
            NonFiniteError: if a value is none; a part of ``place`` is filled by then.
            LkdnError: as ``run`` does.
        """
        ...


class InTurn(ABC):
    """A session on the processor that calls it: there is nothing to overlap, and no limit but memory."""

    largest: tuple[int, int] | None = None
    on_cpu = True
    build_seconds: float | None = None

    @abstractmethod
    def run(self, batch: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """See ``Session``."""

    def run_many(self, batches: "Iterable[NDArray[np.float32]]") -> "Generator[NDArray[np.float32], None, None]":
        """``run`` of each, when its result is asked for."""
        for batch in batches:
            yield self.run(batch)

    def inference_seconds(self, batch: "NDArray[np.float32]") -> float | None:
        """Run a batch, and return ``None``: the caller's clock is as good."""
        self.run(batch)
        return None

    def device_memory(self, batch: "NDArray[np.float32]") -> tuple[int, str] | None:
        """Run a batch, and return ``None``: its memory is not known."""
        self.run(batch)
        return None


class Backend(Protocol):
    """Opens artefacts on one engine."""

    def __call__(self, artefact: Path, *, threads: int | None = None) -> Session:
        """Open ``artefact`` with so many threads (``None``: the engine's choice).

        Raises:
            MissingError: if the engine or its device is not there.
            InputError: if the file is not an artefact.
        """
        ...
