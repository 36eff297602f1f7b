"""A bundled photograph to try the toolkit on."""

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE = "dandelion.png"


def sample_pixels() -> "NDArray[np.uint8]":
    """Return the photograph as (H, W, 3) RGB; its author is named in CREDITS.md."""
    import numpy as np
    from PIL import Image

    with files(__package__).joinpath(SAMPLE).open("rb") as file, Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def repeated_sample(height: int, width: int) -> "NDArray[np.uint8]":
    """Return a picture (H, W, 3) of the given size: the photograph's upper left part, mirrored where it ends."""
    import numpy as np

    photograph = sample_pixels()
    missing = [(0, max(wanted - there, 0)) for wanted, there in zip((height, width), photograph.shape, strict=False)]
    repeated = np.pad(photograph, [*missing, (0, 0)], mode="symmetric")
    return np.ascontiguousarray(repeated[:height, :width])
