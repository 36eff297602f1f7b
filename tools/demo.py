"""The pictures of ``make demo``: small ones whose originals are known, and their enlargements beside them.

    python tools/demo.py prepare FOLDER    writes the small pictures into FOLDER/small
    python tools/demo.py compare FOLDER    draws those of FOLDER/small and FOLDER/large side by side

The originals are a photograph (tools/demo/CREDITS.md) and a drawn piece of text. They are reduced as the pictures of
the papers' test sets are, so PSNR can be measured.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lkdn_deploy.imaging.metrics import psnr_y
from lkdn_deploy.imaging.pixels import Pixels
from lkdn_deploy.imaging.resample import downsample, imresize

SCALE = 4
CROPS = {"rooftops": (150, 60), "text": (0, 0)}
"""Places of the details that are shown, left and top in pixels of the original."""
WIDTH, HEIGHT, GAP = 420, 300, 8
TEXT = """Invoice 10482
The quick brown fox jumps
over 13 lazy dogs; (a + b) / 2
is 6.50 EUR, 4 % less & paid.
0123456789 @ # ? ! [x] {y}"""


def originals() -> dict[str, Pixels]:
    """Return the originals by name, (H, W, 3) of uint8 with sides that are multiples of ``SCALE``."""
    with Image.open(Path(__file__).parent / "demo" / "rooftops.png") as image:
        photograph = np.asarray(image.convert("RGB"))
    page = Image.new("RGB", (640, 320), "white")
    ImageDraw.Draw(page).multiline_text((16, 14), TEXT, "black", ImageFont.load_default(28), spacing=12)
    return {"rooftops": photograph, "text": np.asarray(page)}


def prepare(folder: Path) -> None:
    """Write the originals, reduced, as PNG files."""
    (folder / "small").mkdir(parents=True, exist_ok=True)
    for name, original in originals().items():
        Image.fromarray(downsample(original, SCALE)).save(folder / "small" / f"{name}.png")


def compare(folder: Path) -> None:
    """Draw a detail of each picture by bicubic, by the network and as it was; print and label the PSNR on luma."""
    font = ImageFont.load_default(16)
    rows = []
    for name, original in originals().items():
        with (
            Image.open(folder / "small" / f"{name}.png") as small,
            Image.open(folder / "large" / f"{name}.png") as large,
        ):
            bicubic, network = imresize(np.asarray(small), SCALE), np.asarray(large)
        left, top = CROPS[name]
        row = Image.new("RGB", (3 * WIDTH + 2 * GAP, HEIGHT + 28), "white")
        for column, (label, pixels) in enumerate((("bicubic", bicubic), ("LKDN-S", network), ("original", original))):
            if pixels is not original:
                label = f"{label}, {psnr_y(pixels, original, SCALE):.2f} dB"
                print(f"{name}: {label}")
            x = column * (WIDTH + GAP)
            row.paste(Image.fromarray(pixels[top : top + HEIGHT, left : left + WIDTH]), (x, 28))
            ImageDraw.Draw(row).text((x + 4, 4), label, "black", font=font)
        rows.append(row)
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows) + GAP), "white")
    for number, row in enumerate(rows):
        sheet.paste(row, (0, number * (row.height + GAP)))
    sheet.save(folder / "side_by_side.png")


if __name__ == "__main__":
    {"prepare": prepare, "compare": compare}[sys.argv[1]](Path(sys.argv[2]))
