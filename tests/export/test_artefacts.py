"""From what a user names to the artefact that runs, and what cannot be."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import save_file

from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.export.artefacts import artefact_for, check_found
from lkdn_deploy.runtime.bundled import find
from lkdn_models import download
from lkdn_models.download import local
from lkdn_models.zoo import find as find_entry

METADATA = ArtifactMetadata(model="lkdn-s", scale=4, receptive_radius=0, live_channels=3, fused=True)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lkdn-deploy"


def never(weights: Path) -> None:
    pytest.fail(f"{weights} is converted")


@pytest.mark.parametrize(
    ("model", "scale", "expected"),
    [(None, None, 4), (None, 2, 2), ("lkdn-s", None, 4), ("lkdn-s", 3, 3)],
)
def test_what_is_bundled_is_there_as_it_is(model: str | None, scale: int | None, expected: int, cache: Path) -> None:
    path = artefact_for(model, scale, None, never)
    assert path == find("lkdn-s", expected)
    assert not cache.exists()
    check_found(open_session(path).metadata, model, scale, None)


@pytest.mark.parametrize("name", ["a.onnx", "A.ONNX", "folder/lkdn-s_x4.onnx"])
def test_an_artefact_is_itself_by_either_option(name: str) -> None:
    """Whether it can be opened shows when it is."""
    assert artefact_for(name, None, None, never) == Path(name)
    assert artefact_for(name, 3, None, never) == Path(name)
    assert artefact_for(None, None, Path(name), never) == Path(name)
    assert artefact_for("lkdn", 3, Path(name), never) == Path(name)


WITHOUT_TORCH = """
import sys; sys.modules.update(torch=None, onnx=None)
from pathlib import Path
from lkdn_deploy.core.errors import MissingError
from lkdn_deploy.export.artefacts import artefact_for
"""


def without_torch(code: str, *args: str) -> list[str]:
    """What ``code`` prints where neither torch nor onnx can be imported."""
    command = [sys.executable, "-c", WITHOUT_TORCH + code, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_checkpoint_is_converted_once_and_then_found_without_torch(
    random_checkpoint: Callable[[LkdnSpec], Path], cache: Path
) -> None:
    weights = random_checkpoint(LkdnSpec(2, 1, 4, 4))
    converted: list[Path] = []
    path = artefact_for(None, None, weights, converted.append)
    assert converted == [weights]
    assert path.parent == cache
    assert artefact_for(None, None, weights, never) == path
    assert artefact_for("lkdn-b1-c4-a4", None, weights, never) == path
    metadata = open_session(path).metadata
    assert (metadata.model, metadata.scale) == ("lkdn-b1-c4-a4", 2)
    check_found(metadata, None, None, weights)
    renamed = shutil.copy(weights, cache / "renamed.safetensors")
    assert without_torch("print(artefact_for(None, None, Path(sys.argv[1]), print))", renamed) == [str(path)]


def test_what_needs_no_conversion_needs_no_torch() -> None:
    code = """
for names in ((None, None), ("lkdn-s", 2), ("a.onnx", None)):
    print(artefact_for(*names, None, print).name)
print(artefact_for(None, None, Path("b.onnx"), print).name)
try:
    artefact_for("bsrn", None, None, print)
except MissingError as error:
    print(error.hint)
