"""Figures of one detail of a picture as upscaled by every model, side by side, as in the papers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.imaging.metrics import SSIM_WINDOW, psnr_y, ssim_y

Panel = tuple[str, NDArray[np.uint8]]
"""Name of the model, and its (h, w, 3) RGB detail."""

_PANEL, _PANEL_OF_FEW = 220, 320  # approximate longer side of the detail
_FEW = 3  # panels that stand in one row
_FONT = 17
_LINE = 23  # distance of text lines
_GAP, _MARGIN = 14, 20
_INK, _PAPER, _MARK = (20, 20, 20), (255, 255, 255), (230, 30, 30)


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle of a picture in pixels of its original: left upper corner and size."""

    image: str
    """Name of the picture, optionally after its set: ``Set5/img_001``."""
    x: int
    y: int
    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> "Crop":
        """Read ``IMG:X,Y,W,H``.

        Raises:
            UsageError: if the text has another form, or the size is zero.
        """
        image, _, place = text.rpartition(":")
        numbers = [part.strip() for part in place.split(",")]
        if not image or len(numbers) != 4 or not all(part.isdecimal() and len(part) < 10 for part in numbers):
            msg = f"expected a crop as IMG:X,Y,W,H in pixels, got {text!r}"
            raise UsageError(msg, "for example --crop img_001:120,80,64,48")
        crop = cls(image, *map(int, numbers))
        if not (crop.width and crop.height):
            msg = f"the crop {text!r} is {crop.width}x{crop.height} and has no pixels"
            raise UsageError(msg, "give a width and a height of 1 or more")
        return crop

    @property
    def place(self) -> str:
        """Its numbers, fit for a file name."""
        return f"{self.x}_{self.y}_{self.width}_{self.height}"

    def check(self, size: tuple[int, int]) -> None:
        """Check that the rectangle lies inside a picture of this width and height.

        Raises:
            UsageError: if it reaches beyond the picture.
        """
        if self.x + self.width > size[0] or self.y + self.height > size[1]:
            right, bottom = self.x + self.width, self.y + self.height
            msg = f"the crop of {self.image} reaches to {right}, {bottom}, but the picture ends at {size[0]}, {size[1]}"
            raise UsageError(msg, "X and Y count from the left upper corner of the high-resolution picture")

    def cut(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a copy of the rectangle of a picture as large as the original: (height, width, 3)."""
        return image[self.y : self.y + self.height, self.x : self.x + self.width].copy()


def caption(detail: NDArray[np.uint8], original: NDArray[np.uint8]) -> str:
    """Write PSNR in dB and SSIM of the detail's luma, without a border; no SSIM for details smaller than its window."""
    text = f"{psnr_y(detail, original, 0):.2f}"
    if min(original.shape[:2]) < SSIM_WINDOW:
        return f"{text} dB"
    return f"{text} / {ssim_y(detail, original, 0):.4f}"


def draw(title: str, high: NDArray[np.uint8], crop: Crop, panels: Sequence[Panel]) -> NDArray[np.uint8]:
    """Draw a figure, (H, W, 3) RGB.

    At the left is the original with the rectangle, at the right the details, enlarged by a whole number without
    smoothing: that of the original, then ``panels``, each with its name and scores.

    Args:
        title: text under the original.
        high: the original, (h, w, 3) RGB.
        crop: rectangle inside it.
        panels: details of the crop's size.
    """
    font = ImageFont.load_default(_FONT)

    def width(text: str) -> int:
        return math.ceil(font.getlength(text))

    original = crop.cut(high)
    legend = "PSNR" if min(original.shape[:2]) < SSIM_WINDOW else "PSNR / SSIM"
    captions = [("HR", legend), *((name, caption(detail, original)) for name, detail in panels)]
    details = [original, *(detail for _, detail in panels)]
    side = _PANEL_OF_FEW if len(details) <= _FEW else _PANEL
    factor = max(1, round(side / max(crop.width, crop.height)))
    inner_width, inner_height = factor * crop.width, factor * crop.height
    cell_width = max(inner_width, *(width(line) for lines in captions for line in lines))
    cell_height = inner_height + 2 * _LINE
    rows = 1
    if len(details) > _FEW:  # a grid about 1.5 times as wide as high
        rows = max(1, min(len(details), round(math.sqrt(len(details) * cell_width / (1.5 * cell_height)))))
    columns = math.ceil(len(details) / rows)
    grid_height = rows * cell_height + (rows - 1) * _GAP
    whole = _whole(high, crop, grid_height - 2 * _LINE)
    place = f"{crop.width}x{crop.height} at {crop.x}, {crop.y}"
    left_width = max(whole.width, width(title), width(place))
    grid_width = columns * (cell_width + _GAP) - _GAP
    size = 2 * _MARGIN + left_width + _GAP + grid_width, 2 * _MARGIN + grid_height
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)

    def paste(image: Image.Image, left: int, top: int, room: int, lines: Sequence[str]) -> None:
        """Paste an image with lines of text below it, centred in ``room`` pixels."""
        sheet.paste(image, (left + (room - image.width) // 2, top))
        for index, line in enumerate(lines):
            at = left + (room - width(line)) // 2, top + image.height + 4 + index * (_LINE - 2)
            pen.text(at, line, fill=_INK, font=font)

    paste(whole, _MARGIN, _MARGIN + (grid_height - 2 * _LINE - whole.height) // 2, left_width, (title, place))
    for index, (detail, lines) in enumerate(zip(details, captions, strict=True)):
        row, column = divmod(index, columns)
        left = _MARGIN + left_width + _GAP + column * (cell_width + _GAP)
        large = detail.repeat(factor, axis=0).repeat(factor, axis=1)
        paste(Image.fromarray(large), left, _MARGIN + row * (cell_height + _GAP), cell_width, lines)
    return np.asarray(sheet)


def _whole(high: NDArray[np.uint8], crop: Crop, height: int) -> Image.Image:
    """Draw the original at most ``height`` high, with the rectangle on it."""
    tall, wide = high.shape[:2]
    zoom = min(height / tall, 2 * height / wide)  # keeps a panorama from pushing the panels off the screen
    size = max(1, round(wide * zoom)), max(1, round(tall * zoom))
    image = Image.fromarray(high).resize(size, Image.Resampling.LANCZOS)
    corners = (crop.x, crop.y, crop.x + crop.width, crop.y + crop.height)
    left, top, right, bottom = (round(corner * zoom) for corner in corners)
    # Around the crop, not on it, except where the crop touches the edge of the picture.
    box = (max(left - 3, 0), max(top - 3, 0), min(right + 2, size[0] - 1), min(bottom + 2, size[1] - 1))
    ImageDraw.Draw(image).rectangle(box, outline=_MARK, width=3)
    return image
