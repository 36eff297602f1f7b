"""Engines from checkpoints, by the command and in Python."""

import hashlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "backends" / "trt" / "fakes"))
from tensorrt_fake import Behaviour, install

from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.backends.ort import open_cpu
from lkdn_deploy.backends.trt import resolve
from lkdn_deploy.backends.trt.audit import count_layers
from lkdn_deploy.backends.trt.engine_cache import log_path, sidecar_path
from lkdn_deploy.backends.trt.engine_spec import DEFAULT_PROFILE, Profile
from lkdn_deploy.backends.trt.form import form_of
from lkdn_deploy.backends.trt.make import make_engine
from lkdn_deploy.backends.trt.record import Audit
from lkdn_deploy.bench.models import DEFAULT_MODELS, find_models
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.export import command
from lkdn_deploy.cli.zoo import command as zoo
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import ExitCode
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.export.job import ExportSettings, export_onnx
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.verify.comparison import verify
from lkdn_models.checkpoint import Checkpoint
from lkdn_models.nets.bsrn import BSRN
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.nets.rfdn import RFDN, ChallengeRFDB
from lkdn_models.nets.vapsr import VAPSR
from lkdn_models.zoo import ZooEntry
from lkdn_models.zoo import find as find_entry

pytestmark = pytest.mark.usefixtures("empty_cache")
RTX = "1.7.1.116"


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the real TensorRT for RTX and no GPU."""
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(resolve, "gpu_here", lambda: None)


@pytest.fixture
def fake_rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a fake TensorRT for RTX and no GPU."""
    install(monkeypatch, Behaviour(RTX, rtx=True, device=False))


@pytest.fixture(scope="module")
def weights(random_checkpoint: Callable[[LkdnSpec], Path]) -> str:
    """A small network."""
    return str(random_checkpoint(LkdnSpec(2, 1, 8, 8)))


def test_the_command_builds_for_gpus_that_are_not_here(
    weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_gpu: None
) -> None:
    words = ["--fuse", "--onnx", "--fp16", "--trt", "--runtime", "tensorrt-rtx", "--sm", "86", "--sm", "89"]
    code = run(command, [*words, "--weights", weights, "-o", str(tmp_path / "out")])
    said = capsys.readouterr()
    assert code == ExitCode.DONE, said.err
    stem = tmp_path / "out" / "lkdn-b1-c8-a8_x2_fp16"
    engine = f"{stem}_tensorrt-rtx_sm86-sm89"
    assert said.out.splitlines() == [f"{stem}.onnx", f"{engine}.engine", f"{engine}.json", f"{engine}.log"]
    assert re.search(r"audited  (\d+) of \1 convolutions in FP16, by the engine's types", said.err)
    assert "rewrote  the graph for TensorRT: layer-norm-to-sum, merge-parallel-conv, pad-channels" in said.err
    car = json.loads(Path(f"{engine}.json").read_text())
    assert car["spec"]["targets"] == ["sm86", "sm89"]
    assert car["spec"]["artefact_sha256"] == hashlib.sha256(Path(f"{stem}.onnx").read_bytes()).hexdigest()
    assert ArtifactMetadata(**car["metadata"]).precision == "fp16"


ONE_BLOCK: dict[str, Callable[[], nn.Module]] = {
    "bsrn": lambda: BSRN(4, blocks=1),
    "vapsr": lambda: VAPSR(4, blocks=1),
    "rfdn-aim": lambda: RFDN(4, channels=50, blocks=1, block=ChallengeRFDB),
}


MOST_KERNELS = {"lkdn": 137, "lkdn-s": 89}
"""Kernels of FP16 engines, which benchmarks/results/trt_kernels.md records and which are not to grow."""


