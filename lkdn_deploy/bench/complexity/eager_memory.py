"""The memory that the activations of an eager PyTorch run need, counted without computing any.

It is more than ``graph.liveness`` counts for the exported graph: a function's variables keep tensors until it returns.
"""

import copy
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_floats(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Return how many values of activations are alive at the worst moment of one eager run for inference.

    The input and every intermediate tensor count for as long as something refers to them; tensors that share memory
    count once. Parameters and buffers do not count, nor what an operation allocates while it runs: reordered copies,
    workspaces. So this is the least that a run takes.

    The network, on any device and in any mode, is not changed. Its ``forward`` may create tensors only on its input's
    device. ``shape`` is that of the input, (N, C, H, W).

    Raises:
        RuntimeError: from PyTorch, if the network does not accept such an input.
    """
    plan, x = without_values(network), meta_input(network, shape)
    alive = _Alive([*plan.parameters(), *plan.buffers()])
    alive.follow(x)
    with torch.no_grad(), alive:
        plan(x)
    return alive.peak


def without_values(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode, on the device ``meta``: parameters and buffers have shapes but no values.

    Shared parameters stay shared.
    """
    # deepcopy takes what it finds in its memo for copied already, so no value is copied.
    memo: dict[int, Any] = {id(buffer): torch.empty_like(buffer, device="meta") for buffer in network.buffers()}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
    return copy.deepcopy(network, memo).eval()


def meta_input(network: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Return an input without values, of the parameters' type."""
    types = (parameter.dtype for parameter in network.parameters() if parameter.is_floating_point())
    return torch.empty(shape, dtype=next(types, None), device="meta")


def tensors(tree: Any) -> list[Tensor]:
    """List the tensors in nested arguments or results of an operation."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tracks the memory of every tensor that an operation returns, until its last reference is gone."""

    def __init__(self, free: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        # A storage is the same Python object for as long as any tensor uses it, so its id tells it from the others.
        self._sizes = {id(tensor.untyped_storage()): 0 for tensor in free}

    def follow(self, tensor: Tensor) -> None:
        """Count a tensor's memory, unless it is counted already."""
        storage = tensor.untyped_storage()
        if id(storage) in self._sizes:
            return
        size = storage.nbytes() // tensor.element_size()
        self._sizes[id(storage)] = size
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._gone, id(storage)).atexit = False

    def _gone(self, storage: int) -> None:
        self._now -= self._sizes.pop(storage)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tensors(result):
            self.follow(tensor)
        return result
