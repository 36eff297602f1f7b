"""Weights are data: recognised by names and shapes, refused with the reason, and never run."""

import argparse
import io
import os
import pickle
import re
import resource
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from lkdn_deploy.core.errors import InputError, MissingError
from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_models.checkpoint import load_checkpoint, save_checkpoint
from lkdn_models.nets.lkdn import LKDN

State = dict[str, torch.Tensor]
SMALL = LkdnSpec(3, 2, 8, 6, Block.RBSB, Upsampler.REP, input_copies=2)


@pytest.fixture
def state() -> State:
    torch.manual_seed(0)
    return LKDN(SMALL).state_dict()


@pytest.mark.parametrize("block", Block)
@pytest.mark.parametrize("upsampler", Upsampler)
def test_what_was_saved_comes_back_whatever_its_form(tmp_path: Path, block: Block, upsampler: Upsampler) -> None:
    spec = LkdnSpec(2, 3, 10, 7, block, upsampler, input_copies=3)
    network = LKDN(spec)
    save_checkpoint(tmp_path / "w.safetensors", spec, network.state_dict())
    back = load_checkpoint(tmp_path / "w.safetensors")
    assert back.spec == spec
    assert all(torch.equal(back.state[name], value) for name, value in network.state_dict().items())


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


def zeros(state: State) -> State:
    return {name: 0 * value for name, value in state.items()}


WRAPPED: dict[str, Any] = {
    "bare": lambda state: state,
    "params": lambda state: {"params": state},
    "ema before plain": lambda state: {"params_ema": state, "params": zeros(state)},
    "ema with a dash": lambda state: {"params": zeros(state), "params-ema": state},
    "empty ema": lambda state: {"params_ema": {}, "params": state},
    "DataParallel": lambda state: {"params_ema": prefixed(state, "module.")},
    "AveragedModel": lambda state: {"params_ema": prefixed(state, "module.") | {"n_averaged": torch.tensor(1000)}},
    "ema-pytorch": lambda state: (
        prefixed(state, "ema_model.") | {"initted": torch.tensor(True), "step": torch.tensor(7)}
    ),
    "ema-pytorch with both": lambda state: (
        prefixed(zeros(state), "online_model.") | prefixed(state, "ema_model.") | {"step": torch.tensor(7)}
    ),
    "compiled": lambda state: prefixed(state, "_orig_mod."),
    "compiled, then parallel": lambda state: {"params": prefixed(state, "module._orig_mod.")},
    "parallel, then compiled": lambda state: {"params": prefixed(state, "_orig_mod.module.")},
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "Lightning": lambda state: {"state_dict": prefixed(state, "model."), "hyper_parameters": {"lr": 1e-3}},
    "Lightning, adversarial": lambda state: {
        "state_dict": prefixed(state, "net_g.") | prefixed(zeros(state), "net_d."),
        "epoch": 1,
    },
    "tutorial": lambda state: {"model_state_dict": state, "optimizer_state_dict": {"state": {}}, "loss": 0.1},
    "thop": lambda state: {"params": state | {"total_ops": torch.zeros(1), "B1.c5.total_params": torch.zeros(1)}},
    "half": lambda state: {name: value.half() for name, value in state.items()},
    "views of one tensor": lambda state: {
        name: part.view_as(state[name]) for name, part in zip(state, flat_parts(state), strict=True)
    },
} | {key: lambda state, key=key: {key: state, "iter": 500000} for key in ("model", "net_g", "net", "generator")}


def flat_parts(state: State) -> tuple[torch.Tensor, ...]:
    return torch.cat([value.flatten() for value in state.values()]).split([value.numel() for value in state.values()])


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_wrappers_of_trainers_are_taken_off(tmp_path: Path, state: State, wrap: Any) -> None:
    torch.save(wrap(state), tmp_path / "w.pth")
    checkpoint = load_checkpoint(tmp_path / "w.pth")
    assert checkpoint.spec == SMALL
    name = "B1.c5.weight"
    assert torch.allclose(checkpoint.state[name], state[name], atol=1e-3)
    assert checkpoint.state[name].dtype == torch.float32


