"""IDN's published Caffe models and VDSR's MATLAB file: read as data, and measured."""

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
from lkdn_models.nets.idn import IDN
from lkdn_models.nets.vdsr import VDSR
from lkdn_models.rgb import as_rgb
from lkdn_models.training.evaluate import floats, mean, measure_luma, open_set
from lkdn_models.zoo import Input


def script(name: str) -> ModuleType:
    """The script ``tools/convert_NAME.py``."""
    path = Path(__file__).parents[3] / "tools" / f"convert_{name}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPTS = {name: script(name) for name in ("idn", "vdsr")}
each_script = pytest.mark.parametrize("convert", SCRIPTS.values(), ids=SCRIPTS)


@pytest.mark.parametrize(
    ("name", "file", "network", "takes", "header", "psnr", "ssim"),
    [
        ("idn", "IDN/IDN_x4.caffemodel", IDN(4), Input.LUMA, {"network": "idn", "scale": "4"}, 31.809, 0.8902),
        pytest.param(
            *("vdsr", "VDSR/VDSR_Official.mat", VDSR(), Input.ENLARGED_LUMA, {"network": "vdsr"}, 31.343, 0.8838),
            marks=pytest.mark.long,
        ),
    ],
)
def test_the_published_model_has_its_quality(
    name: str,
    file: str,
    network: IDN | VDSR,
    takes: Input,
    header: dict[str, str],
    psnr: float,
    ssim: float,
    data: Path,
    tmp_path: Path,
) -> None:
    target = tmp_path / "x.safetensors"
    SCRIPTS[name].main(str(data / "weights" / file), str(target))
    with safe_open(target, "pt") as opened:
        assert opened.metadata() == header
        network.load_state_dict({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118 (no dict)
    quality = mean(measure_luma(floats(as_rgb(network.eval(), takes, 4)), open_set(data / "testsets" / "Set5", 4)))
    assert quality.psnr_y == pytest.approx(psnr, abs=0.005)
    assert quality.ssim_y == pytest.approx(ssim, abs=0.0001)


@each_script
def test_the_command_says_what_is_wrong_and_leaves_no_file(convert: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="cannot be read"):
        convert.main(str(tmp_path / "absent"), str(tmp_path / "x.safetensors"))
    assert list(tmp_path.iterdir()) == []


# Caffe's protobuf, written by hand.


def varint(value: int) -> bytes:
    head = []
    while value > 0x7F:
        head.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*head, value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def blob(values: NDArray[np.float32], shape: tuple[int, ...] | None = None) -> bytes:
    dims = b"".join(map(varint, values.shape if shape is None else shape))
    return field(5, values.astype("<f4").tobytes()) + field(7, field(1, dims))


def layer(name: str, *blobs: bytes, stride: int | None = None) -> bytes:
    parts = [field(1, name.encode()), *(field(7, part) for part in blobs)]
    if stride is not None:
        parts.append(field(106, field(6, stride)))
    return field(100, b"".join(parts))


def caffemodel(scale: int, state: dict[str, torch.Tensor]) -> bytes:
    names = dict.fromkeys(name.partition(".")[0] for name in state)
    return field(1, b"IDN") + b"".join(
        layer(
            name,
            *(blob(state[f"{name}.{part}"].numpy()) for part in ("weight", "bias")),
            stride=scale if name == "upsample" else None,
        )
        for name in names
    )


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


def read(name: str, content: bytes, folder: Path) -> object:
    path = folder / "model"
    path.write_bytes(content)
    return SCRIPTS[name].read(path)


def test_an_idn_comes_back_as_it_was_written(tmp_path: Path) -> None:
    state = IDN(3).state_dict()
    # Layers without weights, numbers of fixed size and unknown fields are passed over.
    content = layer("data") + b"\x1d\x00\x00\x80?" + b"\x19" + bytes(8) + caffemodel(3, state) + field(9, 300)
    found, scale = read("idn", content, tmp_path)
    assert scale == 3
    torch.testing.assert_close(found, dict(state), rtol=0, atol=0)


@pytest.mark.parametrize("wrap", [compressed, lambda content: content], ids=["compressed", "plain"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_vdsr_comes_back_as_it_was_written(
    tmp_path: Path, dtype: type[np.floating], wrap: Callable[[bytes], bytes]
) -> None:
    network = VDSR()
    found = read("vdsr", mat(wrap(numbers(np.ones((1, 1)))), wrap(model(network, dtype))), tmp_path)
    torch.testing.assert_close(found, dict(network.state_dict()), rtol=0, atol=0)


def with_a_nan(network: IDN | VDSR, name: str) -> IDN | VDSR:
    network.state_dict()[name].fill_(torch.nan)
    return network


def nested(times: int) -> bytes:
    content = cell()
    for _ in range(times):
        content = cell(content)
    return content


ONES = np.ones((2, 3), np.float32)
SQUARE = np.ones((3, 3), np.float32)
NO_IDN = [
    (b"", "stride None"),
    (b"\x80" * 3, "an integer does not end"),
    (b"\xff" * 20, "an integer does not end"),
    (field(100, b"abc")[:-1], "a field of 3 bytes where 2 are left"),
    (varint(100 << 3 | 2) + varint(1 << 62), "a field of 4,611,686,018,427,387,904 bytes where 0 are left"),
    (varint(1 << 3 | 5) + b"abc", "a field of 4 bytes where 3 are left"),
    (b"\x0b", "there is no wire type 3"),
    (field(100, 7), "a number where a message must be"),
    (layer("conv1", blob(ONES)), "expected weights and biases once, got 1 blobs"),
    (2 * layer("conv1", blob(ONES), blob(ONES)), "or a second layer"),
    (layer("conv1", blob(ONES, (2, 4)), blob(ONES)), r"a blob of shape \[2, 4\] cannot have 24 bytes"),
    (layer("conv1", blob(ONES, (1 << 40, 1 << 40)), blob(ONES)), "cannot have 24 bytes"),
    (layer("conv1", field(5, struct.pack("<f", 1)), blob(ONES)), r"a blob of shape \[\] cannot have 4 bytes"),
    (layer("upsample", blob(ONES), blob(ONES), stride=5), r"stride 5, not one of \(2, 3, 4\)"),
    (layer("upsample", blob(ONES), blob(ONES), stride=2), "names or shapes of its weights differ"),
    (caffemodel(2, with_a_nan(IDN(2), "conv1.weight").state_dict()), r"these are not: conv1\.weight"),
]
NO_VDSR = [
    (b"", "not a little-endian MATLAB file of level 5"),
    (b"\x89HDF\r\n\x1a\n".ljust(200, b"\0"), "not a little-endian MATLAB file of level 5"),
    (mat(), "no structure model"),
    (mat(b"abc"), "cut short in the head"),
    (mat(structure(b"model", weight=cell(numbers(SQUARE)), bias=cell())), "cells weight and bias of one length"),
    (mat(structure(b"model", weight=cell(cell()), bias=cell(cell()))), "layer 1 is not a weight"),
    (
        mat(structure(b"model", weight=cell(numbers(SQUARE)), bias=cell(numbers(SQUARE)))),
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
    (mat(nested(2000)), "nested too deeply"),
    (mat(model(with_a_nan(VDSR(), "layers.3.bias"))), r"these are not: layers\.3\.bias"),
]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("idn", *case) for case in NO_IDN] + [("vdsr", *case) for case in NO_VDSR],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_what_is_no_such_model_is_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(name, content, tmp_path)
