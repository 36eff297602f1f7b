"""Interfaces between engines and the rooms above them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray


CLOSED = "the session is closed", "open the network again: load(...), or open_session(...)"
"""Message and hint of the error that using a session after ``close`` raises."""


@dataclass(frozen=True, slots=True)
class RangeUse:
    """The use of the ranges of values in fixed point, over some windows.

    Attributes:
        windows: number of windows.
        again: number of those that were computed in float32, since a value may have left its range.
        used: by layer, the largest share of its range that a value took; 1 is the end.
    """

    windows: int
    again: int
    used: "Mapping[str, float]"


class Session(Protocol):
    """An artefact opened on an engine, ready to run until it is closed."""

    @property
    def backend(self) -> str:
        """Engine and device in use, such as ``ort-cpu``."""
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
        """The artefact's description of itself."""
        ...

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """The only height and width that the artefact takes; ``None``: any up to ``largest``."""
        ...

    @property
    def largest(self) -> tuple[int, int] | None:
        """The largest height and width that the artefact takes; ``None``: no limit."""
        ...

    @property
    def window_step(self) -> int:
        """Divisor of the rows and columns at which windows must begin so that they give the whole image's values."""
        ...

    @property
    def window_halo(self) -> int:
        """Least halo of windows for the same purpose, in pixels; 0 if the receptive radius is enough."""
        ...

    def run(self, batch: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Upscale a batch: (N, 3, H, W) RGB in 0..1 -> (N, 3, scale * H, scale * W), not clipped.

        Raises:
            UsageError: if the artefact does not take this shape.
            InputError: if the engine fails.
            DeviceError: if the device fails; its subclass ``OutOfDeviceMemory`` if a smaller window may succeed.
        """
        ...

    def run_many(self, batches: "Iterable[NDArray[np.float32]]") -> "Generator[NDArray[np.float32], None, None]":
        """Yield ``run`` of each batch, in order; a session may take the next batches while it computes one.

        The generator must be exhausted or closed. A result may be overwritten once the next one is asked for.

        Raises:
            LkdnError: as ``run`` does, when the result is asked for.
        """
        ...

    def bytes_per_pixel(self) -> int:
        """Return the memory of a run, in bytes per LR pixel."""
        ...

    def window_bytes(self, height: int, width: int) -> int:
        """Return the memory of a run on a window of this size in LR pixels, in bytes."""
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

    def device_peak(self) -> tuple[int, str] | None:
        """Return the peak of allocated device memory since the process began, or since ``device_memory``.

        Returns:
            Bytes and the device's name; ``None`` if there is no such device, or it does not report its memory.
        """
        ...

    def range_use(self) -> RangeUse | None:
        """Return how the ranges of values were used since the last call; ``None`` unless it computes in fixed point."""
        ...

    def close(self) -> None:
        """Release what the session holds of the engine and the device: memory, threads, compiled code.

        Closing a session again does nothing. Whatever else is asked of a closed session is a ``UsageError``.

        Raises:
            DeviceError: if the device fails; nothing is left nevertheless.
        """
        ...


Part = tuple[slice, slice]
"""Rows and columns of a picture."""


@runtime_checkable
class PixelSession(Session, Protocol):
    """A session that can write 8-bit pixels itself."""

    def fill(self, batch: "NDArray[np.float32]", kept: Part, place: "NDArray[np.uint8]") -> None:
        """Write a part of ``run(batch)``, clipped and rounded to 8 bits, into (h, w, 3) of a picture.

        Args:
            batch: (1, 3, H, W).
            kept: rows and columns of the result, as many as ``place`` has.
            place: destination; its rows may be any distance apart.

        Raises:
            NonFiniteError: if a value is not finite; a part of ``place`` has been written by then.
            LkdnError: as ``run`` does.
        """
        ...


class SequentialSession(ABC):
    """Base of sessions that compute on the calling processor: nothing overlaps, and only memory limits the size."""

    largest: tuple[int, int] | None = None
    window_step = 1
    window_halo = 0
    on_cpu = True
    build_seconds: float | None = None
    closed = False

    def close(self) -> None:
        """Mark the session as closed, as ``Session.close`` does; sessions that hold something release it besides."""
        self.closed = True

    def check_open(self) -> None:
        """Refuse to go on with a closed session.

        Raises:
            UsageError: if it is closed.
        """
        if self.closed:
            raise UsageError(*CLOSED)

    @abstractmethod
    def run(self, batch: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Upscale a batch, as ``Session.run`` does."""

    @abstractmethod
    def bytes_per_pixel(self) -> int:
        """Return the memory of a run, as ``Session.bytes_per_pixel`` does."""

    def window_bytes(self, height: int, width: int) -> int:
        """Return the memory of a run, which is proportional to the window unless a session knows better."""
        return height * width * self.bytes_per_pixel()

    def run_many(self, batches: "Iterable[NDArray[np.float32]]") -> "Generator[NDArray[np.float32], None, None]":
        """Yield ``run`` of each batch, computed when its result is asked for."""
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

    def device_peak(self) -> tuple[int, str] | None:
        """Return ``None``: no memory of a device is known."""
        return None

    def range_use(self) -> RangeUse | None:
        """Return ``None``: values have no ranges."""
        return None