@pytest.mark.parametrize(
    ("wrap", "way"),
    [
        (lambda state: prefixed(state, "backbone.body."), "prefix backbone.body. is in the way"),
        (lambda state: {**state, "epoch": 3}, "it holds epoch, which are no tensors"),
        (lambda state: {"params": {**state, "history": [1]}}, "it holds history, which are no tensors"),
        (lambda state: {"weights": state, "epoch": 3}, "it holds weights, epoch, which are no tensors"),
        (lambda state: {"params": state, "args": argparse.Namespace(lr=1)}, "Python objects (argparse.Namespace)"),
    ],
)
def test_a_refusal_names_what_is_in_the_way(tmp_path: Path, state: State, wrap: Any, way: str) -> None:
    torch.save(wrap(state), tmp_path / "w.pth")
    with pytest.raises(InputError, match=re.escape(way)):
        load_checkpoint(tmp_path / "w.pth")


def test_the_content_decides_and_not_the_suffix(tmp_path: Path, state: State) -> None:
    safetensors.torch.save_file(dict(state), tmp_path / "w.pth")
    torch.save(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "old.safetensors", _use_new_zipfile_serialization=False)
    for path in tmp_path.iterdir():
        assert load_checkpoint(path).spec == SMALL


def deflated(value: Any) -> bytes:
    """Return what ``torch.save`` writes of a value, compressed."""
    stored, found = io.BytesIO(), io.BytesIO()
    torch.save(value, stored)
    with zipfile.ZipFile(stored) as source, zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return found.getvalue()


def test_a_file_that_expands_a_thousandfold_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.pth").write_bytes(deflated({"fea_conv.pw.weight": torch.zeros(20_000_000)}))
    monkeypatch.setattr(torch, "load", pytest.fail)
    with pytest.raises(InputError, match=r"w\.pth: it expands from [\d,]+ to 80,0[\d,]+ bytes"):
        load_checkpoint(tmp_path / "w.pth")


def test_a_compressed_file_of_true_size_is_read(tmp_path: Path, state: State) -> None:
    (tmp_path / "w.pth").write_bytes(deflated(state))
    assert load_checkpoint(tmp_path / "w.pth").spec == SMALL


def test_a_short_pickle_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"\x80\x02cbuiltins\nbytearray\nJ\x00\x00\x00\x60\x85R.")  # 1.6 GB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="bytearray"):
        load_checkpoint(tmp_path / "w.pth")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < peak + (1 << 20)  # KiB


