"""The arithmetic of convolutions, in float32 or in pairs of 16-bit integers whose products add up in 32 bits."""

from dataclasses import dataclass
from typing import Any

from lkdn_deploy.jit.builder import Builder
from lkdn_deploy.jit.sixteen import Pairs


@dataclass(frozen=True, slots=True)
class FloatArithmetic:
    """Sums of products of float32 numbers."""

    builder: Builder

    @property
    def zero(self) -> Any:
        """A sum without products."""
        return self.builder.constant(0)

    def typed(self, vector: Any) -> Any:
        """Return a vector that was loaded as float32 as a factor."""
        return vector

    def load(self, pointer: Any) -> Any:
        """Load sums from an aligned address."""
        return self.builder.load_vector(pointer)

    def splat_at(self, pointer: Any, place: Any) -> Any:
        """Return a vector with a weight or a bias in all lanes."""
        return self.builder.splat_at(pointer, place)

    def multiply_add(self, weight: Any, value: Any, total: Any) -> Any:
        """Return ``total`` plus the product of a weight and a value."""
        return self.builder.fma(weight, value, total)

    def add(self, one: Any, other: Any) -> Any:
        """Return the total of two sums."""
        return self.builder.fadd(one, other)


@dataclass(frozen=True, slots=True)
class PairArithmetic:
    """Sums of products of pairs of 16-bit integers; a bias is an integer of 32 bits."""

    builder: Builder
    pairs: Pairs

    @property
    def zero(self) -> Any:
        """A sum without products."""
        return self.pairs.integers(0)

    def typed(self, vector: Any) -> Any:
        """Return a vector that was loaded as float32 as a factor."""
        return self.builder.bitcast(vector, self.builder.shorts)

    def load(self, pointer: Any) -> Any:
        """Load sums from an aligned address."""
        return self.builder.load(pointer, typ=self.builder.shorts, align=4 * self.builder.lanes)

    def splat_at(self, pointer: Any, place: Any) -> Any:
        """Return a vector with a weight or a bias in all lanes."""
        return self.pairs.splat_at(pointer, place)

    def multiply_add(self, weight: Any, value: Any, total: Any) -> Any:
        """Return ``total`` plus the products of a weight and a value."""
        return self.pairs.dot(total, value, weight)

    def add(self, one: Any, other: Any) -> Any:
        """Return the total of two sums."""
        return self.builder.add(one, other)
