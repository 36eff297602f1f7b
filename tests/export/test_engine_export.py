"""From artefacts to engines in a folder and in the cache, by the command and in Python."""

import hashlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "backends" / "trt" / "fakes"))
from tensorrt_fake import Behaviour, fake

import lkdn_deploy.backends.trt.resolve as resolution
from lkdn_deploy.backends.trt import engine_cache as cache
from lkdn_deploy.backends.trt.gpu import Gpu
from lkdn_deploy.backends.trt.make import EngineReport, export_engine
from lkdn_deploy.backends.trt.record import Audit, Profile, SideCar
from lkdn_deploy.backends.trt.resolve import DEFAULT_PROFILE, Request, wanted_here
from lkdn_deploy.bench.models import DEFAULT_MODELS, find_models
from lkdn_deploy.cli import zoo
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.export import command
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import ExitCode, InputError, VerificationError
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.export.job import ExportSettings, export_onnx
from lkdn_deploy.graph.fp16.cast import to_half
from lkdn_deploy.runtime.bundled import bundled
from lkdn_models.checkpoint import Checkpoint
from lkdn_models.nets.bsrn import BSRN
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.nets.rfdn import RFDN, ChallengeRFDB
from lkdn_models.nets.vapsr import VAPSR
from lkdn_models.zoo import ZooEntry
from lkdn_models.zoo import find as find_entry

LKDN_S = bundled()["lkdn-s", 4]
ADA = Gpu("NVIDIA GeForce RTX 4090", "sm89", "595.10")
AHEAD = Request("tensorrt-rtx", targets=("sm89", "sm86"))
RTX = "1.7.1.116"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lkdn-deploy" / "engines"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Behaviour], Behaviour]:
    """Put a fake runtime and a GPU in place."""

    def put(behaviour: Behaviour) -> Behaviour:
        module = fake(behaviour)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(resolution, "gpu_here", lambda: None if behaviour.rtx else ADA)
        return behaviour

    return put


