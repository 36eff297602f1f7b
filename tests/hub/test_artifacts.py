"""From what a user names to the artefact that runs, and what cannot be."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file

from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.hub.artifacts import STORE, find_artifact
from lkdn_deploy.runtime.bundled import bundled
from lkdn_models import download
from lkdn_models.download import local
from lkdn_models.zoo import find as find_entry

pytestmark = pytest.mark.usefixtures("empty_cache")


def never(weights: Path) -> None:
    pytest.fail(f"{weights} is converted")


@pytest.mark.parametrize(
    ("model", "scale", "expected"),
    [(None, None, 4), (None, 2, 2), ("LKDN-S", None, 4), ("lkdn-s", 3, 3)],
)
def test_what_is_bundled_is_there_as_it_is(
    model: str | None, scale: int | None, expected: int, empty_cache: Path
) -> None:
    assert find_artifact(model, scale, converting=never).path == bundled()["lkdn-s", expected]
    assert not empty_cache.exists()


@pytest.mark.parametrize("suffix", [".onnx", ".ONNX"])
def test_an_artefact_is_found_by_either_option(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"any name{suffix}"
    shutil.copy(bundled()["lkdn-s", 3], path)
    for found in (
        find_artifact(str(path)),
        find_artifact(path, 3),
        find_artifact(weights=path),
        find_artifact("LKDN-S", 3, path),
    ):
        assert (found.path, found.metadata.scale) == (path, 3)


WITHOUT_TORCH = """
import sys; sys.modules.update(torch=None, onnx=None)
from pathlib import Path
from lkdn_deploy.core.errors import MissingError
from lkdn_deploy.hub.artifacts import find_artifact
"""


def without_torch(code: str, *args: str) -> list[str]:
    """Return the lines that ``code`` prints where neither torch nor onnx can be imported."""
    command = [sys.executable, "-c", WITHOUT_TORCH + code, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_checkpoint_is_converted_once_and_then_found_without_torch(
    random_checkpoint: Callable[[LkdnSpec], Path], tmp_path: Path
) -> None:
    weights = random_checkpoint(LkdnSpec(2, 1, 4, 4))
    converted: list[Path] = []
    found = find_artifact(weights=weights, converting=converted.append)
    assert converted == [weights]
    assert found.path.parent == STORE.folder
    assert (found.metadata.model, found.metadata.scale) == ("lkdn-b1-c4-a4", 2)
    for names in ({"weights": weights}, {"model": "lkdn-b1-c4-a4", "weights": weights}, {"model": weights}):
        assert find_artifact(**names, converting=never).path == found.path
    renamed = shutil.copy(weights, tmp_path / "renamed.safetensors")
    assert without_torch("print(find_artifact(sys.argv[1]).path)", renamed) == [str(found.path)]


def test_what_needs_no_conversion_needs_no_torch() -> None:
    code = """
print(find_artifact().path.name, find_artifact("lkdn-s", 2).path.name, find_artifact(find_artifact().path).path.name)
try:
    find_artifact("bsrn")
except MissingError as error:
    print(error.hint)
"""
    names, hint = without_torch(code)
    assert names == "lkdn-s_x4.onnx lkdn-s_x2.onnx lkdn-s_x4.onnx"
    assert hint == "download them: lkdn-zoo get bsrn --scale 4"


def test_a_downloaded_network_is_converted_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And one without a scale is the same as one of the default scale."""
    fsrcnn = find_entry("fsrcnn", 4)
    weights = tmp_path / "fsrcnn.safetensors"
    save_file(fsrcnn.build().state_dict(), weights, metadata={"scale": "4"})
    monkeypatch.setattr(download, "usable", {fsrcnn: weights}.__getitem__)
    converted: list[Path] = []
    found = find_artifact("fsrcnn", converting=converted.append)
    assert converted == [weights]
    assert found.metadata.model == "fsrcnn"
    assert find_artifact("FSRCNN", 4, converting=never).path == found.path


@pytest.mark.parametrize(("model", "scale"), [("bsrn", 3), ("vapsr-s", None), ("lkdn", 4)])
def test_a_network_that_is_not_downloaded_is_missing_with_the_command(model: str, scale: int | None) -> None:
    with pytest.raises(MissingError, match=f"the weights of {model} x{scale or 4} are not downloaded") as error:
        find_artifact(model, scale, converting=never)
    assert f"lkdn-zoo get {model} --scale {scale or 4}" in str(error.value.hint)
    assert error.value.exit_code == 3


