"""Loads and stores of the lanes of a vector, each at an address of its own."""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from lkdn_deploy.jit.builder import FLOAT, INT, SHORT, Builder
from lkdn_deploy.jit.sixteen import HALF

_HALF_BYTES = 2


def gather(b: Builder, addresses: Sequence[Any]) -> Any:
    """Return a vector with a float from each address.

    Where rows of a whole map are read, lanes outside the image hold the next row, or what follows the last.
    """
    vector = ir.Constant(b.vector, ir.Undefined)
    for lane, address in enumerate(addresses):
        vector = b.insert_element(vector, b.load(address, typ=FLOAT, align=4), SHORT(lane))
    return vector


def scatter_inside(b: Builder, vector: Any, mask: Any, addresses: Sequence[Any], discarded: Any) -> None:
    """Store the lanes that are inside an image.

    Args:
        b: the builder.
        vector: the vector.
        mask: whether each lane is inside.
        addresses: the address of each lane.
        discarded: address that the others are stored at, which is never read.
    """
    for lane, address in enumerate(addresses):
        place = b.select(b.extract_element(mask, SHORT(lane)), address, discarded)
        b.store(b.extract_element(vector, SHORT(lane)), place, align=4)


def scatter(b: Builder, vectors: Sequence[Any], target: Any, row_vectors: Any) -> None:
    """Store the vectors of adjacent output pixels interleaved, for each lane at its column.

    Args:
        b: the builder.
        vectors: the vectors.
        target: address of the first lane.
        row_vectors: number of input columns from one lane to the next.
    """
    times = len(vectors)
    distance = b.mul(row_vectors, INT(times))
    for lane in range(b.lanes):
        pixel = b.at(target, b.mul(distance, INT(lane)))
        if times == 1:
            b.store(b.extract_element(vectors[0], SHORT(lane)), pixel, align=4)
            continue
        found = ir.Constant(ir.VectorType(FLOAT, times), ir.Undefined)
        for place, joined in enumerate(vectors):
            value = b.extract_element(joined, SHORT(lane))
            found = b.insert_element(found, value, SHORT(place))
        b.store(found, pixel, align=4)


def scatter_halves(b: Builder, vectors: Sequence[tuple[Any, int]], target: Any, row_vectors: Any) -> None:
    """Store halves of the lanes of vectors as ``scatter`` does whole lanes.

    Args:
        b: the builder.
        vectors: the vectors, and which half of each.
        target: address of the first lane.
        row_vectors: number of input columns from one lane to the next.
    """
    times = len(vectors)
    distance = b.mul(row_vectors, INT(_HALF_BYTES * times))
    halves = [(b.bitcast(it, ir.VectorType(HALF, 2 * b.lanes)), half) for it, half in vectors]
    for lane in range(b.lanes):
        pixel = b.at_byte(target, b.mul(distance, INT(lane)))
        for place, (vector, half) in enumerate(halves):
            value = b.extract_element(vector, SHORT(2 * lane + half))
            b.store(value, b.at_byte(pixel, INT(_HALF_BYTES * place)), align=_HALF_BYTES)
