"""Put a detail of a picture upscaled by bicubic and by the network side by side.

python tools/side_by_side.py small.png large.png side_by_side.png
"""

import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lkdn_deploy.imaging.resample import imresize

CROP = 480


def main(small: str, large: str, target: str) -> None:
    """Write the centres of both pictures, labelled."""
    with Image.open(small) as image:
        source = np.asarray(image.convert("RGB"))
    with Image.open(large) as image:
        network = image.convert("RGB")
    bicubic = Image.fromarray(imresize(source, network.width // source.shape[1]))
    width, height = (min(CROP, side) for side in network.size)
    left, top = (network.width - width) // 2, (network.height - height) // 2
    sheet = Image.new("RGB", (2 * width + 12, height + 32), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (label, picture) in enumerate((("bicubic", bicubic), ("LKDN-S", network))):
        x = column * (width + 12)
        sheet.paste(picture.crop((left, top, left + width, top + height)), (x, 32))
        draw.text((x + 8, 6), label, "black", font=ImageFont.load_default(18))
    sheet.save(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