def test_tensors_that_share_memory_are_not_copied_without_bound(tmp_path: Path) -> None:
    shared = torch.zeros(1 << 16)
    torch.save({f"k{number}": shared for number in range(1100)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="72,089,600 values, more than a network may have"):
        load_checkpoint(tmp_path / "w.pth")


def test_tables_with_entries_of_themselves_are_not_printed(tmp_path: Path) -> None:
    key: Any = 1
    for _ in range(20):
        key = (key, key)
    torch.save({key: 1}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="keys that are not texts") as refused:
        load_checkpoint(tmp_path / "w.pth")
    assert len(str(refused.value)) < 500


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: Path(path).write_bytes(pickle.dumps(value))])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path, write: Any) -> None:
    proof = tmp_path / "it-ran"
    write({"params": Hostile(proof)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="could run code"):
        load_checkpoint(tmp_path / "w.pth")
    assert not proof.exists()


def test_an_old_torch_is_not_trusted_with_a_pickle(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state, tmp_path / "w.pth")
    monkeypatch.setattr(torch, "__version__", "2.9.1")
    with pytest.raises(MissingError, match="CVE-2026-24747"):
        load_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("B2.c6.bias"), r"B2\.c6\.bias is missing"),
        (lambda state: state.update({"B1.extra": torch.zeros(1)}), r"B1\.extra is unknown"),
        (lambda state: state.update({"c1.weight": torch.zeros(8, 8, 1, 1)}), r"c1\.weight is \(8, 8, 1, 1\), not"),
        (lambda state: state.update({"B9999999.c": torch.zeros(1)}), r"B9999999\.c is unknown"),
        (lambda state: state.update({"B4000.c": torch.zeros(1)}), r"blocks must be between 1 and 256, got 4000"),
        (lambda state: state.update({"fea_conv.pw.weight": torch.zeros(5)}), "does not fit|no network"),
        (lambda state: state.update({"c1.bias": torch.full((8,), torch.nan)}), r"finite .*c1\.bias"),
        (lambda state: state.update({"c1.bias": torch.zeros(8, dtype=torch.int64)}), r"floating-point .*c1\.bias"),
        (lambda state: state.update({"c1.bias": torch.eye(8).to_sparse()}), r"dense tensors .*c1\.bias"),
        (lambda state: state.update({"c1.bias": torch.zeros(1).expand(1 << 46)}), r"all of them in the file.*c1\.bias"),
        (lambda state: state.update({"c1.bias": torch.zeros(8, device="meta")}), r"all of them in the file.*c1\.bias"),
        (lambda state: state.update({"c1.bias": torch.full((8,), 1e300, dtype=torch.float64)}), r"finite .*c1\.bias"),
    ],
)
def test_a_network_that_almost_fits_is_refused_with_what_is_wrong(
    tmp_path: Path, state: State, change: Any, message: str
) -> None:
    change(state)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02", b"PK\x03\x04 cut off", b"\xff" * 64])
def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: "):
        load_checkpoint(tmp_path / name)


def test_a_file_of_another_program_is_not_called_dangerous(tmp_path: Path) -> None:
    (tmp_path / "w.mat").write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(200))
    with pytest.raises(InputError, match=r"\.mat files cannot be read") as refused:
        load_checkpoint(tmp_path / "w.mat")
    assert "tools/convert_vdsr.py" in refused.value.hint


def test_a_truncated_checkpoint_is_refused(tmp_path: Path, state: State) -> None:
    for name in ("w.pth", "w.safetensors"):
        path = tmp_path / name
        torch.save(state, path) if name == "w.pth" else save_checkpoint(path, SMALL, state)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(InputError, match=name):
            load_checkpoint(path)


@pytest.mark.parametrize("value", [[1, 2], {"params": [1]}, {}, torch.zeros(2)])
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "w.pth")
    with pytest.raises(InputError, match="expected a state dict"):
        load_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "header",
    [{"spec": text} for text in ('{"block": "bsrb", "scale": 99}', "[" * 100_000, "7", '{"scale": 2}')]
    + [{"step": "epoch_3"}, {"step": "9" * 5000}, {"scale": "4x"}, {"scale": "99"}, {"modelspec.title": "x"}],
)
def test_headers_of_other_programs_are_ignored(tmp_path: Path, state: State, header: dict[str, str]) -> None:
    safetensors.torch.save_file(dict(state), tmp_path / "w.safetensors", metadata=header)
    checkpoint = load_checkpoint(tmp_path / "w.safetensors")
    assert (checkpoint.spec, checkpoint.step) == (SMALL, None)


def test_a_header_cannot_change_what_the_weights_tell(tmp_path: Path) -> None:
    written, other = LkdnSpec(2, 1, 8, 8), LkdnSpec(4, 3, 10, 10, Block.BSRB)
    save_checkpoint(tmp_path / "w.safetensors", other, LKDN(written).state_dict())
    assert load_checkpoint(tmp_path / "w.safetensors").spec == LkdnSpec(2, 1, 8, 8, Block.BSRB)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.pth: cannot be read: No such file"):
        load_checkpoint(tmp_path / "gone.pth")
