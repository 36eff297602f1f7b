"""Every network is recognised by the names and shapes of its weights; other weights are refused with the reason."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_models.checkpoint import load_checkpoint, save_checkpoint
from lkdn_models.nets.fsrcnn import FSRCNN
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.nets.pan import PAN
from lkdn_models.recognise import State, recognise
from lkdn_models.zoo import ZooEntry, all_entries, entries, find

OTHERS = [entry for entry in all_entries() if entry.spec is None]
AMBIGUOUS = {"pan": (2, 3), "idn": (2, 3, 4), "fsrcnn": (2, 3, 4), "srcnn": (2, 3, 4), "srcnn-915": (2, 3, 4)}
"""Networks whose weights have the same shapes at these scales, though each scale has its own."""


@cache
def weights_of(entry: ZooEntry) -> State:
    """Names and shapes."""
    with torch.device("meta"):
        return entry.build().state_dict()


@pytest.mark.parametrize("entry", OTHERS, ids=lambda entry: f"{entry.name}-x{entry.scale}")
def test_a_network_is_recognised_and_the_scale_asked_for_decides_where_several_fit(entry: ZooEntry) -> None:
    assert recognise(weights_of(entry), entry.scale) is entry


@pytest.mark.parametrize("name", dict.fromkeys(entry.name for entry in OTHERS))
def test_without_a_scale_shapes_decide_or_the_largest_is_taken_or_it_is_asked_for(name: str) -> None:
    for entry in entries(name):
        if entry.scale in AMBIGUOUS.get(name, ()):
            choice = ", ".join(f"x{scale}" for scale in AMBIGUOUS[name])
            with pytest.raises(InputError, match=rf"weights of {name} may be for {choice}: .* \(give .* --scale\)"):
                recognise(weights_of(entry))
        else:
            assert recognise(weights_of(entry)) is (find(name, 4) if entry.network.shared_weights else entry)


@pytest.mark.parametrize(
    ("name", "own", "asked", "found"), [("bsrn", 4, 2, 4), ("rlfn", 4, 2, 4), ("pan", 4, 2, 4), ("carn-m", 2, 8, 4)]
)
def test_a_scale_that_weights_of_one_scale_or_shared_ones_lack_changes_nothing(
    name: str, own: int, asked: int, found: int
) -> None:
    assert recognise(weights_of(find(name, own)), asked) is find(name, found)


def test_a_scale_that_is_none_of_those_that_fit_is_refused_with_them() -> None:
    with pytest.raises(InputError, match=r"may be for x2, x3, but not for x4"):
        recognise(weights_of(find("pan", 2)), 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("B3.esa.conv_f.bias"), r"\(B3\.esa\.conv_f\.bias is missing\)"),
        (lambda state: state.update(extra=torch.zeros(1)), r"\(extra is unknown\)"),
        (lambda state: state.update({"c1.bias": torch.zeros(63)}), r"\(c1\.bias is \(63,\), not \(64,\)\)"),
        (
            lambda state: [state.update({f"extra.{i:02}": torch.zeros(1)}) for i in range(11)],
            r"\(extra\.00 is unknown, .*extra\.07 is unknown and 3 more\)",
        ),
    ],
)
def test_a_network_that_almost_fits_is_named_with_what_is_wrong(change: Callable[[dict], object], message: str) -> None:
    state = dict(weights_of(find("bsrn", 3)))
    change(state)
    with pytest.raises(InputError, match=f"looks like bsrn x3, but does not fit it {message}"):
        recognise(state)


@pytest.mark.parametrize(
    ("name", "scale", "block"), [("bsrn", 4, "B8"), ("bsrn-s", 4, "B5"), ("rfdn", 2, "B6"), ("vapsr", 3, "body.19")]
)
def test_a_network_of_another_depth_is_named_with_what_is_missing(name: str, scale: int, block: str) -> None:
    state = {key: value for key, value in weights_of(find(name, scale)).items() if not key.startswith(f"{block}.")}
    with pytest.raises(InputError, match=rf"looks like {name} x{scale}, but does not fit it \({block}\..* is missing"):
        recognise(state)


def test_names_of_no_network_are_listed() -> None:
    state = {f"layer{i}.weight": torch.zeros(3) for i in range(10)}
    with pytest.raises(InputError, match=r"no network .* \(its keys: layer0\.weight, .* and 2 more\)"):
        recognise(state)


@pytest.mark.parametrize("block", Block)
@pytest.mark.parametrize("upsampler", Upsampler)
@pytest.mark.parametrize("copies", [1, 4])
def test_an_lkdn_is_recognised_in_every_form_but_for_a_shortcut_without_weights(
    block: Block, upsampler: Upsampler, copies: int
) -> None:
    with torch.device("meta"):
        state = LKDN(LkdnSpec(3, 2, 10, 7, block, upsampler, input_copies=copies)).state_dict()
    seen = Block.BSB if block is Block.BSRB else block
    assert recognise(state, 2) == LkdnSpec(3, 2, 10, 7, seen, upsampler, input_copies=copies)


def test_published_files_are_recognised_with_their_scale(data: Path) -> None:
    expected = {entry.weights.file_name: entry for entry in all_entries() if entry.weights}
    expected["LKDN-S_del_rep_x4.pth"] = find("lkdn-s", 4)  # LKDN-S as its authors fused it, which is in no table
    paths = [path for path in (data / "weights").rglob("*.pth") if path.name in expected]
    assert len(paths) > 10
    for path in paths:
        checkpoint, entry = load_checkpoint(path), expected[path.name]
        assert (checkpoint.name, checkpoint.scale) == (entry.name, entry.scale), path
        if entry.spec:
            checkpoint.build()
            assert checkpoint.spec == (entry.spec.deployed if "_rep_" in path.name else entry.spec), path
            assert f"{checkpoint.sha256}  LKDN/{path.name}" in (data / "weights" / "SHA256SUMS").read_text()


def test_a_header_tells_the_scale_before_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "fsrcnn.safetensors"
    safetensors.torch.save_file(FSRCNN(3).state_dict(), path, metadata={"network": "fsrcnn", "scale": "3"})
    assert load_checkpoint(path).network is load_checkpoint(path, 2).network is find("fsrcnn", 3)


@pytest.mark.parametrize("header", [{"network": "idn", "scale": "2"}, {"network": "idn"}, {"scale": "8"}])
def test_a_header_cannot_change_what_the_weights_tell(tmp_path: Path, header: dict[str, str]) -> None:
    path = tmp_path / "pan.safetensors"
    safetensors.torch.save_file(PAN(4).state_dict(), path, metadata=header)
    assert load_checkpoint(path).network is find("pan", 4)


@pytest.mark.parametrize("scale", ["5", "two", "", "0", "9", "-1", "1" * 30])
def test_a_header_whose_scale_is_none_does_not_tell_it(tmp_path: Path, scale: str) -> None:
    path = tmp_path / "fsrcnn.safetensors"
    safetensors.torch.save_file(FSRCNN(3).state_dict(), path, metadata={"scale": scale})
    with pytest.raises(InputError, match="may be for x2, x3, x4"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["lkdn-s-bsb", "lkdn-s-bsrb", "lkdn-s", "lkdn-c64-a32"])
def test_ablations_of_lkdn_have_their_own_names(tmp_path: Path, name: str) -> None:
    entry = find(name, 4)
    save_checkpoint(tmp_path / "w.safetensors", entry.spec, entry.build().state_dict())
    assert load_checkpoint(tmp_path / "w.safetensors").name == name


def test_what_is_written_of_a_file_cannot_drive_a_terminal(tmp_path: Path) -> None:
    torch.save({"\x1b[31mred": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(InputError) as refused:
        load_checkpoint(tmp_path / "w.pth")
    assert "\x1b" not in str(refused.value)
