"""The up-sampler of a network whose other weights come from another scale, fitted by least squares.

The features that a network makes of a picture hardly depend on the scale to which they are turned into pixels: an
up-sampler is a linear map of them, a 3x3 convolution whose results are shuffled to pixels, so the one with the least
squared error on some crops follows from linear equations. Training starts from it instead of from a random one.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from lkdn_deploy.core.spec import Upsampler
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.training.online import merger

FIT_CROPS = 400
"""Number of crops that an up-sampler is fitted to."""
RIDGE = 1e-6
"""Share of the mean square of a feature that is added to the diagonal of the equations, so that they have a solution
where features are zero everywhere."""


@torch.no_grad()
def fit_upsampler(network: LKDN, crops: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Replace the up-sampler by the one with the least squared error on crops; the other weights stay.

    Of a re-parameterised up-sampler, the plain 3x3 branch takes what the others, which stay, do not give.

    Args:
        network: network in training form.
        crops: batches of low- and high-resolution crops, RGB in 0..1, on the network's device.
    """
    spec = network.spec
    inputs, outputs = 9 * spec.channels, 3 * spec.scale**2
    device = next(network.parameters()).device
    squares = torch.zeros(inputs + 1, inputs + 1, dtype=torch.float64, device=device)
    products = torch.zeros(inputs + 1, outputs, dtype=torch.float64, device=device)
    for low, high in crops:
        given = F.unfold(network.trunk(network.features(low)), 3, padding=1)
        rows = torch.cat([given, torch.ones_like(given[:, :1])], dim=1).transpose(0, 1).flatten(1).double()
        wanted = F.pixel_unshuffle(high, spec.scale).flatten(2).transpose(0, 1).flatten(1).double()
        squares += rows @ rows.T
        products += rows @ wanted.T
    squares.diagonal().add_(RIDGE * squares.diagonal().mean())
    *weights, bias = torch.linalg.solve(squares, products).float()
    parameters = dict(network.named_parameters())
    merged = merger(spec)(parameters)
    conv = "upsampler.conv3" if spec.upsampler is Upsampler.REP else "upsampler.0"
    given_weight, given_bias = merged["upsampler.0.weight"], merged["upsampler.0.bias"]
    parameters[f"{conv}.weight"].add_(torch.stack(weights).T.reshape(given_weight.shape) - given_weight)
    parameters[f"{conv}.bias"].add_(bias - given_bias)
