"""Conditions that tests of training share, and small made-up photographs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

Saved = Callable[..., Path]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute on one thread: more sum in another order, and are very slow where other work holds a core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def picture(seed, side=96, fine=3):
    """Overlapping discs on a slope of colour, with edges as smooth as a lens makes them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : side : side * fine * 1j, 0 : side : side * fine * 1j]
    image = 60 + rng.uniform(0, 1, 3) * y[..., None] + rng.uniform(0, 1, 3) * x[..., None]
    for _ in range(25):
        (cy, cx), radius = rng.uniform(0, side, 2), rng.uniform(3, 20)
        image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = rng.uniform(0, 255, 3)
    return image.reshape(side, fine, side, fine, 3).mean(axis=(1, 3)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def saved() -> Saved:
    """``saved(folder, *numbers)``: writes a picture for each number, and gives the folder."""

    def save(folder, *numbers):
        folder.mkdir(exist_ok=True)
        for number in numbers:
            Image.fromarray(picture(number)).save(folder / f"{number}.png")
        return folder

    return save


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, saved: Saved) -> Path:
    """A folder of six photographs."""
    return saved(tmp_path_factory.mktemp("photos"), *range(6))


@pytest.fixture
def pictures(tmp_path: Path, saved: Saved) -> Path:
    """A folder of another one, to validate on."""
    return saved(tmp_path / "Pictures", 77)
