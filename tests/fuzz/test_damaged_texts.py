"""Damaged recipes, side-cars, reports, logs and checkpoints are read, or end in an error."""

import io
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from fuzzing import fuzz, needs_fork
from text_attempt import build_layouts, damaged_text, read_text

from lkdn_deploy.backends.trt.engine_spec import EngineSpec, Profile
from lkdn_deploy.backends.trt.record import Audit, EngineRecord, Tensor
from lkdn_deploy.bench.results import (
    Bounds,
    Copies,
    Cost,
    Latency,
    Memory,
    Protocol,
    Ratio,
    Report,
    Row,
    SetQuality,
    Settings,
    WarmUp,
    write_report,
)
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_models.checkpoint import save_checkpoint
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.training.recipe import FOLDER

LOG = [
    {"step": 0, "recipe": {"optimisation": {"loss": "l1", "iterations": 9}}, "data": {"folders": ["a"], "images": 2}},
    {"step": 0, "bicubic": {"s": {"psnr_y": 30.0, "ssim_y": 0.9}}},
    {"step": 5, "loss": 0.1, "lr": 0.1},
    {"step": 9, "loss": 0.05, "validation": {"s": {"psnr_y": 31.0, "ssim_y": 0.91}}},
]


def report() -> Report:
    """A report with something in every field."""
    samples = (1.0, 1.1, 1.2, 1.3, 1.1, 1.0, 1.2, 1.1, 1.05)
    rows = [
        Row(
            *("lkdn-s", 4, backend, "fp32", "bundled", Cost(1000, 10**9, 10**6, 10, (180, 320))),
            latency=Latency(
                *(samples, 1.1, 1.0, 1.3, 1.1, Copies.TIMED, 2.0, 3.0, WarmUp(4, 0.1, True)),
                *(Ratio(1.0, 0.9, 1.1), samples, 5.0),
            ),
            quality=(SetQuality("Set5", 5, 32.0, 0.9), SetQuality("Set14", 14, None, 1.0)),
            memory=Memory(100.0, "host"),
            bounds=Bounds("CPU", 3.0, 2.0, 1.0),
            kinds={"convolution": 0.5},
        )
        for backend in ("ort-cpu", "native-cpu")
    ]
    return Report(
        Settings(Protocol.STEADY, (180, 320), 2, 9, 0), tuple(rows), {"cpu": "P", "load before": [0.5]}, "2026"
    )


def record() -> EngineRecord:
    profile = Profile((32, 32), (64, 64), (128, 128))
    spec = EngineSpec("tensorrt-rtx", "1.7", ("sm86", "sm89"), "Linux", profile=profile, artefact_sha256="a" * 64)
    return EngineRecord(
        *(spec, ArtifactMetadata("lkdn-s", 4, 63, 507, True)),
        *(Tensor("lr", "float32"), Tensor("sr", "float16"), "b" * 64, Audit(8, 8, "engine")),
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[list[bytes]]:
    """Sound files for each reader."""
    folder = tmp_path_factory.mktemp("sources")
    write_report(folder / "report.json", report())
    torch.manual_seed(0)
    spec = LkdnSpec(2, 1, 8, 8)
    state = LKDN(spec).state_dict()
    save_checkpoint(folder / "w.safetensors", spec, state, 5)
    checkpoints = [(folder / "w.safetensors").read_bytes()]
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save({"params": state}, buffer, _use_new_zipfile_serialization=zipped)
        checkpoints.append(buffer.getvalue())
    return [
        [path.read_bytes() for path in sorted(FOLDER.glob("*.toml"))],
        [record().to_json().encode()],
        [(folder / "report.json").read_bytes()],
        ["".join(json.dumps(entry) + "\n" for entry in LOG).encode()],
        checkpoints,
    ]


@needs_fork
@pytest.mark.parametrize("count", [pytest.param(300, id="few"), pytest.param(20000, id="many", marks=pytest.mark.long)])
def test_damaged_texts_and_checkpoints_are_read_or_refused(
    sources: list[list[bytes]], count: int, tmp_path: Path
) -> None:
    found = fuzz(partial(damaged_text, sources), read_text, tmp_path / "damaged", count, prepare=build_layouts)
    assert found.findings == {}
    assert found.outcomes["read"] > count // 20