@pytest.fixture(scope="module")
def weights(random_checkpoint: Callable[[LkdnSpec], Path]) -> str:
    """A small network."""
    return str(random_checkpoint(LkdnSpec(2, 1, 8, 8)))


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LKDN-S in FP16, as lkdn-export writes it."""
    model = to_half(onnx.load(LKDN_S)).model
    props = {item.key: item.value for item in model.metadata_props} | {"lkdn.precision": '"fp16"'}
    onnx.helper.set_model_props(model, props)
    path = tmp_path_factory.mktemp("half") / "lkdn-s_x4_fp16.onnx"
    onnx.save(model, path)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_files(report: EngineReport, artefact: Path) -> None:
    """The three files say the same."""
    sidecar = SideCar.from_json(report.sidecar_path.read_bytes())
    assert sidecar == report.sidecar
    assert sidecar.engine_sha256 == digest(report.path)
    assert sidecar.artefact_sha256 == digest(artefact)
    assert report.size == report.path.stat().st_size
    assert report.log_path.stat().st_size > 0


def test_an_engine_is_built_kept_and_copied(
    half: Path, tmp_path: Path, folder: Path, install: Callable[[Behaviour], Behaviour]
) -> None:
    behaviour = install(Behaviour(RTX, rtx=True, device=False))
    reasons: list[str] = []
    report = export_engine(half, AHEAD, tmp_path / "out" / "new", building=reasons.append)
    assert report.path == tmp_path / "out" / "new" / "lkdn-s_x4_fp16_tensorrt-rtx_sm86-sm89.engine"
    assert {path.suffix for path in report.path.parent.iterdir()} == {".engine", ".json", ".log"}
    assert reasons == [report.reason]
    check_files(report, half)
    car = report.sidecar
    assert (car.targets, car.gpu, car.driver, car.runtime_version) == (("sm86", "sm89"), "", "", RTX)
    assert car.audit == Audit(86, 86, "engine")
    assert car.metadata.precision == "fp16"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", car.made)
    again = export_engine(half, AHEAD, tmp_path / "other", building=reasons.append)
    assert (behaviour.builds, again.reason, again.sidecar) == (1, "", car)
    check_files(again, half)
    check_files(export_engine(half, AHEAD), half)
    assert export_engine(half, AHEAD).path.parent == folder


def test_what_was_built_ahead_is_what_is_looked_for(
    half: Path, monkeypatch: pytest.MonkeyPatch, install: Callable[[Behaviour], Behaviour]
) -> None:
    install(Behaviour(RTX, rtx=True, device=False))
    built = export_engine(half, AHEAD)
    monkeypatch.setattr(resolution, "gpu_here", lambda: ADA)
    *_, key = wanted_here(half.read_bytes(), Request("tensorrt-rtx"))
    found = cache.find_engine(key)
    assert found is not None
    assert found.path == built.path
    assert key.targets == ("sm89",)


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (Request(), "lkdn-s_x4_tensorrt_sm89.engine"),
        (Request(batch=4), "lkdn-s_x4_tensorrt_sm89_batch4.engine"),
        (Request(profile=Profile.fixed((180, 320))), "lkdn-s_x4_tensorrt_sm89_320x180.engine"),
        (
            Request(profile=Profile((8, 8), (64, 64), (96, 128))),
            "lkdn-s_x4_tensorrt_sm89_8x8-64x64-128x96.engine",
        ),
    ],
)
def test_names_say_what_is_unusual(
    request_: Request, name: str, tmp_path: Path, install: Callable[[Behaviour], Behaviour]
) -> None:
    install(Behaviour())
    report = export_engine(LKDN_S, request_, tmp_path / "out")
    assert report.path.name == name
    assert (report.sidecar.gpu, report.sidecar.driver, report.sidecar.audit) == (ADA.name, ADA.driver, None)


@pytest.mark.parametrize("names_node", [True, False])
def test_convolutions_without_a_kernel_are_put_back_to_fp32_and_written_down(
    names_node: bool, half: Path, install: Callable[[Behaviour], Behaviour], caplog: pytest.LogCaptureFixture
) -> None:
    """The builder refuses one after the other; so after the one that it names come all that are like it."""
    behaviour = install(Behaviour("11.2.1.2", no_kernel=True, names_node=names_node))
    report = export_engine(half, Request())
    grouped = sum(item.name == "group" and item.i > 1 for node in onnx.load(half).graph.node for item in node.attribute)
    assert len(report.sidecar.fallbacks) == grouped == len(set(report.sidecar.fallbacks))
    assert behaviour.builds == (3 if names_node else 2)
    assert report.sidecar.audit == Audit(86, 86 - grouped, "engine")
    assert report.sidecar.artefact_sha256 == digest(half)
    assert "building again with" in caplog.text


def test_an_engine_that_is_not_in_fp16_is_not_kept(
    half: Path, tmp_path: Path, folder: Path, install: Callable[[Behaviour], Behaviour]
) -> None:
    install(Behaviour(in_fp32=True))
    with pytest.raises(VerificationError):
        export_engine(half, Request(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert {path.suffix for path in folder.iterdir()} == {".lock"}


def test_what_a_build_measured_serves_the_next(half: Path, install: Callable[[Behaviour], Behaviour]) -> None:
    behaviour = install(Behaviour())
    export_engine(half, Request())
    assert behaviour.settings["timing"] == ""
    export_engine(LKDN_S, Request())
    assert behaviour.settings["timing"] == " measured"


def test_an_artefact_that_cannot_be_read_is_named(tmp_path: Path, install: Callable[[Behaviour], Behaviour]) -> None:
    install(Behaviour())
    with pytest.raises(InputError, match=r"a\.onnx cannot be read"):
        export_engine(tmp_path / "a.onnx", Request())
    stranger = onnx.load(LKDN_S)
    del stranger.metadata_props[:]
    onnx.save(stranger, tmp_path / "b.onnx")
    with pytest.raises(InputError, match=r"b\.onnx: .* not made by lkdn-export"):
        export_engine(tmp_path / "b.onnx", Request())


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path, install: Callable[[Behaviour], Behaviour]) -> None:
    install(Behaviour())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made"):
        export_engine(LKDN_S, Request(), tmp_path / "file" / "below")


def test_the_command_builds_for_gpus_that_are_not_here(
    weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(resolution, "gpu_here", lambda: None)
    words = ["--fuse", "--onnx", "--fp16", "--trt", "--runtime", "tensorrt-rtx", "--sm", "86", "--sm", "89"]
    code = run(command, [*words, "--weights", weights, "-o", str(tmp_path / "out")])
    said = capsys.readouterr()
    assert code == ExitCode.DONE, said.err
    stem = tmp_path / "out" / "lkdn-b1-c8-a8_x2_fp16"
    engine = f"{stem}_tensorrt-rtx_sm86-sm89"
    assert said.out.splitlines() == [f"{stem}.onnx", f"{engine}.engine", f"{engine}.json", f"{engine}.log"]
    count = sum(node.op_type == "Conv" for node in onnx.load(f"{stem}.onnx").graph.node)
    assert f"audited  {count} of {count} convolutions in FP16, by the engine's types" in said.err
    car = json.loads(Path(f"{engine}.json").read_text())
    assert (car["targets"], car["artefact_sha256"]) == (["sm86", "sm89"], digest(Path(f"{stem}.onnx")))
    assert ArtifactMetadata(**car["metadata"]).precision == "fp16"


ONE_BLOCK: dict[str, Callable[[], nn.Module]] = {
    "bsrn": lambda: BSRN(4, blocks=1),
    "vapsr": lambda: VAPSR(4, blocks=1),
    "rfdn-aim": lambda: RFDN(4, channels=50, blocks=1, block=ChallengeRFDB),
}


def check_built_ahead(artefact: Path, profile: Profile | None, targets: tuple[str, ...], folder: Path) -> None:
    """An engine for ``targets``, and of an FP16 artefact every convolution of it in half."""
    car = export_engine(artefact, Request("tensorrt-rtx", profile, targets), folder).sidecar
    assert (car.targets, car.profile, car.fallbacks) == (targets, profile or DEFAULT_PROFILE, ())
    convolutions = sum(node.op_type == "Conv" for node in onnx.load(artefact).graph.node)
    half = car.metadata.precision == "fp16"
    assert car.audit == (Audit(convolutions, convolutions, "engine") if half else None)


@pytest.mark.parametrize("name", DEFAULT_MODELS)
def test_a_block_of_each_network_that_is_benched_builds_without_a_gpu(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In FP16, for two GPUs; the whole networks take minutes, see below."""
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(resolution, "gpu_here", lambda: None)
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
    name: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At full depth, with random weights where there are no others: of one size and of a range, for one GPU and two."""
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(resolution, "gpu_here", lambda: None)
    (model,) = find_models([name], 4, [])
    checkpoint = model.load()
    artefact = export_onnx(checkpoint, tmp_path / "a.onnx", ExportSettings(precision=precision)).path
    for profile in (Profile.fixed((180, 320)), DEFAULT_PROFILE):
        for targets in (("sm86",), ("sm86", "sm89")):
            check_built_ahead(artefact, profile, targets, tmp_path)


def test_the_command_writes_an_engine_alone(
    weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], install: Callable[[Behaviour], Behaviour]
) -> None:
    install(Behaviour(RTX, rtx=True, device=False))
    words = ["--trt", "--runtime", "tensorrt-rtx", "--sm", "89", "--dynamic", "8x8:48x32:64x64", "--batch", "2"]
    code = run(command, [*words, "--weights", weights, "-o", str(tmp_path)])
    said = capsys.readouterr()
    assert code == ExitCode.DONE, said.err
    name = "lkdn-b1-c8-a8_x2_tensorrt-rtx_sm89_8x8-48x32-64x64_batch2"
    assert said.out.splitlines() == [str(tmp_path / f"{name}{end}") for end in (".engine", ".json", ".log")]
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--onnx", "--sm", "89"], 2, "--sm go with --trt only"),
        (["--trt", "--sm", "89", "--shape", "8x8", "--dynamic", "8x8:8x8:8x9"], 2, "exclude each other"),
        (["--trt", "--sm", "89", "--dynamic", "8x8:16x16"], 2, "MIN:OPT:MAX"),
        (["--trt", "--sm", "89", "--dynamic", "8x8:4x4:16x16"], 2, "rise"),
        (["--trt", "--runtime", "tensorrt-rtx"], 2, "there is no GPU here"),
        (["--trt", "--runtime", "tensorrt-rtx", "--sm", "90"], 2, "does not build for sm90"),
        (["--trt", "--runtime", "tensorrt"], 3, "there is none here"),
        (["--fuse"], 2, "nothing to write"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_before_the_work(
    words: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    install: Callable[[Behaviour], Behaviour],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(Behaviour(RTX, rtx=True, device=False))
    monkeypatch.setattr("lkdn_deploy.export.job.open_checkpoint", lambda *_: pytest.fail("began"))
    monkeypatch.setattr(resolution, "gpu_here", lambda: None)
    assert run(command, [*words, "-o", str(tmp_path / "out")]) == code
    heard = capsys.readouterr()
    assert heard.out == ""
    assert said in heard.err
    assert not (tmp_path / "out").exists()


def test_the_zoo_lists_and_removes_engines(
    half: Path, install: Callable[[Behaviour], Behaviour], capsys: pytest.CaptureFixture[str]
) -> None:
    install(Behaviour(RTX, rtx=True, device=False))
    assert run(zoo.command, ["engines"]) == 0
    assert capsys.readouterr().out == ""
    path = export_engine(half, AHEAD).path
    assert run(zoo.command, ["engines"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"lkdn-s x4 fp16, tensorrt-rtx {RTX}, sm86, sm89"
    assert re.fullmatch(r"    32x32:256x256:512x512 pixels, \d+\.\d MiB, made \S+", lines[1])
    assert lines[2] == f"    {path}"
    cache.sidecar_path(path).unlink()
    assert run(zoo.command, ["engines"]) == 0
    assert "without a side-car" in capsys.readouterr().out
    assert run(zoo.command, ["engines", "--prune", "1"]) == 0
    assert capsys.readouterr().out == ""
    assert run(zoo.command, ["engines", "--prune", "all"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{path}\n"
    assert said.err.startswith("removed 1 engines")
    assert not path.exists()
    assert run(zoo.command, ["engines", "--prune", "soon"]) == 2
