"""Complexity figures of a network: parameters, Multi-Adds, activations and memory of one run.

The network runs on PyTorch's meta device: any network and any size are counted at once. An operation counts by its
kind, whether a module or a function calls it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields

from torch import nn

from lkdn_deploy.bench.complexity.eager_memory import peak_floats
from lkdn_deploy.bench.complexity.trace import trace
from lkdn_deploy.core.counting import Rule


@dataclass(frozen=True, slots=True)
class Uncounted:
    """An operation that no rule counts."""

    calls: int
    elements: int
    """Elements of the largest tensor that a call reads or writes, summed over the calls."""


@dataclass(frozen=True, slots=True)
class Complexity:
    """Figures of one run of a network, for the whole batch."""

    parameters: int
    """Values of all parameters, including frozen ones; shared ones count once."""
    macs: int
    """Multiply-accumulates of convolutions and linear layers, transposed convolutions at every input position without
    padding, and without parts of the output that are cropped."""
    macs_at_outputs: int
    """The same with transposed convolutions counted at every output position, stride**2 times too many."""
    bias_additions: int
    """One per output element of each convolution or linear layer with a bias."""
    pool_additions: int
    """One per element of a mean over the whole map, but for means of squares: BSRN's figures leave out the deviation
    that its attention adds to the mean."""
    norm_elements: int
    """Elements that layer normalisations read."""
    relu_elements: int
    """Elements that ReLU, LeakyReLU, PReLU, ELU and ReLU6 write."""
    batch_norm_operations: int
    """Two per element that a batch normalisation writes, one if it has no weights."""
    fvcore_others: int
    """Operations that fvcore counts beside ``macs`` and batch normalisations: 5 per element of a layer normalisation,
    4 if it has no weights; 4 per element that a bilinear enlargement writes; one per element that a nearest one writes
    or an adaptive mean reads; and multiply-accumulates with weights that do not depend on parameters."""
    activations: int
    """Elements of the outputs of all convolutions."""
    convolutions: int
    """Number of calls of convolutions."""
    peak_floats: int
    """Values alive at the same time at most, see ``lkdn_deploy.bench.complexity.eager_memory.peak_floats``."""
    left_out: Mapping[str, Uncounted]
    """Operations on the image that none of the figures above counts, by PyTorch's name, without views.

    Papers do not count ``fixed convolution``, ``fixed mm`` and the like either: their weights, which do not depend on
    parameters, interpolate or rearrange.
    """

    def multi_adds(self, rule: Rule) -> int:
        """Return the Multi-Adds by a counting rule."""
        return {
            Rule.C: self.macs,
            Rule.C_OUT: self.macs_at_outputs,
            Rule.B: self.macs + self.bias_additions,
            Rule.B_POOLS: self.macs + self.bias_additions + self.pool_additions,
            Rule.T: self.macs + 4 * self.norm_elements,
        }[rule]

    @property
    def ntire_flops(self) -> int:
        """FLOPs as counted by the NTIRE 2023 challenge on efficient super-resolution, at 1x3x256x256.

        The challenge's script (github.com/ofsoundof/NTIRE2023_ESR,
        ``utils/model_summary.py``) hooks modules: it misses functions, and 1x1 convolutions that are written as
        linear layers, as in BSRN-S, are no convolutions to it. Here the kind of operation decides.
        """
        return self.macs_at_outputs + self.relu_elements + self.batch_norm_operations

    @property
    def fvcore_flops(self) -> int:
        """FLOPs as fvcore's ``FlopCountAnalysis`` counts them, which the challenges since 2024 use."""
        return self.macs + self.batch_norm_operations + self.fvcore_others


def count(network: nn.Module, shape: tuple[int, ...]) -> Complexity:
    """Count one inference run for an input of a shape (N, C, H, W), with the network and errors of ``trace``.

    Raises:
        RuntimeError: from PyTorch, if the network does not accept such an input.
    """
    figures: Counter[str] = Counter({each.name: 0 for each in fields(Complexity) if each.name != "left_out"})
    left_out: dict[str, Uncounted] = {}
    for operation in trace(network, shape):
        figures.update(operation.figures)
        if not operation.figures.keys() - {"fvcore_others"}:
            before = left_out.get(operation.name, Uncounted(0, 0))
            left_out[operation.name] = Uncounted(before.calls + 1, before.elements + operation.largest)
    figures["parameters"] = sum(parameter.numel() for parameter in network.parameters())
    figures["peak_floats"] = peak_floats(network, shape)
    return Complexity(**figures, left_out=dict(sorted(left_out.items())))