"""
    *names, hint = without_torch(code)
    assert names == ["lkdn-s_x4.onnx", "lkdn-s_x2.onnx", "a.onnx", "b.onnx"]
    assert hint == "download them: lkdn-zoo get bsrn --scale 4"


def test_a_downloaded_network_is_converted_by_its_name(
    monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path
) -> None:
    """And one without a scale is the same as one of the default scale."""
    fsrcnn = find_entry("fsrcnn", 4)
    weights = tmp_path / "fsrcnn.safetensors"
    save_file(fsrcnn.build().state_dict(), weights, metadata={"scale": "4"})
    monkeypatch.setattr(download, "usable", {fsrcnn: weights}.__getitem__)
    converted: list[Path] = []
    path = artefact_for("fsrcnn", None, None, converted.append)
    assert converted == [weights]
    assert path.parent == cache
    check_found(open_session(path).metadata, "fsrcnn", None, None)
    assert artefact_for("fsrcnn", 4, None, never) == path


@pytest.mark.parametrize(("model", "scale"), [("bsrn", 3), ("vapsr-s", None), ("lkdn", 4)])
def test_a_network_that_is_not_downloaded_is_missing_with_the_command(model: str, scale: int | None) -> None:
    with pytest.raises(MissingError, match=f"the weights of {model} x{scale or 4} are not downloaded") as error:
        artefact_for(model, scale, None, never)
    assert f"lkdn-zoo get {model} --scale {scale or 4}" in str(error.value.hint)
    assert error.value.exit_code == 3


def test_a_network_whose_weights_nobody_has_is_missing_with_the_way_out() -> None:
    with pytest.raises(MissingError, match="no weights of drrn x4 were published") as error:
        artefact_for("drrn", None, None, never)
    assert "--weights" in str(error.value.hint)


def test_damaged_downloads_are_not_converted() -> None:
    weights = find_entry("bsrn", 4).weights
    assert weights is not None
    place = local(weights)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"half of it")
    with pytest.raises(MissingError, match="the weights of bsrn x4 are damaged"):
        artefact_for("bsrn", 4, None, never)


@pytest.mark.parametrize(
    ("model", "scale", "kind", "said", "hint"),
    [
        ("edsr", None, MissingError, "edsr x4 does not come with the package; bundled are lkdn-s x2", "lkdn-zoo list"),
        ("bsrn-s", 2, UsageError, "bsrn-s has no x2", "it has x4"),
        ("lkdn-s", 8, UsageError, "lkdn-s has no x8", "it has x2, x3, x4"),
        ("weights.pth", None, UsageError, "weights.pth x4 does not come with the package", "--weights"),
    ],
)
def test_what_is_no_network_is_refused_with_what_there_is(
    model: str, scale: int | None, kind: type[Exception], said: str, hint: str
) -> None:
    with pytest.raises(kind, match=said) as error:
        artefact_for(model, scale, None, never)
    assert hint in str(error.value.hint)  # type: ignore[attr-defined]


@pytest.mark.parametrize("weights", ["w.safetensors", "other.onnx"])
def test_an_artefact_and_weights_exclude_each_other(weights: str) -> None:
    with pytest.raises(UsageError, match=r"--model with an \.onnx file and --weights exclude each other") as error:
        artefact_for("A.ONNX", None, Path(weights), never)
    assert error.value.hint == "give one of them"


def test_weights_of_another_network_or_scale_than_asked_for_are_refused(
    random_checkpoint: Callable[[LkdnSpec], Path], cache: Path
) -> None:
    weights = random_checkpoint(LkdnSpec(2, 1, 4, 4))
    for model, scale, said in (("lkdn", None, "lkdn x2"), (None, 3, "lkdn-b1-c4-a4 x3")):
        with pytest.raises(UsageError, match=rf"{said} was asked for, but .* is lkdn-b1-c4-a4 x2") as error:
            artefact_for(model, scale, weights, lambda _: None)
        assert "leave out --model and --scale" in str(error.value.hint)
    assert not cache.exists()


def test_weights_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.pth: cannot be read: No such file"):
        artefact_for(None, None, tmp_path / "gone.pth", never)
    (tmp_path / "noise.pth").write_bytes(b"noise")
    with pytest.raises(InputError, match=r"noise\.pth"):
        artefact_for(None, None, tmp_path / "noise.pth", lambda _: None)


@pytest.mark.parametrize(
    ("model", "scale", "weights"),
    [
        (None, None, None),
        ("lkdn-s", None, None),
        ("lkdn-s", 4, None),
        (None, 4, Path("w.pth")),
        ("another-name.onnx", None, None),
        ("A.ONNX", 4, None),
    ],
)
def test_what_was_asked_for_is_found(model: str | None, scale: int | None, weights: Path | None) -> None:
    check_found(METADATA, model, scale, weights)


@pytest.mark.parametrize(
    ("model", "scale", "weights", "said"),
    [
        ("lkdn", None, Path("w.onnx"), r"lkdn x4 was asked for, but w\.onnx is lkdn-s x4"),
        ("lkdn", 2, Path("w.onnx"), r"lkdn x2 was asked for, but w\.onnx is lkdn-s x4"),
        (None, 3, Path("w.onnx"), r"lkdn-s x3 was asked for, but w\.onnx is lkdn-s x4"),
        ("a.onnx", 3, None, r"lkdn-s x3 was asked for, but a\.onnx is lkdn-s x4"),
        (None, 2, None, "lkdn-s x2 was asked for, but the default is lkdn-s x4"),
    ],
)
def test_what_was_not_asked_for_is_refused(
    model: str | None, scale: int | None, weights: Path | None, said: str
) -> None:
    with pytest.raises(UsageError, match=said) as error:
        check_found(METADATA, model, scale, weights)
    assert "leave out --model and --scale" in str(error.value.hint)


def test_a_name_that_the_zoo_does_not_have_is_compared_as_it_is() -> None:
    own = replace(METADATA, model="lkdn-b1-c4-a4")
    check_found(own, "lkdn-b1-c4-a4", 4, Path("w.onnx"))
    with pytest.raises(UsageError, match="is lkdn-b1-c4-a4 x4"):
        check_found(own, "lkdn-s", 4, Path("w.onnx"))
