"""Small photographs of noise, and the door to them with a cache of their own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lkdn_models.data import LIMIT, CropSettings, Photos, open_photos

Write = Callable[..., NDArray[np.uint8]]
OpenPhotos = Callable[..., Photos]


@pytest.fixture(scope="session")
def write() -> Write:
    """Writes a picture whose every pixel differs, so that crops can be found again; gives its pixels."""

    def write(path: Path, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
        image = np.random.default_rng([seed, height, width]).integers(0, 256, (height, width, 3), dtype=np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        return image

    return write


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def photos_of(cache: Path) -> OpenPhotos:
    """``open_photos`` of folders with settings that suit small pictures."""

    def photos_of(*folders: Path, scale: int = 2, seed: int = 0, limit: int = LIMIT, **others: Any) -> Photos:
        progress = others.pop("progress", None)
        settings = CropSettings(**{"patch": 8, "batch": 4, **others})
        return open_photos(folders, scale, settings, seed, cache, limit, progress)

    return photos_of
