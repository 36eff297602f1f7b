"""Combinations of --model, --scale and --weights, and a model on every engine, including PyTorch."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lkdn_deploy.backends.registry import BACKENDS, open_session
from lkdn_deploy.bench.measure.torch_session import TorchSession
from lkdn_deploy.bench.opening import ENGINES, PRECISIONS, ModelChoice, choose_models, open_engine
from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.core.protocols import Session
from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_deploy.export.job import open_checkpoint
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.runtime.upscaler import Upscaler
from lkdn_deploy.samples import sample_pixels
from lkdn_models.checkpoint import load_checkpoint
from lkdn_models.zoo import find as find_entry

BATCH = np.random.default_rng(0).random((2, 3, 23, 18), np.float32)
BUNDLED = find_entry("lkdn-s", 4).bundled


def never(weights: Path) -> None:
    pytest.fail(f"{weights} is converted")


def bundled_on(engine: str, precision: str = "fp32", scale: int | None = None, threads: int | None = 1) -> Session:
    return open_engine(ModelChoice("lkdn-s", scale), engine, precision, threads, never)


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """They are one setting for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def reference() -> dict[int, np.ndarray]:
    """The bundled artefacts' results on ONNX Runtime, by scale."""
    return {scale: open_session(path, "ort-cpu", threads=1).run(BATCH) for (_, scale), path in bundled().items()}


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("engine", ["ort-cpu", "openvino", "torch"])
def test_every_engine_gives_the_same(engine: str, scale: int, reference: dict[int, np.ndarray]) -> None:
    result = bundled_on(engine, scale=scale).run(BATCH)
    assert result.dtype == np.float32
    assert np.abs(result - reference[scale]).max() <= 1e-4


A, B = Path("a.pth"), Path("b.pth")
FILE = "c.onnx"


@pytest.mark.parametrize(
    ("models", "scales", "weights", "chosen"),
    [
        ([], [], [A, B], [(None, None, A), (None, None, B)]),
        (["LKDN"], [], [], [("lkdn", 4, None)]),
        (["lkdn"], [2, 3], [], [("lkdn", 2, None), ("lkdn", 3, None)]),
        (["LKDN"], [], [A, B], [("lkdn", None, A), ("lkdn", None, B)]),
        (["lkdn", "bsrn"], [2], [A, B], [("lkdn", 2, A), ("bsrn", 2, B)]),
        ([FILE, "Bicubic"], [], [A], [(FILE, None, None), ("bicubic", 4, None), (None, None, A)]),
        ([FILE, "lkdn"], [], [A], [(FILE, None, None), ("lkdn", None, A)]),
        (["lkdn", "LKDN"], [3, 3], [], [("lkdn", 3, None)]),
    ],
)
def test_weights_are_those_of_the_named_networks(
    models: list[str], scales: list[int], weights: list[Path], chosen: list[tuple[Any, ...]]
) -> None:
    assert choose_models(models, scales, weights) == [ModelChoice(*each) for each in chosen]


@pytest.mark.parametrize("weights", [[A], [A, B, A]])
def test_several_networks_take_one_file_each(weights: list[Path]) -> None:
    with pytest.raises(UsageError, match=f"{len(weights)} --weights do not match the networks lkdn, bsrn") as error:
        choose_models(["lkdn", "bsrn"], [], weights)
    assert "leave out --model" in str(error.value.hint)


def test_every_backend_and_pytorch_are_engines() -> None:
    assert set(ENGINES) == {*BACKENDS, "torch"}
    assert PRECISIONS == ("fp32", "fp16", "int16")
    with pytest.raises(UsageError, match="no such backend: tpu"):
        bundled_on("tpu")


def test_pytorch_says_of_a_network_what_its_artefact_says() -> None:
    session, artefact = bundled_on("torch"), open_session(bundled()["lkdn-s", 4], "ort-cpu")
    assert session.backend == ("torch-cuda" if torch.cuda.is_available() else "torch-cpu")
    assert session.fixed_size is None
    for name in ("model", "scale", "receptive_radius", "smallest", "fused", "weights_sha256", "precision"):
        assert getattr(session.metadata, name) == getattr(artefact.metadata, name), name
    # A function's variables keep tensors alive until it returns; the graph's are freed after their last use.
    assert session.metadata.live_channels >= artefact.metadata.live_channels


