"""Codes of bytes: as short as they can be, whole, in the order that decoders expect, and packed without a gap."""

import heapq
import subprocess
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkdn_deploy.imaging.files import machine_code, png_filters
from lkdn_deploy.imaging.files.huffman import LONGEST, code_lengths, codes_of, huffman_block
from lkdn_deploy.imaging.files.loops import Loops
from lkdn_deploy.imaging.files.read import read_picture
from lkdn_deploy.jit.compiler import processor

Bytes = np.ndarray[Any, Any]

LOOPS = Loops(processor())


def least(weights: Sequence[int]) -> int:
    """Bits of all symbols with codes of any length: each pair costs its sum."""
    heap = list(weights)
    heapq.heapify(heap)
    bits = 0
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        bits += both
        heapq.heappush(heap, both)
    return bits


@given(st.lists(st.integers(1, 50), min_size=2, max_size=257))
def test_codes_are_as_short_as_they_can_be(weights: list[int]) -> None:
    lengths = code_lengths(weights)
    assert sum(0.5**length for length in lengths) == 1
    assert sum(weight * length for weight, length in zip(weights, lengths, strict=True)) == least(weights)


@given(st.lists(st.integers(0, 40), min_size=2, max_size=257))
def test_no_code_is_too_long_whatever_the_weights(powers: list[int]) -> None:
    lengths = code_lengths([1 << power for power in powers])
    assert sum(0.5**length for length in lengths) == 1
    assert max(lengths) <= LONGEST


def test_codes_are_those_of_the_standard() -> None:
    """RFC 1951, 3.2.2: its example, with a symbol that has no code before it."""
    codes = codes_of(np.array([0, 3, 3, 3, 3, 3, 2, 4, 4]))
    written = [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111]
    lengths = [3, 3, 3, 3, 3, 2, 4, 4]
    assert codes[1:].tolist() == [
        int(f"{code:0{length}b}"[::-1], 2) for code, length in zip(written, lengths, strict=True)
    ]


@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.integers(1, 256), st.floats(0.001, 1))
def test_any_standard_decoder_gives_the_bytes_back(seed: int, size: int, values: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    data = np.minimum(random.geometric(spread, size), values).astype(np.uint8)
    whole, part = (huffman_block(data, LOOPS, last=last) for last in (True, False))
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    assert stream.decompress(whole) == data.tobytes()
    assert stream.eof
    assert not stream.unused_data
    assert zlib.decompress(part + part + whole, -zlib.MAX_WBITS) == 3 * data.tobytes()


def test_blocks_are_as_large_as_zlib_s() -> None:
    random = np.random.default_rng(0)
    data = np.round(random.laplace(0, 3, 1 << 20)).astype(np.int8).view(np.uint8)
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS, memLevel=9, strategy=zlib.Z_HUFFMAN_ONLY)
    theirs = deflate.compress(data.data) + deflate.flush()
    assert len(huffman_block(data, LOOPS, last=True)) < 1.005 * len(theirs)


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("pixel", [1, 3, 8])
def test_filters_in_machine_code_are_those_of_numpy(lanes: int, pixel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them on rows of all lengths, of values near each other and of any."""
    loops = Loops(replace(processor(), lanes=lanes))
    random = np.random.default_rng(pixel)
    for width in (pixel, 2 * pixel, 16 * pixel, 64 + pixel, 301 * pixel):
        near = np.cumsum(random.integers(-2, 3, (20, width)), axis=1)
        samples = np.concatenate((near, random.integers(0, 256, (20, width)))).astype(np.uint8)
        for number in (0, 1, 2, 4):
            monkeypatch.setattr(png_filters, "_least", lambda _samples, _pixel, number=number: number)
            expected = png_filters.filtered(samples, pixel, None)
            assert np.array_equal(png_filters.filtered(samples, pixel, loops), expected)


def test_machine_code_is_loaded_for_large_pictures_only() -> None:
    assert machine_code.loops_for(1 << 20) is None
    assert machine_code.loops_for(1 << 24) is machine_code.loops_for(1 << 26) is not None


def test_large_pictures_are_written_without_llvmlite(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['llvmlite'] = None; import numpy as np\n"
        "from lkdn_deploy.imaging.files.machine_code import loops_for\n"
        "from lkdn_deploy.imaging.files.picture import Picture\n"
        "from lkdn_deploy.imaging.files.write import write_picture\n"
        "assert loops_for(1 << 24) is None\n"
        "pixels = np.arange(2000 * 1000 * 3, dtype=np.uint32).astype(np.uint8).reshape(2000, 1000, 3)\n"
        "for name in sys.argv[1:]: write_picture(name, Picture(pixels))\n"
    )
    files = [tmp_path / "x.png", tmp_path / "x.tif"]
    subprocess.run([sys.executable, "-c", code, *map(str, files)], check=True)
    for file in files:
        assert np.array_equal(
            read_picture(file).pixels.reshape(-1), np.arange(6_000_000, dtype=np.uint32).astype(np.uint8)
        )
