"""Sizes of results that are no multiple of the picture's, and the filter that reduces a network's result to them.

The filter is the antialiased bicubic: Keys' cubic with a = -0.5, stretched to the ratio of the sizes, with the picture
mirrored beyond its edges. It is that of ``resample``, which defines the low-resolution images of this field, so that a
reduced result of a network stays what the network was trained to give. It works in float32 and rounds once, at the end.
"""

import math
import re
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.imaging.pixels import Pixels, full_scale
from lkdn_deploy.imaging.resample import taps

Floats = NDArray[np.float32]

MAX_SCALE = 4
"""The largest scale of a result."""

_SCALE = re.compile(r"(\d{1,3}(?:\.\d{1,18})?|\.\d{1,18})|(\d{1,6})/([1-9]\d{0,5})", re.ASCII)

_CHUNK = 1 << 19  # samples that are held as float32 beside the rows that the filter spans


def parse_scale(value: str | float | Fraction) -> Fraction:
    """Return a scale: a number, a text with a decimal number such as ``1.5``, or one with a fraction such as ``4/3``.

    Raises:
        UsageError: if it is neither, not above 1, or above ``MAX_SCALE``.
    """
    match = _SCALE.fullmatch(str(value).strip())
    scale = match and (Fraction(match[1]) if match[1] else Fraction(int(match[2]), int(match[3])))
    if not scale or not 1 < scale <= MAX_SCALE:
        msg = f"expected a scale above 1 and at most {MAX_SCALE}, such as 2, 1.5 or 4/3, got {value!r}"
        raise UsageError(msg)
    return scale


