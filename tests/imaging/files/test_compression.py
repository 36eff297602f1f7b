"""Deflated samples come back, and are as small as by the better of two strategies, with and without runs."""

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lkdn_deploy.imaging.files.compression import deflate_blocks, zlib_stream

Samples = np.ndarray[Any, Any]


@given(st.sampled_from([np.uint8, np.uint16]).flatmap(lambda dtype: arrays.arrays(dtype, st.integers(1, 70))))
def test_the_bytes_come_back(samples: Samples) -> None:
    assert zlib.decompress(zlib_stream(samples)) == samples.tobytes()
    assert zlib.decompress(deflate_blocks(samples) + b"\x03\0", -zlib.MAX_WBITS) == samples.tobytes()


def noise(flat: float) -> Samples:
    """Make small numbers, with a share of them replaced by long runs."""
    random = np.random.default_rng(0)
    pieces = random.geometric(0.4, (1000, 300)).astype(np.uint8)
    pieces[: round(flat * len(pieces))] = 0
    return random.permutation(pieces)


@pytest.mark.parametrize("flat", [0, 0.05, 0.3, 0.7, 1])
def test_runs_are_looked_for_where_they_are_worth_it(flat: float) -> None:
    samples = noise(flat)

    def size(strategy: int) -> int:
        deflate = zlib.compressobj(memLevel=9, strategy=strategy)
        return len(deflate.compress(samples) + deflate.flush())

    assert len(zlib_stream(samples)) < 1.02 * min(size(zlib.Z_RLE), size(zlib.Z_HUFFMAN_ONLY))
