"""The bicubic layer against MATLAB's bicubic of whole images."""

import numpy as np
import pytest
import torch

from lkdn_deploy.imaging.resample import imresize
from lkdn_models.nets.bicubic import Bicubic


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(2, 2), (2, 9), (7, 5)])
def test_it_enlarges_as_imresize_does(size: tuple[int, int], scale: int) -> None:
    image = np.random.default_rng(0).random((*size, 3))
    layer = Bicubic(3, scale)
    enlarged = layer(torch.from_numpy(image).float().permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    assert np.allclose(enlarged.numpy(), imresize(image, scale), atol=1e-6)


def test_it_is_no_part_of_a_checkpoint() -> None:
    assert not Bicubic(1, 2).state_dict()
