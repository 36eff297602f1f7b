"""The rules by which papers count a network's Multi-Adds; only figures of one rule can be compared."""

from enum import StrEnum


class Rule(StrEnum):
    """A way to count, apart from the size of the input, in which papers differ too.

    All count the multiply-accumulates (MACs) of convolutions and linear layers, one MAC being one operation, and none
    counts activations or interpolation. ``lkdn_deploy.bench.complexity.count`` counts by each.
    """

    C = "C"
    """The MACs alone, a transposed convolution's at every input position.

    PAN, VAPSR, RLFN, IDN, CARN, IMDN; at the size of the output SRCNN, VDSR, DRRN and MemNet. The rule to compare by.
    """
    C_OUT = "C-out"
    """C with transposed convolutions at every output position: stride**2 times too many. FSRCNN, LapSRN."""
    B = "B"
    """C, and an addition for each output element of a layer with a bias. LAPAR; BSRN without attention."""
    B_POOLS = "B-pools"
    """B, and an addition for each element that a global average pool reads. BSRN."""
    T = "T"
    """C, and four operations for each element that a layer normalisation reads, as thop 0.1.1 has it. LKDN, LKDN-S."""

    @property
    def counts(self) -> str:
        """The operations that the rule counts, in a few words."""
        return {
            Rule.C: "multiply-accumulates of convolutions and linear layers",
            Rule.C_OUT: "multiply-accumulates, transposed convolutions at every output position",
            Rule.B: "multiply-accumulates and additions of biases",
            Rule.B_POOLS: "multiply-accumulates, additions of biases and of global pools",
            Rule.T: "multiply-accumulates and four operations a value in layer normalisation",
        }[self]
