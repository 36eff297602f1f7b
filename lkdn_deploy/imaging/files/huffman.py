"""Blocks of deflate (RFC 1951) in which each byte has its own code, and nothing is looked for that came before.

zlib calls it the strategy Z_HUFFMAN_ONLY. What a filter for PNG or TIFF leaves of a photograph gains little from more.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lkdn_deploy.imaging.files.loops import Loops

Bytes = NDArray[np.uint8]

LONGEST = 14
"""Bits of a code, of the 15 there may be: four codes and what is left of a byte fit into 64 bits."""

_END = 256  # the symbol behind the last byte
_DYNAMIC = 2  # a block with codes of its own
_DISTANCES = 2  # codes, of which none is used; some decoders want a complete set
_LENGTH_BITS, _ORDER = 4, 19  # a length is written in 4 bits, so that 16 of 19 symbols for lengths have 4 bits each
_FIELDS = [(_DYNAMIC, 2), (0, 5), (_DISTANCES - 1, 5), (_ORDER - 4, 4), *[(0, 3)] * 3, *[(_LENGTH_BITS, 3)] * 16]
_HEAD = [value >> bit & 1 for value, size in _FIELDS for bit in range(size)]  # the same for all blocks
_RAREST = 13  # what is rarer than 2 to the power of minus that is given a code as if it were not: few are too long


def huffman_block(data: Bytes, loops: "Loops", *, last: bool) -> bytes:
    """One block, the last of a stream, or followed by an empty one so that it ends with a byte.

    Args:
        data: contiguous, one byte or more.
        loops: the machine code.
        last: whether the stream ends with it.
    """
    groups, behind = data.size // 4, data[data.size // 4 * 4 :]
    lengths = _lengths(data, behind, loops)
    codes = codes_of(lengths)
    bits = _head(lengths, last=last)
    head, start = np.packbits(bits, bitorder="little"), len(bits) // 8
    packed = np.empty(start + data.size * LONGEST // 8 + 8, np.uint8)
    packed[:start] = head[:start]
    state = np.array([packed.ctypes.data + start, head[start], len(bits) % 8], np.uint64)
    table = (codes | lengths << 16).astype(np.uint32)
    loops.pack(data.ctypes.data, groups, table.ctypes.data, state.ctypes.data)
    address, rest, count = map(int, state)
    for symbol in (*behind.tolist(), _END):
        rest |= int(codes[symbol]) << count
        count += int(lengths[symbol])
    if last:
        tail = rest.to_bytes(-(-count // 8), "little")
    else:  # three bits say that a block of plain bytes follows, which begins with a byte and has none
        tail = rest.to_bytes(-(-(count + 3) // 8), "little") + b"\0\0\xff\xff"
    return bytes(packed.data[: address - packed.ctypes.data]) + tail


def _lengths(data: Bytes, behind: Bytes, loops: "Loops") -> NDArray[np.int64]:
    """Bits of the code of each byte and of the end, 0 for bytes that are not there."""
    tables = np.zeros((4, 256), np.uint32)
    loops.count(data.ctypes.data, data.size // 4, tables.ctypes.data)
    counts = np.append(tables.sum(axis=0, dtype=np.int64) + np.bincount(behind, minlength=256), 1)
    there = counts > 0
    lengths = np.zeros_like(counts)
    lengths[there] = code_lengths(np.maximum(counts[there], counts.sum() >> _RAREST).tolist())
    return lengths


def code_lengths(weights: Sequence[int]) -> list[int]:
    """Bits of the code of each symbol, at most ``LONGEST``: Huffman's, of weights made more alike until they are.

    D. A. Huffman, A Method for the Construction of Minimum-Redundancy Codes, 1952: the two least become one.

    Args:
        weights: 1 or more each, of 2 symbols or more.
    """
    order = sorted(range(len(weights)), key=weights.__getitem__)
    sums = [weights[symbol] for symbol in order]
    count, total = len(sums), 2 * len(sums) - 1
    above = [0] * total
    leaf, pair = 0, count  # the least of those that are in no pair yet; pairs come about in the order of their sums
    for new in range(count, total):
        both = 0
        for _ in range(2):
            if leaf < count and (pair == new or sums[leaf] <= sums[pair]):
                child, leaf = leaf, leaf + 1
            else:
                child, pair = pair, pair + 1
            above[child] = new
            both += sums[child]
        sums.append(both)
    depths = [0] * total
    for place in range(total - 2, -1, -1):
        depths[place] = depths[above[place]] + 1
    if max(depths) > LONGEST:
        return code_lengths([(weight + 1) // 2 for weight in weights])
    lengths = [0] * count
    for symbol, depth in zip(order, depths, strict=False):
        lengths[symbol] = depth
    return lengths


def codes_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The code of each symbol, RFC 1951, 3.2.2, its first bit the lowest: shorter ones first, then by symbol.

    Args:
        lengths: of the codes, 0 for symbols that have none.
    """
    order = np.argsort(lengths, kind="stable")
    shares = np.where(lengths > 0, 1 << 16 >> lengths, 0)[order]  # of the numbers of 16 bits, those that begin with it
    first = (np.cumsum(shares) - shares).astype(">u2")
    codes = np.empty_like(lengths)
    codes[order] = np.packbits(np.unpackbits(first.view(np.uint8)), bitorder="little").view("<u2")
    return codes


def _head(lengths: NDArray[np.int64], *, last: bool) -> Bytes:
    """Bits of a block before its bytes, RFC 1951, 3.2.7, one an element."""
    of_codes = np.append(lengths, [1] * _DISTANCES).astype(np.uint8)
    bits = np.unpackbits(of_codes[:, None], axis=1)[:, -_LENGTH_BITS:]
    return np.concatenate([[last], _HEAD, bits.reshape(-1)]).astype(np.uint8)
