"""A network's operations, counted from those that one run executes.

No value is computed and no memory taken, so any network and any size are counted at once. An operation counts by its
kind, whether a module or a function calls it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from lkdn_deploy.bench.complexity.operations import trace
from lkdn_deploy.core.counting import Rule
from lkdn_models.liveness import peak_floats


@dataclass(frozen=True, slots=True)
class Uncounted:
    """An operation that no rule counts."""

    calls: int
    elements: int
    """Of the largest tensor that it reads or makes, over all calls."""


@dataclass(frozen=True, slots=True)
class Complexity:
    """What one run of a network takes. All figures are of the whole batch."""

    parameters: int
    """Values of all parameters, frozen ones too; shared ones once."""
    macs: int
    """Multiply-accumulates of all convolutions and linear layers, transposed convolutions' at every input position.

    A border that is put on a transposed convolution's input, or cut off its output, does not count.
    """
    macs_at_outputs: int
    """The same with transposed convolutions counted at every output position, stride**2 times too many."""
    bias_additions: int
    """One for each output element of a convolution or linear layer that has a bias."""
    pool_additions: int
    """One for each element that a global average pool reads: a mean over the whole map.

    The mean of squares is none: BSRN's figures leave out the deviation, which its attention adds to the mean.
    """
    norm_elements: int
    """What layer normalisations read."""
    relu_elements: int
    """What ReLU, LeakyReLU, PReLU, ELU and ReLU6 make."""
    batch_norm_operations: int
    """Two for each element that a batch normalisation makes, one if it has no weights."""
    activations: int
    """Elements of the outputs of all convolutions."""
    convolutions: int
    """How many times one is called."""
    peak_floats: int
    """See ``lkdn_models.liveness.peak_floats``."""
    left_out: Mapping[str, Uncounted]
    """Operations on the image that none of the figures above counts, by PyTorch's name for them.

    ``fixed convolution``, ``fixed mm`` and the like have weights that hang on no parameter: they interpolate or
    rearrange, which papers do not count. Views are not listed, nor is what is made of parameters alone, as by weight
    normalisation.
    """

    def multi_adds(self, rule: Rule) -> int:
        """Multi-Adds as a paper of this rule has them."""
        match rule:
            case Rule.C:
                return self.macs
            case Rule.C_OUT:
                return self.macs_at_outputs
            case Rule.B:
                return self.macs + self.bias_additions
            case Rule.B_POOLS:
                return self.macs + self.bias_additions + self.pool_additions
            case Rule.T:
                return self.macs + 4 * self.norm_elements

    @property
    def ntire_flops(self) -> int:
        """FLOPs as NTIRE 2023's challenge on efficient super-resolution counts them, at 1x3x256x256.

        These are MACs, of transposed convolutions at every output position, without biases, and the operations of
        ReLU kinds and batch normalisations. The challenge's script (github.com/ofsoundof/NTIRE2023_ESR,
        ``utils/model_summary.py``) hooks modules: it misses what is called as a function, and 1x1 convolutions that
        are written as linear layers, as in BSRN-S, are no convolutions to it. Here the kind of operation decides.
        """
        return self.macs_at_outputs + self.relu_elements + self.batch_norm_operations


def count(network: nn.Module, shape: tuple[int, ...]) -> Complexity:
    """Count one run for inference.

    Args:
        network: on whatever device and in whatever mode; it is left as it is. ``forward`` may make tensors on its
            input's device only.
        shape: of the input, (N, C, H, W).

    Raises:
        RuntimeError: PyTorch's, if the network does not take such an input.
    """
    figures: Counter[str] = Counter()
    left_out: dict[str, Uncounted] = {}
    for operation in trace(network, shape):
        figures.update(operation.figures)
        if not operation.figures:
            before = left_out.get(operation.name, Uncounted(0, 0))
            left_out[operation.name] = Uncounted(before.calls + 1, before.elements + operation.largest)
    return Complexity(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        macs=figures["macs"],
        macs_at_outputs=figures["macs_at_outputs"],
        bias_additions=figures["bias_additions"],
        pool_additions=figures["pool_additions"],
        norm_elements=figures["norm_elements"],
        relu_elements=figures["relu_elements"],
        batch_norm_operations=figures["batch_norm_operations"],
        activations=figures["activations"],
        convolutions=figures["convolutions"],
        peak_floats=peak_floats(network, shape),
        left_out=dict(sorted(left_out.items())),
    )
