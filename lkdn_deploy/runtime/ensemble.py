"""The geometric self-ensemble: the mean of what a network makes of the eight flips and rotations of a picture.

It is a session around a session (Lim et al., "Enhanced Deep Residual Networks", EDSR, CVPR-W 2017). It takes eight
times the work, and gains a few hundredths of a dB to two tenths. The mean is taken of the network's own values, before
they are clipped and rounded.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from itertools import count

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.protocols import RangeUse, Session

Floats = NDArray[np.float32]

TRANSFORMS = tuple((transposed, rows, columns) for transposed in (0, 1) for rows in (1, -1) for columns in (1, -1))
"""Whether axes are exchanged, after the rows and the columns were taken in these directions."""

_SUM_BYTES = 3 * (8 + 4)
"""Bytes for each pixel of the result: three channels of a sum in float64, and of their mean in float32."""


class EnsembleSession:
    """A session that gives the self-ensemble of another one, to which it otherwise refers.

    Its result for a flipped or transposed picture is the flipped or transposed result, bit for bit where the other
    session gives the same bits for the same input.

    Args:
        session: the network.

    Raises:
        UsageError: if it takes one size only, which is not square.
    """

    def __init__(self, session: Session) -> None:
        size = session.fixed_size
        if size is not None and size[0] != size[1]:
            msg = "the self-ensemble turns pictures by a quarter, but this artefact takes {1}x{0} pixels only".format(
                *size
            )
            raise UsageError(msg, "export it without --static, or for a square size")
        self.session = session

    @property
    def backend(self) -> str:
        """Engine and device in use."""
        return self.session.backend

    @property
    def on_cpu(self) -> bool:
        """Whether the network runs on the CPU."""
        return self.session.on_cpu

    @property
    def build_seconds(self) -> float | None:
        """Seconds that it took to build the engine."""
        return self.session.build_seconds

    @property
    def metadata(self) -> ArtifactMetadata:
        """The artefact's description of itself."""
        return self.session.metadata

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """The only height and width that the artefact takes, which are the same."""
        return self.session.fixed_size

    @property
    def largest(self) -> tuple[int, int] | None:
        """The largest height and width that the artefact takes in either direction."""
        largest = self.session.largest
        return largest and (min(largest), min(largest))

    @property
    def window_step(self) -> int:
        """Divisor of the rows and columns at which windows must begin."""
        return self.session.window_step

    @property
    def window_halo(self) -> int:
        """Least halo of windows."""
        return self.session.window_halo

    def run(self, batch: Floats) -> Floats:
        """Upscale a batch as ``Session.run`` does, eight times over.

        Raises:
            LkdnError: as the session does.
        """
        (result,) = self.run_many([batch])
        return result

    def run_many(self, batches: Iterable[Floats]) -> Generator[Floats, None, None]:
        """Yield ``run`` of each batch, in order.

        Raises:
            LkdnError: as the session does.
        """
        number, total = count(), np.empty(0)
        with closing(self.session.run_many(_all_transformed(batches))) as results:
            for result in results:
                index, step = divmod(next(number), len(TRANSFORMS))
                restored = _restored(result, _order(index)[step])
                if step == 0:
                    total = restored.astype(np.float64)
                else:
                    # The sum of eight values of float32 is exact in float64, so it does not depend on their order.
                    total += restored
                if step == len(TRANSFORMS) - 1:
                    total /= len(TRANSFORMS)
                    yield total.astype(np.float32)

    def bytes_per_pixel(self) -> int:
        """Return the memory of a run, in bytes per LR pixel."""
        return self.session.bytes_per_pixel() + _SUM_BYTES * self.metadata.scale**2

    def window_bytes(self, height: int, width: int) -> int:
        """Return the memory of a run on a window of this size in LR pixels, in bytes."""
        most = max(self.session.window_bytes(height, width), self.session.window_bytes(width, height))
        return most + _SUM_BYTES * self.metadata.scale**2 * height * width

    def inference_seconds(self, batch: Floats) -> float | None:
        """Return the sum of the session's ``inference_seconds`` over the eight pictures; ``None`` without a clock.

        Raises:
            LkdnError: as the session does.
        """
        seconds = [self.session.inference_seconds(each) for each in _all_transformed([batch])]
        return None if None in seconds else sum(filter(None, seconds))

    def device_memory(self, batch: Floats) -> tuple[int, str] | None:
        """Return the larger of the session's ``device_memory`` for the upright and the turned picture.

        Raises:
            LkdnError: as the session does.
        """
        upright = self.session.device_memory(batch)
        turned = self.session.device_memory(np.ascontiguousarray(batch.swapaxes(2, 3)))
        return None if upright is None or turned is None else max(upright, turned)

    def device_peak(self) -> tuple[int, str] | None:
        """Return the session's ``device_peak``."""
        return self.session.device_peak()

    def range_use(self) -> RangeUse | None:
        """Return the session's ``range_use``."""
        return self.session.range_use()

    def close(self) -> None:
        """Close the session."""
        self.session.close()


def _order(index: int) -> tuple[tuple[int, int, int], ...]:
    """Return the transforms of a batch in the order of their runs, which changes the window's shape but once.

    Engines prepare for a shape. The batch before has ended with the shape that this one begins with.
    """
    return TRANSFORMS if index % 2 == 0 else TRANSFORMS[::-1]


def _all_transformed(batches: Iterable[Floats]) -> Iterator[Floats]:
    for index, batch in enumerate(batches):
        for transposed, rows, columns in _order(index):
            flipped = batch[:, :, ::rows, ::columns]
            yield np.ascontiguousarray(flipped.swapaxes(2, 3) if transposed else flipped)


def _restored(result: Floats, transform: tuple[int, int, int]) -> Floats:
    """Undo a transform on a result."""
    transposed, rows, columns = transform
    return (result.swapaxes(2, 3) if transposed else result)[:, :, ::rows, ::columns]