def test_a_network_whose_weights_nobody_has_is_missing_with_the_way_out() -> None:
    with pytest.raises(MissingError, match="no weights of drrn x4 were published") as error:
        find_artifact("drrn", converting=never)
    assert "--weights" in str(error.value.hint)


def test_damaged_downloads_are_not_converted() -> None:
    weights = find_entry("bsrn", 4).weights
    assert weights is not None
    place = local(weights)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"half of it")
    with pytest.raises(MissingError, match="the weights of bsrn x4 are damaged"):
        find_artifact("bsrn", 4, converting=never)


@pytest.mark.parametrize(
    ("model", "scale", "kind", "said", "hint"),
    [
        ("edsr", None, UsageError, "edsr", "lkdn"),
        ("bsrn-s", 2, UsageError, "bsrn-s has no x2", "it has x4"),
        ("lkdn-s", 8, UsageError, "lkdn-s has no x8", "it has x2, x3, x4"),
        ("weights.pth", None, InputError, "weights.pth: cannot be read", "None"),
    ],
)
def test_what_is_no_network_is_refused_with_what_there_is(
    model: str, scale: int | None, kind: type[Exception], said: str, hint: str
) -> None:
    with pytest.raises(kind, match=said) as error:
        find_artifact(model, scale, converting=never)
    assert hint in str(error.value.hint)  # type: ignore[attr-defined]


@pytest.mark.parametrize("weights", ["w.safetensors", "other.onnx"])
def test_an_artefact_and_weights_exclude_each_other(weights: str) -> None:
    with pytest.raises(UsageError, match="--model with a file and --weights exclude each other") as error:
        find_artifact("A.ONNX", None, Path(weights))
    assert error.value.hint == "give one of them"


def test_weights_of_another_network_or_scale_than_asked_for_are_refused(
    random_checkpoint: Callable[[LkdnSpec], Path], empty_cache: Path
) -> None:
    weights = random_checkpoint(LkdnSpec(2, 1, 4, 4))
    for model, scale, said in (("lkdn", None, "lkdn x2"), (None, 3, "lkdn-b1-c4-a4 x3")):
        with pytest.raises(UsageError, match=rf"{said} was asked for, but .* is lkdn-b1-c4-a4 x2") as error:
            find_artifact(model, scale, weights)
        assert "leave out --model and --scale" in str(error.value.hint)
    assert not empty_cache.exists()


def test_weights_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.pth: cannot be read: No such file"):
        find_artifact(weights=tmp_path / "gone.pth")
    (tmp_path / "noise.pth").write_bytes(b"noise")
    with pytest.raises(InputError, match=r"noise\.pth"):
        find_artifact(tmp_path / "noise.pth")


@pytest.mark.parametrize(
    ("model", "scale", "weights", "message"),
    [
        ("lkdn", None, "w.onnx", r"lkdn x4 was asked for, but .*w\.onnx is lkdn-s x4"),
        ("lkdn", 2, "w.onnx", r"lkdn x2 was asked for, but .*w\.onnx is lkdn-s x4"),
        (None, 3, "w.onnx", r"lkdn-s x3 was asked for, but .*w\.onnx is lkdn-s x4"),
        ("w.onnx", 3, None, r"lkdn-s x3 was asked for, but .*w\.onnx is lkdn-s x4"),
    ],
)
def test_an_artefact_of_another_network_or_scale_is_refused(
    model: str | None, scale: int | None, weights: str | None, message: str, tmp_path: Path
) -> None:
    shutil.copy(bundled()["lkdn-s", 4], tmp_path / "w.onnx")
    given = str(tmp_path / model) if model == "w.onnx" else model
    with pytest.raises(UsageError, match=message) as error:
        find_artifact(given, scale, tmp_path / weights if weights else None)
    assert "leave out --model and --scale" in str(error.value.hint)


def test_an_artefact_of_another_precision_is_refused() -> None:
    path = bundled()["lkdn-s", 2]
    assert find_artifact(weights=path, precision="fp32").metadata.precision == "fp32"
    with pytest.raises(UsageError, match=r"fp16 was asked for, but .* is fp32") as error:
        find_artifact(weights=path, precision="fp16")
    assert "give the checkpoint instead of the file" in str(error.value.hint)
