"""Train a re-parameterised network at the cost of its fused form.

The branches of an RBSB (LKDN paper, eqs. 8 and 9) and of the re-parameterised up-sampler are linear, so their sum is
one convolution whose weights are differentiable functions of the branches' weights ("Online Convolutional
Re-parameterization", Hu et al., CVPR 2022). Merging weights inside the graph, once a step, gives the outputs and the
gradients of the branch form; the branches' feature maps are never computed.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.fuse.branches import fuse_state
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.reparameterised import branches_of

Merge = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""Turns training-form weights into those of the plain network, as differentiable functions of them."""


def merger(spec: LkdnSpec) -> Merge:
    """Return the function from weights of ``spec`` to those of ``spec.deployed``."""
    with torch.device("meta"):
        # Of a network that reads its input once, so that the copies stay as they are.
        blocks = branches_of(LKDN(replace(spec, input_copies=1)))
    return lambda weights: fuse_state(weights, blocks).state


class OnlineLKDN:
    """An LKDN that runs training-form weights as the plain network."""

    def __init__(self, spec: LkdnSpec) -> None:
        self._merge = merger(spec)
        with torch.device("meta"):  # a graph to call: it needs no weights of its own
            self._plain = _WithFeatures(spec.deployed)

    def __call__(self, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Enlarge RGB in 0..1, (N, 3, H, W) -> (N, 3, scale * H, scale * W)."""
        return self.run(weights, x)[1]

    def run(self, weights: Mapping[str, Tensor], x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the features, as `LKDN.features` does, and the enlarged picture."""
        merged = {f"network.{name}": value for name, value in self._merge(weights).items()}
        return functional_call(self._plain, merged, (x,))  # type: ignore[no-any-return]


class _WithFeatures(nn.Module):
    """A network that gives its features too."""

    def __init__(self, spec: LkdnSpec) -> None:
        super().__init__()
        self.network = LKDN(spec)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        features = self.network.features(x)
        return features, self.network.reconstruct(features)
