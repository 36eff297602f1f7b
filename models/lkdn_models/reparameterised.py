"""Networks with branches, and the plain networks that they become."""

import copy
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import nn

from lkdn_deploy.fuse.branches import (
    BatchNorm,
    Chain,
    Convolution,
    EachChannel,
    FuseResult,
    Merged,
    Opaque,
    Pad,
    fuse_state,
)

Network = TypeVar("Network", bound=nn.Module)


@runtime_checkable
class Reparameterised(Protocol):
    """A block in training form, which tells what its branches become."""

    def branches(self) -> Mapping[str, Merged]:
        """Return the branches by the name of the convolution of the plain form that they become."""

    def plain(self) -> nn.Module:
        """Return the block's plain form, whose weights are yet to be loaded."""


def branches_of(network: nn.Module) -> dict[str, Mapping[str, Merged]]:
    """Return the branches of a network by the names of its blocks; "" is the network itself."""
    found = network.named_modules()
    return {name: block.branches() for name, block in found if isinstance(block, Reparameterised)}


def fuse_network(network: Network) -> tuple[Network, FuseResult]:
    """Return a network with its blocks in plain form, computed in float64, and what was fused.

    The argument stays as it is.
    """
    result = fuse_state(
        {name: value.numpy(force=True) for name, value in network.state_dict().items()}, branches_of(network)
    )
    plain: Any = copy.deepcopy(network)
    for name in result.applied:
        block: Any = network.get_submodule(name)
        if name:
            plain.set_submodule(name, block.plain())
        else:
            plain = block.plain()
    like = next(network.parameters())
    plain.to(like.device, like.dtype).load_state_dict(
        {name: torch.from_numpy(np.asarray(value)) for name, value in result.state.items()}
    )
    return plain.train(network.training), result


def layers(block: nn.Module, *names: str) -> Chain:
    """Return the chain of the block's layers with these names, which may be nested ``Sequential``s."""
    return tuple(step for name in names for step in _steps(name, block.get_submodule(name)))


def _steps(name: str, layer: nn.Module) -> Chain:
    match layer:
        case nn.Sequential():
            return tuple(step for key, part in layer.named_children() for step in _steps(f"{name}.{key}", part))
        case nn.Identity():
            return ()
        case nn.Conv2d(stride=(1, 1), dilation=(1, 1), padding_mode="zeros", padding=(rows, columns)):
            bias = None if layer.bias is None else f"{name}.bias"
            return (Convolution(f"{name}.weight", bias, (int(rows), int(columns)), layer.groups),)
        case nn.BatchNorm2d(track_running_stats=True):
            return (BatchNorm(name, layer.eps),)
        case nn.ZeroPad2d(padding=(left, right, top, bottom)) if (left, top) == (right, bottom):
            return (Pad((top, left)),)
        case nn.AvgPool2d(kernel_size=int(size), stride=1, padding=0):
            return (EachChannel(((1 / size**2,) * size,) * size),)
    return (Opaque(f"{name} ({type(layer).__name__})"),)