def test_other_ways_of_pytorch_compute_the_same(
    reference: dict[int, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    for way in ("channels-last", "compile"):
        session = bundled_on(f"torch-{way}")
        assert isinstance(session, TorchSession)
        assert session.backend == f"torch-{session.device}-{way}"
        assert np.abs(session.run(BATCH) - reference[4]).max() < 1e-4
        assert session.upload(BATCH).is_contiguous(memory_format=torch.channels_last) == (way == "channels-last")
        assert bool(compiled) == (way == "compile")
    assert session.build_seconds is None
    session.prepared(BATCH)
    assert session.build_seconds is not None

    def broken(*_: object) -> None:
        msg = "no C++ compiler\nlong story"
        raise RuntimeError(msg)

    monkeypatch.setattr(session, "_call", broken)
    with pytest.raises(InputError, match=r"torch\.compile fails: no C\+\+ compiler \("):
        session.prepared(BATCH)


def test_tf32_is_a_way_of_fp32_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="TF32 is a way to compute FP32 on a GPU, not fp32 on cpu"):
            bundled_on("torch-tf32")
    session = bundled_on("torch")
    assert isinstance(session, TorchSession)
    monkeypatch.setattr(session, "on_cpu", False)
    seen = []
    for way in ("tf32", "eager", "tf32"):  # rows take turns in one process
        monkeypatch.setattr(session, "way", way)
        session.forward(session.upload(BATCH))
        seen.append(torch.backends.cudnn.allow_tf32)
    torch.backends.cudnn.allow_tf32 = True
    assert seen == [True, False, True]


def test_half_precision_is_near_and_says_so(reference: dict[int, np.ndarray]) -> None:
    full, half = bundled_on("torch"), bundled_on("torch", "fp16")
    assert half.metadata.precision == "fp16"
    assert full.metadata.precision == "fp32"
    difference = np.abs(half.run(BATCH) - reference[4]).max()
    assert 1e-5 < difference < 0.05  # and it is another one
    assert half.bytes_per_pixel() * 2 == full.bytes_per_pixel() == 4 * full.metadata.live_channels


def test_pytorch_upscales_images_in_tiles_as_any_session_does() -> None:
    session = bundled_on("torch", scale=2)
    halo = session.metadata.receptive_radius
    levels = np.tile(sample_pixels(), (2, 1, 1))[: 24 + 2 * halo + 1, :29]
    tiled = Upscaler(session, tile=24)
    assert len(tiled.plan(*levels.shape[:2])) == 2
    assert np.abs(tiled(levels).astype(int) - Upscaler(bundled_on("ort-cpu", scale=2))(levels)).max() <= 1


def test_a_network_is_fused_before_it_runs(random_checkpoint: Callable[[LkdnSpec], Path]) -> None:
    weights = random_checkpoint(LkdnSpec(2, 1, 8, 8, block=Block.RBSB, upsampler=Upsampler.REP))
    session = open_engine(ModelChoice(weights=weights), "torch", "fp32", 1, never)
    assert isinstance(session, TorchSession)
    assert session.metadata.fused
    assert session.metadata.model == "lkdn-b1-c8-a8"
    with torch.inference_mode():
        training = load_checkpoint(weights).build().eval()(torch.from_numpy(BATCH)).numpy()
    assert np.abs(session.run(BATCH) - training).max() <= 1e-4
    assert len(session.network.state_dict()) < len(load_checkpoint(weights).state)


def test_threads_are_pytorchs_and_an_unknown_precision_is_refused() -> None:
    for threads in (3, None):
        bundled_on("torch", threads=threads)
        assert torch.get_num_threads() == 3
    with pytest.raises(UsageError, match="no such precision: int8") as error:
        bundled_on("torch", "int8")
    assert all(name in str(error.value.hint) for name in ("fp32", "fp16"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_cuda_is_an_error_and_not_the_cpu() -> None:
    with pytest.raises(MissingError, match="PyTorch finds no CUDA device") as error:
        TorchSession(open_checkpoint(None), device="cuda")
    assert "CUDA build" in str(error.value.hint)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 0.05)])
def test_cuda_gives_what_the_cpu_gives(precision: str, tolerance: float, reference: dict[int, np.ndarray]) -> None:
    session = TorchSession(open_checkpoint(None), precision=precision, device="cuda")
    assert session.backend == "torch-cuda"
    assert np.abs(session.run(BATCH) - reference[4]).max() <= tolerance


def test_what_pytorch_says_when_it_fails_is_passed_on() -> None:
    with pytest.raises(InputError, match="torch-cpu failed on a window of 6x8 pixels") as error:
        TorchSession(open_checkpoint(None), device="cpu").run(np.zeros((1, 5, 8, 6), np.float32))
    assert "use smaller tiles; PyTorch says: " in str(error.value.hint)


@pytest.mark.parametrize("choice", [ModelChoice("a.onnx"), ModelChoice(weights=Path("a.ONNX"))])
def test_an_artefact_is_nothing_for_pytorch(choice: ModelChoice) -> None:
    with pytest.raises(UsageError, match=r"PyTorch runs checkpoints, not a\.(onnx|ONNX)") as error:
        open_engine(choice, "torch", "fp32", 1, never)
    assert "--weights" in str(error.value.hint)


def test_pytorch_refuses_weights_of_another_network_and_networks_without_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"lkdn x4 was asked for, but .* is lkdn-s x4"):
        open_engine(ModelChoice("lkdn", 4, BUNDLED), "torch", "fp32", 1, never)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(MissingError, match="the weights of bsrn x4 are not downloaded") as error:
        open_engine(ModelChoice("bsrn"), "torch", "fp32", 1, never)
    assert "lkdn-zoo get bsrn --scale 4" in str(error.value.hint)


def test_pytorch_that_is_not_there_is_named_and_the_others_run() -> None:
    code = """
import sys; sys.modules["torch"] = None
from lkdn_deploy.bench.opening import ModelChoice, open_engine
from lkdn_deploy.core.errors import MissingError
print(open_engine(ModelChoice("lkdn-s", 2), "ort-cpu", "fp32", 1).backend)
try:
    open_engine(ModelChoice("lkdn-s", 2), "torch", "fp32", 1)
except MissingError as error:
    print(error.exit_code, error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "ort-cpu",
        "3 install it in a checkout of this project with: pip install '.[train]'",
    ]
