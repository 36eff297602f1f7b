"""Clips of VapourSynth from arrays, and arrays from clips."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import vapoursynth as vs
from numpy.typing import NDArray

Frame = NDArray[Any]


def clip_of(frames: Sequence[Frame], kind: vs.PresetVideoFormat, **properties: Any) -> vs.VideoNode:
    """Return a clip of frames, (H, W, 3) of the type that belongs to the format."""
    height, width, _ = frames[0].shape
    blank = vs.core.std.BlankClip(format=kind, width=width, height=height, length=len(frames), fpsnum=25, fpsden=2)

    def filled(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        target = f.copy()
        for plane in range(3):
            np.asarray(target[plane])[:] = frames[n][:, :, plane]
        return target

    return blank.std.ModifyFrame(blank, filled).std.SetFrameProps(**properties)


def pixels(frame: vs.VideoFrame) -> Frame:
    """Return a frame as (H, W, planes)."""
    return np.dstack([np.asarray(frame[plane]) for plane in range(frame.format.num_planes)])
