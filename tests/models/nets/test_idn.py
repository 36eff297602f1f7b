"""IDN's published Caffe model: read as data, and measured."""

import importlib.util
import struct
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from lkdn_deploy.core.errors import InputError
from lkdn_models.nets.idn import IDN
from lkdn_models.rgb import as_rgb
from lkdn_models.training.evaluate import floats, mean, measure_luma, open_set
from lkdn_models.zoo import Input


@pytest.fixture(scope="module")
def convert() -> ModuleType:
    """The script ``tools/convert_idn.py``."""
    path = Path(__file__).parents[3] / "tools" / "convert_idn.py"
    spec = importlib.util.spec_from_file_location("convert_idn", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_published_model_has_its_quality(convert: ModuleType, data: Path, tmp_path: Path) -> None:
    target = tmp_path / "idn_x4.safetensors"
    convert.main(str(data / "weights" / "IDN" / "IDN_x4.caffemodel"), str(target))
    with safe_open(target, "pt") as file:
        assert file.metadata() == {"network": "idn", "scale": "4"}
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    network = IDN(4).eval()
    network.load_state_dict(state)
    quality = mean(measure_luma(floats(as_rgb(network, Input.LUMA, 4)), open_set(data / "testsets" / "Set5", 4)))
    assert quality.psnr_y == pytest.approx(31.809, abs=0.005)
    assert quality.ssim_y == pytest.approx(0.8902, abs=0.0001)


# Protobuf, written by hand.


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


def test_a_model_comes_back_as_it_was_written(convert: ModuleType, tmp_path: Path) -> None:
    state = IDN(3).state_dict()
    path = tmp_path / "IDN.caffemodel"
    # Layers without weights, numbers of fixed size and unknown fields are passed over.
    path.write_bytes(layer("data") + b"\x1d\x00\x00\x80?" + b"\x19" + bytes(8) + caffemodel(3, state) + field(9, 300))
    read, scale = convert.read(path)
    assert scale == 3
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


ONES = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
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
    ],
)
def test_what_is_no_such_model_is_refused(convert: ModuleType, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "IDN.caffemodel"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        convert.read(path)


def test_weights_that_are_no_numbers_are_refused(convert: ModuleType, tmp_path: Path) -> None:
    state = IDN(2).state_dict()
    state["conv1.weight"][0] = torch.nan
    path = tmp_path / "IDN.caffemodel"
    path.write_bytes(caffemodel(2, state))
    with pytest.raises(InputError, match=r"these are not: conv1\.weight"):
        convert.read(path)


def test_the_command_says_what_is_wrong_and_leaves_no_file(convert: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="cannot be read"):
        convert.main(str(tmp_path / "absent.caffemodel"), str(tmp_path / "idn.safetensors"))
    assert list(tmp_path.iterdir()) == []
