"""VDSR's published weights: read from MATLAB's file as data, and measured."""

import importlib.util
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from lkdn_deploy.core.errors import InputError
from lkdn_models.nets.vdsr import VDSR
from lkdn_models.rgb import as_rgb
from lkdn_models.training.evaluate import floats, mean, measure_luma, open_set
from lkdn_models.zoo import Input


@pytest.fixture(scope="module")
def convert() -> ModuleType:
    """The script ``tools/convert_vdsr.py``."""
    path = Path(__file__).parents[3] / "tools" / "convert_vdsr.py"
    spec = importlib.util.spec_from_file_location("convert_vdsr", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_published_model_has_its_quality(convert: ModuleType, data: Path, tmp_path: Path) -> None:
    target = tmp_path / "vdsr.safetensors"
    convert.main(str(data / "weights" / "VDSR" / "VDSR_Official.mat"), str(target))
    with safe_open(target, "pt") as file:
        assert file.metadata() == {"network": "vdsr"}
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    network = VDSR().eval()
    network.load_state_dict(state)
    quality = mean(
        measure_luma(floats(as_rgb(network, Input.ENLARGED_LUMA, 4)), open_set(data / "testsets" / "Set5", 4))
    )
    assert quality.psnr_y == pytest.approx(31.343, abs=0.005)
    assert quality.ssim_y == pytest.approx(0.8838, abs=0.0001)


# MATLAB's level 5, written by hand.


def element(kind: int, payload: bytes) -> bytes:
    return struct.pack("<II", kind, len(payload)) + payload + bytes(-len(payload) % 8)


def small(kind: int, payload: bytes) -> bytes:
    return struct.pack("<HH", kind, len(payload)) + payload.ljust(4, b"\0")


def array(array_class: int, shape: tuple[int, ...], *contents: bytes, name: bytes = b"", flags: int = 0) -> bytes:
    head = element(6, struct.pack("<II", array_class | flags, 0))
    return element(
        14, head + element(5, struct.pack(f"<{len(shape)}i", *shape)) + element(1, name) + b"".join(contents)
    )


def numbers(values: NDArray[np.floating]) -> bytes:
    """A single or double array, a last dimension of 1 dropped."""
    shape = values.shape[:-1] if values.ndim > 2 and values.shape[-1] == 1 else values.shape
    stored = values.reshape(-1, order="F").tobytes()
    double = values.dtype == np.float64
    return array(6 if double else 7, shape, element(9 if double else 7, stored))


def cell(*members: bytes) -> bytes:
    return array(1, (1, len(members)), *members)


def structure(name: bytes, **members: bytes) -> bytes:
    names = b"".join(member.encode().ljust(8, b"\0") for member in members)
    return array(2, (1, 1), small(5, struct.pack("<i", 8)), element(1, names), *members.values(), name=name)


def model(network: VDSR, dtype: type[np.floating] = np.float32) -> bytes:
    weights = [layer.weight.detach().numpy().astype(dtype).transpose(2, 3, 1, 0) for layer in network.layers]
    biases = [layer.bias.detach().numpy().astype(dtype)[:, None] for layer in network.layers]
    return structure(b"model", weight=cell(*map(numbers, weights)), bias=cell(*map(numbers, biases)))


def mat(*arrays: bytes) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"".join(arrays)


def compressed(content: bytes) -> bytes:
    packed = zlib.compress(content)
    return struct.pack("<II", 15, len(packed)) + packed


@pytest.mark.parametrize("wrap", [compressed, lambda content: content], ids=["compressed", "plain"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_comes_back_as_it_was_written(
    convert: ModuleType, tmp_path: Path, dtype: type[np.floating], wrap: Callable[[bytes], bytes]
) -> None:
    network = VDSR()
    path = tmp_path / "vdsr.mat"
    path.write_bytes(mat(wrap(numbers(np.ones((1, 1)))), wrap(model(network, dtype))))
    read = convert.read(path)
    expected = network.state_dict()
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], expected[name]) for name in expected)


ONES = np.ones((3, 3), np.float32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a little-endian MATLAB file of level 5"),
        (b"\x89HDF\r\n\x1a\n".ljust(200, b"\0"), "not a little-endian MATLAB file of level 5"),
        (mat(), "no structure model"),
        (mat(b"abc"), "cut short in the head"),
        (mat(structure(b"model", weight=cell(numbers(ONES)), bias=cell())), "cells weight and bias of one length"),
        (mat(structure(b"model", weight=cell(cell()), bias=cell(cell()))), "layer 1 is not a weight"),
        (
            mat(structure(b"model", weight=cell(numbers(ONES)), bias=cell(numbers(ONES)))),
            "not a VDSR: number or shapes",
        ),
        (mat(model(VDSR())[:-8]), r"an element claims 2,\d+,\d+ bytes and has"),
        (mat(model(VDSR(depth=19))), "not a VDSR: number or shapes"),
        (mat(compressed(model(VDSR()))[:-8]), "an element claims"),
        (mat(element(15, zlib.compress(bytes(100))[:-4])), "cut short, or more than"),
        (mat(element(15, zlib.compress(bytes(1 << 26) + b"1"))), "cut short, or more than"),
        (mat(element(15, b"no zlib")), "damaged"),
        (mat(compressed(b"")), "the file ends early"),
        (mat(element(9, bytes(8))), "an array was expected, got an element of kind 9"),
        (mat(array(6, (2, 2), element(9, bytes(24)), name=b"x")), r"x of \(2, 2\) holds 3 numbers"),
        (mat(array(6, (1, 1), element(9, bytes(7)))), "7 bytes are not a multiple of 8"),
        (mat(array(6, (1, 1), element(9, bytes(8)), element(9, bytes(8)), flags=0x800)), "only structures, cells and"),
        (mat(array(4, (1, 1), element(4, bytes(2)))), "is of class 4: only structures"),
        (mat(array(6, (1, 1), element(99, bytes(8)))), "numbers of kind any were expected, got kind 99"),
        (mat(array(6, (-1, -1), element(9, bytes(8)))), "odd flags or dimensions"),
        (mat(array(1, (1 << 30, 1 << 30))), "ends early"),
        (mat(element(14, b"")), "ends early"),
    ],
)
def test_what_is_no_such_model_is_refused(convert: ModuleType, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "vdsr.mat"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        convert.read(path)


def test_arrays_nested_without_end_are_refused(convert: ModuleType, tmp_path: Path) -> None:
    nested = cell()
    for _ in range(2000):
        nested = cell(nested)
    path = tmp_path / "vdsr.mat"
    path.write_bytes(mat(nested))
    with pytest.raises(InputError, match="nested too deeply"):
        convert.read(path)


def test_weights_that_are_no_numbers_are_refused(convert: ModuleType, tmp_path: Path) -> None:
    network = VDSR()
    with torch.no_grad():
        network.layers[3].bias[0] = torch.nan
    path = tmp_path / "vdsr.mat"
    path.write_bytes(mat(model(network)))
    with pytest.raises(InputError, match=r"these are not: layers\.3\.bias"):
        convert.read(path)


def test_the_command_says_what_is_wrong_and_leaves_no_file(convert: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="cannot be read"):
        convert.main(str(tmp_path / "absent.mat"), str(tmp_path / "vdsr.safetensors"))
    assert list(tmp_path.iterdir()) == []
