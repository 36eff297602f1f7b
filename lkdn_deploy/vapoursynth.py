"""Upscaling in VapourSynth: a function for clips, with the networks and engines of ``lkdn_deploy.load``.

A script may have these lines::

    import vapoursynth as vs
    from lkdn_deploy.vapoursynth import upscale

    clip = vs.core.bs.VideoSource("film.mkv").resize.Bicubic(format=vs.RGBS, matrix_in_s="709")
    upscale(clip, scale=2).resize.Bicubic(format=vs.YUV420P10, matrix_s="709").set_output()

Its errors are those of VapourSynth, so that players and editors show them.
"""

import os
from fractions import Fraction
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import LkdnError, UsageError
from lkdn_deploy.core.optional import missing, needs
from lkdn_deploy.hub.loading import load
from lkdn_deploy.imaging.pixels import Pixels, full_scale
from lkdn_deploy.runtime.upscaler import Upscaler

with needs("vapoursynth"):
    import vapoursynth as vs

_CONVERT = 'convert it first, such as with clip.resize.Bicubic(format=vs.RGBS, matrix_in_s="709")'


def upscale(
    clip: vs.VideoNode,
    model: str | os.PathLike[str] | None = None,
    scale: float | str | Fraction | None = None,
    **options: Any,
) -> vs.VideoNode:
    """Upscale the frames of a clip.

    Values of floats are clipped to 0..1. An alpha plane in the property ``_Alpha`` is upscaled with the colours, as the
    alpha of a picture.

    Args:
        clip: frames of RGB: RGBS, RGBH, RGB24 or RGB48, of one size, progressive.
        model: name of a network, or path of a file, as ``lkdn_deploy.load`` takes it.
        scale: upscaling factor, as ``lkdn_deploy.load`` takes it.
        options: the other arguments of ``lkdn_deploy.load``, such as ``backend``, ``fit`` and ``threads``.

    Returns:
        A clip of the same format, length and frame rate. Its frames have the properties of the clip's, but those that
        tell of YUV.

    Raises:
        vs.Error: if the clip is of another format, if the network or its engine is missing, or as ``load`` fails.
    """
    try:
        _check_clip(clip)
        upscaler = load(model, scale, **options)
        upscaler.check_size(clip.height, clip.width)
        height, width = upscaler.result_size(clip.height, clip.width)
    except LkdnError as error:
        raise _as_vapoursynth(error) from None
    except ImportError as error:
        if lacking := missing(error):
            raise _as_vapoursynth(lacking) from None
        raise
    large = clip.std.BlankClip(width=width, height=height, keep=True).std.CopyFrameProps(clip)
    # VapourSynth may ask for several frames at once, while a session has one memory, and all cores for each of them.
    return large.std.ModifyFrame([large, clip], partial(_frame, upscaler, Lock()))


def _check_clip(clip: vs.VideoNode) -> None:
    """Refuse what is not a clip of RGB with one format and size.

    Raises:
        UsageError: if it is not.
    """
    if not isinstance(clip, vs.VideoNode):
        msg = f"expected a clip of pictures, got {type(clip).__name__}"
        raise UsageError(msg)
    if clip.format is None or 0 in (clip.format.id, clip.width, clip.height):
        msg = "expected a clip of one format and size, got one in which they vary"
        raise UsageError(msg, "split it, or resize it to one size")
    kind = clip.format
    if kind.color_family != vs.RGB or (kind.sample_type == vs.INTEGER and kind.bits_per_sample not in (8, 16)):
        msg = f"expected a clip of RGBS, RGBH, RGB24 or RGB48, got {kind.name}"
        raise UsageError(msg, _CONVERT)


def _frame(upscaler: Upscaler, lock: Lock, n: int, f: list[vs.VideoFrame]) -> vs.VideoFrame:
    """Return a frame of the result from one that has its size and properties, and one of the clip.

    VapourSynth gives ``n`` and ``f`` by these names.

    Raises:
        vs.Error: if the frame is interlaced, holds values that are not finite, or the engine fails.
    """
    target, source = f[0].copy(), f[1]
    try:
        if target.props.get("_FieldBased", 0):
            msg = f"frame {n} is interlaced, and upscaling would keep its combs"
            raise UsageError(msg, "deinterlace the clip, or clear the mark with std.SetFieldBased(0)")
        pixels = _pixels(source)
        alpha = target.props.get("_Alpha")
        computed = np.dtype(np.float32) if pixels.dtype == np.float16 else pixels.dtype
        if alpha is not None:
            pixels = np.dstack([_converted(pixels, computed), _converted(_pixels(alpha), computed)])
        with lock:
            result = upscaler(_converted(pixels, computed))
    except LkdnError as error:
        raise _as_vapoursynth(error) from None
    _store(result[:, :, :3], target)
    if alpha is not None:
        large = vs.core.create_video_frame(alpha.format, target.width, target.height)
        _store(result[:, :, 3:], large)
        target.props["_Alpha"] = large
    target.props["_Matrix"] = vs.MATRIX_RGB
    target.props.pop("_ChromaLocation", None)
    return target


def _pixels(frame: vs.VideoFrame) -> NDArray[Any]:
    """Return a frame as (H, W, planes) of its own type."""
    return np.dstack([np.asarray(frame[plane]) for plane in range(frame.format.num_planes)])


def _store(pixels: Pixels, frame: vs.VideoFrame) -> None:
    for plane in range(frame.format.num_planes):
        target = np.asarray(frame[plane])
        target[:] = _converted(pixels[:, :, plane], target.dtype)


def _converted(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert values from the range of their type to that of another; floats are clipped to 0..1."""
    if values.dtype == dtype and np.issubdtype(dtype, np.integer):
        return values
    shares = np.clip(values.astype(np.float32) / np.float32(full_scale(values.dtype)), 0, 1)
    if np.issubdtype(dtype, np.integer):
        shares = np.rint(shares * np.float32(full_scale(dtype)))
    converted: NDArray[Any] = shares.astype(dtype)
    return converted


def _as_vapoursynth(error: LkdnError) -> vs.Error:
    return vs.Error(f"lkdn-deploy: {error}")
