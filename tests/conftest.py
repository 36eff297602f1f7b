"""Fixtures shared by all rooms."""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from lkdn_deploy.core.spec import LkdnSpec

# Whether an example is slow depends on what else the machine does.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put the user's cache into a folder of the tests, also for the programs that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a user's cache that does not exist yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lkdn-deploy"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with published weights and test sets, or a skip."""
    folder = Path(os.environ.get("LKDN_TEST_DATA") or "nowhere")
    if not (folder / "weights").is_dir():
        pytest.skip("set LKDN_TEST_DATA to a folder with weights/ and testsets/ to run this")
    return folder


@pytest.fixture(scope="session")
def lkdn_weights(data: Path) -> Path:
    """The published LKDN checkpoints."""
    return data / "weights" / "LKDN"


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[LkdnSpec], Path]:
    """Writes a checkpoint with random weights that keep every layer's part in the result visible."""
    import torch

    from lkdn_models.checkpoint import save_checkpoint
    from lkdn_models.nets.lkdn import LKDN

    folder = tmp_path_factory.mktemp("checkpoints")

    def make(spec: LkdnSpec) -> Path:
        torch.manual_seed(0)
        network = LKDN(spec)
        for name, value in network.named_parameters():
            if value.ndim == 4:
                torch.nn.init.kaiming_normal_(value)
            elif "norm.weight" not in name:
                torch.nn.init.normal_(value, std=0.1)
        with torch.no_grad():  # into 0..1, since the runtime clips what leaves it
            for name, value in network.upsampler.named_parameters():
                value.mul_(0.02)
                if name in ("0.bias", "conv3.bias"):
                    value.add_(0.5)
        path = folder / f"{len(list(folder.iterdir()))}.safetensors"
        save_checkpoint(path, spec, network.state_dict())
        return path

    return make


@pytest.fixture(scope="session")
def random_artefact(
    tmp_path_factory: pytest.TempPathFactory, random_checkpoint: Callable[[LkdnSpec], Path]
) -> Callable[[str], Path]:
    """Exports LKDN or LKDN-S x4, or a network of one block, with random weights, by the public route."""
    from lkdn_deploy.export.job import ExportSettings, export_onnx
    from lkdn_models.checkpoint import load_checkpoint

    folder = tmp_path_factory.mktemp("artefacts")
    specs = {"lkdn": LkdnSpec.lkdn(4), "lkdn-s": LkdnSpec.lkdn_s(4), "one block": LkdnSpec(2, 1, 8, 8)}

    @functools.cache
    def export(name: str) -> Path:
        checkpoint = load_checkpoint(random_checkpoint(specs[name]))
        return export_onnx(checkpoint, folder / f"{name}.onnx", ExportSettings()).path

    return export