@dataclass(frozen=True, slots=True)
class OutputSize:
    """The size of results: exactly one of its attributes is given. The aspect of the picture is kept.

    Attributes:
        scale: factor of both sides, above 1; sides are rounded to the nearest whole number of pixels.
        width: width of results in pixels.
        height: height of results in pixels.
        fit: width and height in pixels of a box into which results fit exactly in one direction.

    Raises:
        UsageError: if none or more than one is given, or one is out of range.
    """

    scale: Fraction | None = None
    width: int | None = None
    height: int | None = None
    fit: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        given = [name for name in self.__slots__ if getattr(self, name) is not None]
        if len(given) != 1:
            msg = "one of scale, width, height and fit chooses the size of results, got "
            msg += " and ".join(given) or "none"
            raise UsageError(msg, "to bound both width and height, use fit")
        if self.scale is not None and not 1 < self.scale <= MAX_SCALE:
            msg = f"expected a scale above 1 and at most {MAX_SCALE}, got {self.scale}"
            raise UsageError(msg)
        if any(side is not None and side < 1 for side in (self.width, self.height, *(self.fit or ()))):
            msg = f"expected a width and height of 1 pixel or more, got {self}"
            raise UsageError(msg)

    def __str__(self) -> str:
        if self.fit is not None:
            return "fit {}x{}".format(*self.fit)
        (text,) = (f"{name} {value}" for name in self.__slots__ if (value := getattr(self, name)) is not None)
        return text

    def ratio(self, width: int, height: int) -> Fraction:
        """Return the factor by which a picture of this size is enlarged: 1 to ``MAX_SCALE``.

        Raises:
            UsageError: if it would be below or above.
        """
        if self.scale is not None:
            return self.scale
        if self.fit is not None:
            found = min(Fraction(self.fit[0], width), Fraction(self.fit[1], height))
        else:
            found = Fraction(self.width, width) if self.width is not None else Fraction(self.height or 1, height)
        if not 1 <= found <= MAX_SCALE:
            msg = f"a picture of {width}x{height} pixels cannot get the size '{self}': that would be "
            msg += f"{float(found):.4g} times its size, and results are 1 to {MAX_SCALE} times"
            hint = "shrink it with another program" if found < 1 else "upscale the result once more"
            raise UsageError(msg, hint)
        return found

    def of(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height of the result for a picture of this size.

        Raises:
            UsageError: as ``ratio`` does.
        """
        ratio = self.ratio(width, height)
        return math.floor(ratio * width + Fraction(1, 2)), math.floor(ratio * height + Fraction(1, 2))

    def network_scale(self, width: int, height: int, scales: Sequence[int]) -> int:
        """Return the smallest of a network's scales whose result for a picture of this size is no smaller than wanted.

        Raises:
            UsageError: as ``ratio`` does, or if all scales are too small.
        """
        ratio = self.ratio(width, height)
        found = min((scale for scale in scales if scale >= ratio), default=None)
        if found is None:
            has = " and ".join(f"x{scale}" for scale in sorted(scales))
            msg = f"x{float(ratio):.4g} is wanted of {width}x{height} pixels, but the network has {has} only"
            raise UsageError(msg, "choose a smaller size, or a network of a larger scale")
        return found


def reduce_bands(
    bands: Iterable[Pixels], source: tuple[int, int], target: tuple[int, int], *, wrap: bool = False
) -> Generator[Pixels, None, None]:
    """Reduce a picture that comes in bands of rows, and yield the result in bands of rows.

    The result does not depend on the heights of the bands. Only the rows that the filter spans are held, unless
    ``wrap`` is set: then the first row of the result needs the last one of the picture.

    Args:
        bands: the picture from top to bottom, (h, W, C) of uint8, uint16, or float32 in 0..1. C is 1 grey, 2 grey and
            alpha, 3 RGB or 4 RGBA, with straight alpha. Colours are weighted by alpha, so that those of transparent
            pixels do not bleed into visible ones; where the result is transparent, they are reduced without.
        source: height and width of the picture.
        target: height and width of the result, at most those of the picture.
        wrap: whether the picture goes on at the opposite edge, as in a texture that tiles, instead of being mirrored.
    """
    if source == target:
        yield from bands
        return
    columns = _Columns(source[1], target[1], wrap=wrap)
    index, weights = taps(source[0], Fraction(target[0], source[0]), wrap=wrap)
    weights = weights.astype(np.float32)
    needed = np.maximum.accumulate(index.max(axis=1))
    still_needed = np.minimum.accumulate(index.min(axis=1)[::-1])[::-1]
    held: deque[Floats] = deque()
    first = done = 0  # the row of the picture that is held first, and the rows of the result that are done
    for chunk in _chunks(bands):
        held.extend(_planes(chunk))
        ready = int(np.searchsorted(needed[done:], first + len(held))) + done if not wrap else done
        if wrap and first + len(held) == source[0]:
            ready = target[0]
        step = max(_CHUNK // held[0].size, 1)
        for start in range(done, ready, step):
            rows = range(start, min(start + step, ready))
            reduced = np.stack([_weighted([held[at - first] for at in index[row]], weights[row]) for row in rows])
            yield _pixels(columns(reduced), chunk.shape[2], chunk.dtype)
        done = ready
        while held and (done == target[0] or first < still_needed[done]):
            held.popleft()
            first += 1


def _chunks(bands: Iterable[Pixels]) -> Generator[Pixels, None, None]:
    """Cut bands so that few samples at a time become float32."""
    for band in bands:
        step = max(_CHUNK // (band.shape[1] * band.shape[2]), 1)
        yield from (band[top : top + step] for top in range(0, len(band), step))


def _planes(band: Pixels) -> Floats:
    """Return what is filtered of a band: (h, planes, W), the channels, or with alpha those that it weights besides."""
    planes = np.ascontiguousarray(band.transpose(0, 2, 1), dtype=np.float32)
    if band.shape[2] in (1, 3):
        return planes
    colour, alpha = planes[:, :-1], planes[:, -1:]
    return np.concatenate([colour, alpha, colour * (alpha / np.float32(full_scale(band.dtype)))], axis=1)


def _pixels(planes: Floats, channels: int, dtype: np.dtype[np.generic]) -> Pixels:
    """Return the band of pixels that filtered planes stand for."""
    peak = np.float32(full_scale(dtype))
    if channels in (2, 4):
        colour, alpha, weighted = planes[:, : channels - 1], planes[:, channels - 1 : channels], planes[:, channels:]
        least = np.float32(0.5 if np.issubdtype(dtype, np.integer) else 1e-6)  # of an alpha that does not become 0
        visible = alpha > least
        colour = np.where(visible, weighted * (peak / np.where(visible, alpha, peak)), colour)
        planes = np.concatenate([colour, alpha], axis=1)
    planes = np.clip(planes, 0, peak)
    if np.issubdtype(dtype, np.integer):
        np.rint(planes, out=planes)
    band: Pixels = np.ascontiguousarray(planes.transpose(0, 2, 1).astype(dtype))
    return band


def _weighted(rows: list[Floats], weights: Floats) -> Floats:
    """Return the weighted sum of rows, added up in their order: the same bits whatever else is computed beside it."""
    total: Floats = rows[0] * weights[0]
    product = np.empty_like(total)
    for row, weight in zip(rows[1:], weights[1:], strict=True):
        if weight:
            total += np.multiply(row, weight, out=product)
    return total


class _Columns:
    """Reduces the width of rows.

    Pillow's filter is the same but for the edges, which it leaves out; so it gets rows that are longer by its reach.
    """

    def __init__(self, source: int, target: int, *, wrap: bool) -> None:
        self._source, self._target = source, target
        self._reach = math.ceil(2 * source / target) + 1
        around = np.arange(-self._reach, source + self._reach)
        mirrored = np.mod(around, 2 * source)
        self._index = np.mod(around, source) if wrap else np.minimum(mirrored, 2 * source - 1 - mirrored)

    def __call__(self, planes: Floats) -> Floats:
        """Reduce (h, planes, W)."""
        if self._source == self._target:
            return planes
        rows, channels, _ = planes.shape
        image = Image.fromarray(planes[:, :, self._index].reshape(rows * channels, -1))
        box = (self._reach, 0, self._reach + self._source, image.height)
        reduced = image.resize((self._target, image.height), Image.Resampling.BICUBIC, box)
        result: Floats = np.asarray(reduced).reshape(rows, channels, self._target)
        return result