def check_built_ahead(artefact: Path, profile: Profile | None, targets: tuple[str, ...], folder: Path) -> int:
    """An engine for ``targets``, and of an FP16 artefact every convolution of it in half; gives its kernels.

    The graph that it is built from computes what the artefact does.
    """
    artifact = read_artifact(artefact)
    built = make_engine(artifact, resolve.resolve("tensorrt-rtx", targets, profile=profile), folder)
    record = built.record
    assert (record.spec.targets, record.spec.profile) == (targets, profile or DEFAULT_PROFILE)
    assert not record.fallbacks
    form = form_of(artifact, record.spec.rewrites, "trt-rtx")
    assert record.rewrites == form.rewrites != ()
    convolutions = sum(node.op_type == "Conv" for node in onnx.load_model_from_string(form.data).graph.node)
    assert record.audit == (Audit(convolutions, convolutions, "engine") if record.spec.half else None)
    noise = {"noise": np.random.default_rng(0).random((1, 3, 32, 40), np.float32)}
    run, reference = (open_cpu(each, threads=1).run for each in (replace(artifact, data=form.data), artifact))
    verify(noise, run, reference, artifact.metadata.precision)
    return count_layers(log_path(built.path).read_text()).kernels


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long) if name in ("lkdn", "bsrn") else name for name in DEFAULT_MODELS],
)
def test_a_block_of_each_network_that_is_benched_builds_without_a_gpu(
    name: str, tmp_path: Path, no_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In FP16, for two GPUs; the whole networks take minutes, see below."""
    monkeypatch.setattr(ZooEntry, "build", lambda self, deployed=False: ONE_BLOCK[self.name]())
    torch.manual_seed(0)
    entry = find_entry(name, 4)
    network: LkdnSpec | ZooEntry = replace(entry.spec, blocks=1) if entry.spec else entry
    state = (LKDN(network) if isinstance(network, LkdnSpec) else network.build()).state_dict()
    checkpoint = Checkpoint(Path("random"), network, state, "0" * 64)
    artefact = export_onnx(checkpoint, tmp_path / "a.onnx", ExportSettings(precision="fp16")).path
    check_built_ahead(artefact, None, ("sm86", "sm89"), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", DEFAULT_MODELS)
def test_each_network_that_is_benched_builds_without_a_gpu(
    name: str, precision: str, tmp_path: Path, no_gpu: None
) -> None:
    """At full depth, with random weights where there are no others: of one size and of a range, for one GPU and two."""
    (model,) = find_models([name], 4, [])
    checkpoint = model.load()
    artefact = export_onnx(checkpoint, tmp_path / "a.onnx", ExportSettings(precision=precision)).path
    for profile in (Profile.fixed((180, 320)), DEFAULT_PROFILE):
        for targets in (("sm86",), ("sm86", "sm89")):
            kernels = check_built_ahead(artefact, profile, targets, tmp_path)
            if precision == "fp16" and name in MOST_KERNELS:
                assert 0 < kernels <= MOST_KERNELS[name]


def test_the_command_writes_an_engine_alone(
    weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], fake_rtx: None
) -> None:
    words = ["--trt", "--runtime", "tensorrt-rtx", "--sm", "89", "--dynamic", "8x8:48x32:64x64", "--batch", "2"]
    code = run(command, [*words, "--weights", weights, "-o", str(tmp_path)])
    said = capsys.readouterr()
    assert code == ExitCode.DONE, said.err
    name = "lkdn-b1-c8-a8_x2_tensorrt-rtx_sm89_8x8-48x32-64x64_batch2"
    assert said.out.splitlines() == [str(tmp_path / f"{name}{end}") for end in (".engine", ".json", ".log")]
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.long
def test_an_engine_alone_of_a_bundled_network_is_of_the_bundled_file(
    tmp_path: Path, fake_rtx: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that lkdn-upscale looks for an engine of, whichever version of PyTorch exported it."""
    monkeypatch.setattr("lkdn_deploy.export.job.version", lambda _: "another")
    assert run(command, ["--trt", "--runtime", "tensorrt-rtx", "--sm", "89", "-o", str(tmp_path)]) == 0
    (car,) = tmp_path.glob("*.json")
    digest = hashlib.sha256(bundled()["lkdn-s", 4].read_bytes()).hexdigest()
    assert json.loads(car.read_text())["spec"]["artefact_sha256"] == digest


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--onnx", "--sm", "89"], 2, "--sm can be given with --trt only"),
        (["--trt", "--sm", "89", "--shape", "8x8", "--dynamic", "8x8:8x8:8x9"], 2, "exclude each other"),
        (["--trt", "--sm", "89", "--dynamic", "8x8:16x16"], 2, "MIN:OPT:MAX"),
        (["--trt", "--sm", "89", "--dynamic", "8x8:4x4:16x16"], 2, "rise"),
        (["--trt", "--runtime", "tensorrt-rtx"], 2, "this machine has no GPU"),
        (["--trt", "--runtime", "tensorrt-rtx", "--sm", "90"], 2, "does not build for sm90"),
        (["--trt", "--runtime", "tensorrt"], 3, "this machine has none"),
        (["--fuse"], 2, "nothing to write"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_before_the_work(
    words: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    fake_rtx: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lkdn_deploy.export.job.open_checkpoint", lambda *_: pytest.fail("began"))
    assert run(command, [*words, "-o", str(tmp_path / "out")]) == code
    heard = capsys.readouterr()
    assert heard.out == ""
    assert said in heard.err
    assert not (tmp_path / "out").exists()


def test_the_zoo_lists_and_removes_engines(fake_rtx: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(zoo, ["engines"]) == 0
    assert capsys.readouterr().out == ""
    path = make_engine(read_artifact(bundled()["lkdn-s", 4]), resolve.resolve(targets=("sm86", "sm89"))).path
    assert run(zoo, ["engines"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"lkdn-s x4 fp32, tensorrt-rtx {RTX}, sm86, sm89"
    assert re.fullmatch(r"    32x32:256x256:512x512 pixels, \d+\.\d MiB, made \S+", lines[1])
    assert lines[2] == f"    {path}"
    sidecar_path(path).unlink()
    assert run(zoo, ["engines"]) == 0
    assert "no readable side-car" in capsys.readouterr().out
    assert run(zoo, ["engines", "--prune", "1"]) == 0
    assert capsys.readouterr().out == ""
    assert run(zoo, ["engines", "--prune", "all"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{path}\n"
    assert said.err.startswith("removed 1 engine,")
    assert not path.exists()
    assert run(zoo, ["engines", "--prune", "soon"]) == 2
