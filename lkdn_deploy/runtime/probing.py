"""Finds out about a network what its file does not say: its scale, its range of values, its order of colours.

Flat pictures and a photograph are enlarged in each way that the network may be meant. A network that is fed as it was
trained leaves flat colours as they are, and comes closest to the photograph that was reduced for it. Where two
ranges do alike, nothing is guessed: the error says which option decides. Where two orders of colours do, RGB is taken,
and the finding says so.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.imaging.resample import downsample
from lkdn_deploy.samples import sample_pixels

Batch = NDArray[np.float32]
"""(N, 3, H, W)."""
Run = Callable[[Batch], NDArray[Any]]
"""A network, for values in its own range and order of colours."""

PEAKS = (1.0, 255.0)
LARGEST_SCALE = 8
MULTIPLES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)

_FLAT = np.array([(0.5, 0.5, 0.5), (0.1, 0.1, 0.1), (0.9, 0.9, 0.9), (0.8, 0.3, 0.1), (0.1, 0.3, 0.8), (0.2, 0.7, 0.3)])
_FLAT_ENOUGH = 0.03
"""Root mean square by which a network that makes pictures may change flat colours."""
_CLEARLY = 3.0
"""Least ratio of the changes that the wrong and the right range make."""
_CLEARLY_CLOSER = 0.3
"""Decibels by which the right range comes closer to the photograph, where flat colours do not tell."""
_AS_CLOSE = 0.02
"""Decibels by which the orders of colours may differ without a meaning."""


@dataclass(frozen=True, slots=True)
class Probed:
    """The result of probing a network."""

    scale: int
    multiple: int
    """Divisor that height and width must have."""
    peak: float
    """Upper end of the range of values."""
    bgr: bool
    reasons: tuple[str, ...]
    """A sentence for each finding."""


def probe(
    run: Run,
    *,
    size: tuple[int | None, int | None] = (None, None),
    peak: float | None = None,
    bgr: bool | None = None,
) -> Probed:
    """Find out how a network is used.

    Args:
        run: the network.
        size: height and width of its pictures, where only one will do.
        peak: the upper end of its values, if it is known.
        bgr: whether its colours begin with blue, if it is known.

    Raises:
        InputError: if it does not enlarge pictures by a whole number, or the range or order cannot be told.
    """
    scale, multiple, (height, width) = _scale(run, size)
    photograph = _photograph(height * scale, width * scale)
    reduced = downsample(photograph, scale).transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)

    def closeness(peak: float, *, bgr: bool = False) -> float:
        """Return how close the enlarged photograph comes, in decibels."""
        way = slice(None, None, -1 if bgr else 1)
        made = (run(reduced[:, way] * np.float32(peak)) / peak)[0, way].transpose(1, 2, 0).clip(0, 1)
        inside = (slice(scale, -scale),) * 2
        error = float(np.square(made - photograph / 255)[inside].mean())
        return -10 * math.log10(error + 1e-12) if math.isfinite(error) else -math.inf

    reasons = [f"it enlarges {scale} times"]
    if multiple > 1:
        reasons.append(f"it takes heights and widths that are multiples of {multiple}")
    if peak is None:
        flat = {each: _flatness(run, each, height, width) for each in PEAKS}
        peak, reason = _range(flat, {each: closeness(each) for each in PEAKS})
        reasons.append(reason)
    if bgr is None:
        worse = closeness(peak) - closeness(peak, bgr=True)
        compared = f"as BGR, a photograph comes out {abs(worse):.2f} dB {'better' if worse < 0 else 'worse'}"
        if worse < -_AS_CLOSE:
            msg = f"the order of colours cannot be told: {compared} than as RGB"
            raise InputError(msg, "say it with --bgr or --rgb")
        bgr = False
        sure = "are RGB" if worse > _AS_CLOSE else "are taken as RGB, whose order hardly matters (--bgr turns it)"
        reasons.append(f"colours {sure}: {compared}")
    return Probed(scale, multiple, peak, bgr, tuple(reasons))


def _scale(run: Run, size: tuple[int | None, int | None]) -> tuple[int, int, tuple[int, int]]:
    """Return the scale, the divisor of sizes, and a height and width that the network takes."""
    said = ""
    for multiple in MULTIPLES:
        # No multiples of twice as much, so that the divisor is the least one.
        odd = max(3, 40 // multiple | 1)
        height, width = (
            side or multiple * least for side, least in zip(size, (odd, odd + 10 // multiple * 2), strict=True)
        )
        try:
            made = run(np.full((1, 3, height, width), 0.5, np.float32)).shape
        except Exception as error:  # engines have errors of their own for sizes that do not fit
            said = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        else:
            scale = made[-1] // width
            if tuple(made) == (1, 3, scale * height, scale * width) and 1 <= scale <= LARGEST_SCALE:
                return scale, multiple, (height, width)
            said = f"it turned (1, 3, {height}, {width}) into ({', '.join(map(str, made))})"
        if None not in size:
            break
    msg = f"the network enlarges pictures of no size that was tried by a whole number up to {LARGEST_SCALE}: {said}"
    raise InputError(msg, "networks that enlarge otherwise cannot be used")


def _flatness(run: Run, peak: float, height: int, width: int) -> float:
    """Return the root mean square by which flat colours change in the middle, of 1."""
    errors = []
    for colour in _FLAT:
        flat = np.broadcast_to(colour[:, None, None].astype(np.float32), (1, 3, height, width))
        made = run(flat * np.float32(peak)) / peak
        rows, columns = made.shape[2] // 3, made.shape[3] // 3
        errors.append(made[0, :, rows:-rows, columns:-columns] - colour[:, None, None])
    error = float(np.sqrt(np.square(errors).mean()))
    return error if math.isfinite(error) else math.inf


def _range(flat: Mapping[float, float], close: Mapping[float, float]) -> tuple[float, str]:
    """Return the upper end of the range, and a sentence why.

    Args:
        flat: for each upper end, how much flat colours change.
        close: how close a photograph comes, in decibels.
    """
    right, wrong = sorted(PEAKS, key=lambda each: (flat[each], -close[each]))
    found = f"flat colours change by {flat[right]:.4f} in 0..{right:g} and by {flat[wrong]:.4f} in 0..{wrong:g}"
    if flat[right] <= _FLAT_ENOUGH:
        if flat[wrong] > _CLEARLY * (flat[right] + 1e-4):
            return right, f"values are 0..{right:g}: {found}"
        closer = close[right] - close[wrong]
        if closer > _CLEARLY_CLOSER:
            return right, f"values are 0..{right:g}: in 0..{wrong:g}, a photograph comes out {closer:.2f} dB worse"
        if flat[wrong] <= 1e-3 and abs(closer) < 1e-2:
            return 1.0, "values may be of any range: the network works alike in all"
    msg = f"the range of values cannot be told: {found}"
    raise InputError(msg, "say it with --range, 1 or 255")


def _photograph(height: int, width: int) -> NDArray[np.uint8]:
    """Return the middle of the sample, (H, W, 3), mirrored where that is too small."""
    sample = sample_pixels()
    for axis, side in enumerate((height, width)):
        missing = max(0, side - sample.shape[axis])
        pads = [(0, 0)] * 3
        pads[axis] = (missing // 2, missing - missing // 2)
        sample = np.pad(sample, pads, mode="symmetric")
    top, left = (sample.shape[0] - height) // 2, (sample.shape[1] - width) // 2
    return sample[top : top + height, left : left + width]
