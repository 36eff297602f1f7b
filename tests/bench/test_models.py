"""The models of a benchmark: which, with whose weights, and what is made for those that have none."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.bench.models import DEFAULT_MODELS, Model, find_models
from lkdn_deploy.bench.opening import ModelChoice, open_engine
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.runtime.bundled import bundled
from lkdn_models.download import local
from lkdn_models.zoo import find as find_entry


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lkdn-deploy"


def test_without_names_it_is_those_that_the_paper_compares() -> None:
    models = find_models([], None, [])
    assert tuple(model.name for model in models) == DEFAULT_MODELS == ("lkdn", "lkdn-s", "bsrn", "vapsr", "rfdn-aim")
    assert {model.scale for model in models} == {4}
    for model in models:
        assert (model.origin, model.file) == ("bundled" if model.name == "lkdn-s" else "random", None)
        assert model.has_quality == (model.origin == "bundled")


@pytest.mark.parametrize("scale", [2, 3])
def test_without_names_a_network_that_lacks_the_scale_is_left_out(scale: int) -> None:
    models = find_models([], scale, [])
    assert [model.name for model in models] == ["lkdn", "lkdn-s", "bsrn", "vapsr"]
    assert {model.scale for model in models} == {scale}


@pytest.mark.parametrize(
    ("names", "scale", "message", "hint"),
    [
        (["lkdn-s", "rfdn-aim"], 2, "rfdn-aim has no x2", "it has x4"),
        (["edsr"], None, "no network is called edsr", "vdsr or pkdsr may be meant; lkdn-zoo list shows all networks"),
    ],
)
def test_an_unknown_name_or_scale_is_refused_with_the_known_ones(
    names: list[str], scale: int | None, message: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=message) as error:
        find_models(names, scale, [])
    assert hint in str(error.value.hint)


def test_models_come_in_the_order_in_which_they_are_named_in_any_case() -> None:
    first, second = find_models(["FSRCNN", "lkdn-s"], 3, [])
    assert (first.name, first.scale, first.origin) == ("fsrcnn", 3, "random")
    assert (second.name, second.scale, second.origin) == ("lkdn-s", 3, "bundled")


def test_weights_are_those_of_the_named_network() -> None:
    weights = find_entry("lkdn-s", 3).bundled
    (model,) = find_models(["lkdn-s"], None, [weights])
    assert (model.name, model.scale, model.origin, model.file) == ("lkdn-s", 3, weights.name, weights)
    for name, scale in (("lkdn", None), ("lkdn-s", 4)):
        with pytest.raises(UsageError, match=f"{name} x. was asked for, but .* is lkdn-s x3"):
            find_models([name], scale, [weights])


def test_a_checkpoint_tells_its_network(random_checkpoint: Callable[[LkdnSpec], Path]) -> None:
    spec = LkdnSpec(3, 2, 8, 4)
    weights = random_checkpoint(spec)
    (model,) = find_models([], None, [weights])
    assert (model.name, model.scale, model.file) == ("lkdn-b2-c8-a4", 3, weights)
    assert model.choice() == ModelChoice(None, 3, weights)
    assert model.has_quality
    assert model.paper_size == (240, 426)
    assert model.core_size(7, 9) == (7, 9)
    assert model.build_core()[1] == 3
    assert model.build()(torch.zeros(1, 3, 8, 9, device="meta")).shape == (1, 3, 24, 27)


@pytest.mark.parametrize("way", ["name", "weights"])
def test_an_artefact_of_the_zoo_stands_for_its_network(tmp_path: Path, way: str) -> None:
    path = tmp_path / "mine.ONNX"
    shutil.copy(bundled()["lkdn-s", 3], path)
    (model,) = find_models([str(path)], 3, []) if way == "name" else find_models([], None, [path])
    assert model == Model(find_entry("lkdn-s", 3), "mine.ONNX", path)
    assert open_engine(model.choice(), "ort-cpu", "fp32", 1).metadata.scale == 3


@pytest.mark.parametrize(("name", "scale"), [("mine", 4), ("rfdn-aim", 2)])
def test_an_artefact_of_no_network_of_the_zoo_is_refused(tmp_path: Path, name: str, scale: int) -> None:
    model = onnx.load(bundled()["lkdn-s", 4])
    metadata = open_session(bundled()["lkdn-s", 4]).metadata
    onnx.helper.set_model_props(model, replace(metadata, model=name, scale=scale).to_props())
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(InputError, match=rf"a\.onnx is {name} x{scale}, which is not a network of the zoo") as error:
        find_models([str(tmp_path / "a.onnx")], None, [])
    assert "--weights" in str(error.value.hint)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "noise.pth").write_bytes(b"noise")
    for path in (tmp_path / "gone.pth", tmp_path / "gone.onnx", tmp_path / "noise.pth"):
        with pytest.raises(InputError, match=path.name):
            find_models([], None, [path])


def test_downloaded_weights_are_taken(data: Path) -> None:
    (before,) = find_models(["bsrn-s"], None, [])
    assert before.origin == "random"
    weights = find_entry("bsrn-s", 4).weights
    place = local(weights)
    place.parent.mkdir(parents=True)
    shutil.copy(data / "weights" / "BSRN" / weights.file_name, place)
    (model,) = find_models(["bsrn-s"], None, [])
    assert (model.origin, model.file, model.has_quality) == ("published", place, True)


def test_random_weights_are_the_same_every_time(cache: Path) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    (model,) = find_models(["fsrcnn"], None, [])
    assert torch.equal(torch.get_rng_state(), state)  # what else is drawn stays as it was
    assert model.file is None
    weights = model.choice().weights
    assert torch.equal(torch.get_rng_state(), state)
    assert weights.is_relative_to(cache)
    content, file = weights.read_bytes(), weights.stat().st_ino
    (again,) = find_models(["fsrcnn"], 4, [])
    assert again == model
    assert again.choice().weights == weights
    assert weights.stat().st_ino == file
    weights.unlink()
    torch.manual_seed(2)
    assert model.choice().weights == weights
    assert weights.read_bytes() == content
    (other,) = find_models(["fsrcnn"], 3, [])
    assert other.choice().weights.read_bytes() != content


@pytest.mark.parametrize(("name", "scale"), [("lkdn", 3), ("fsrcnn", 3), ("pan", 2), ("idn", 4)])
def test_random_weights_are_recognised_as_what_they_are(name: str, scale: int) -> None:
    (model,) = find_models([name], scale, [])
    checkpoint = model.load()
    assert (checkpoint.name, checkpoint.scale) == (name, scale)


def test_a_random_network_runs_on_every_engine() -> None:
    (model,) = find_models(["fsrcnn"], None, [])
    converted: list[Path] = []
    batch = np.random.default_rng(0).random((1, 3, 19, 14), np.float32)
    results = {}
    for engine in ("ort-cpu", "openvino", "torch"):
        session = open_engine(model.choice(), engine, "fp32", 1, converted.append)
        assert (session.metadata.model, session.metadata.scale) == ("fsrcnn", 4)
        results[engine] = session.run(batch)
    assert converted == [model.choice().weights]
    for result in results.values():
        assert result.shape == (1, 3, 76, 56)
        assert np.abs(result - results["torch"]).max() <= 1e-4


def test_a_cache_that_cannot_be_made_is_said_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (model,) = find_models(["fsrcnn"], None, [])
    with pytest.raises(InputError, match=r"the cache folder .* cannot be created") as error:
        model.choice()
    assert "XDG_CACHE_HOME" in str(error.value.hint)


@pytest.mark.parametrize(
    ("name", "scale", "channels", "times"),
    [("bsrn", 2, 3, 1), ("rfdn-aim", 4, 3, 1), ("fsrcnn", 4, 1, 1), ("vdsr", 3, 1, 3)],
)
def test_a_network_is_built_as_one_of_rgb_and_as_its_paper_counts_it(
    name: str, scale: int, channels: int, times: int
) -> None:
    entry = find_entry(name, scale)
    model = Model(entry, "random")
    assert model.paper_size == entry.input_size
    assert model.core_size(10, 20) == (10 * times, 20 * times)
    assert model.build()(torch.empty(1, 3, 16, 18, device="meta")).shape == (1, 3, 16 * scale, 18 * scale)
    core, taken = model.build_core()
    assert taken == channels
    larger = scale // times
    assert core(torch.empty(1, channels, 16, 18, device="meta")).shape == (1, channels, 16 * larger, 18 * larger)
