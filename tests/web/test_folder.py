"""``lkdn-export --web``: what is in the folder, how it is replaced, and the package for npm that it is."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from in_node import PLAIN, node, program, run
from native_graphs import WITH_SUBGRAPHS

from lkdn_deploy.backends.native.session import NativeSession
from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.cli._shell import run as run_command
from lkdn_deploy.cli.export import command
from lkdn_deploy.core.errors import ExitCode, InputError
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.runtime.upscaler import Upscaler
from lkdn_deploy.samples import sample_pixels
from lkdn_deploy.web.folder import STATIC, write_folder
from lkdn_deploy.web.naming import HASHED, keeps_name, named_by_content

MEGABYTE = 10**6
REFERENCE = re.compile(r'"\./([\w.-]+)"')


def export_web(folder: Path, *options: str) -> int:
    return run_command(command, ["--web", str(folder), *options])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the default network."""
    folder = tmp_path_factory.mktemp("web") / "a" / "site"
    assert export_web(folder) == ExitCode.DONE
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_folder_is_small_complete_and_named_by_content(site: Path) -> None:
    files = content(site)
    assert sum(map(len, files.values())) < MEGABYTE
    assert {"index.html", "lkdn.mjs", "lkdn.d.mts", "package.json", "LICENSE.txt", "service-worker.js"} <= files.keys()
    assert all(HASHED.fullmatch(name) or keeps_name(name) or name == "lkdn.mjs" for name in files)
    for name, text in files.items():
        if Path(name).suffix in {".mjs", ".js", ".html", ".css", ".json", ".webmanifest"} and name != "package.json":
            assert {it for it in REFERENCE.findall(text.decode()) if it not in files} == set(), name
    addresses = re.compile(rb"https?://(?!127\.0\.0\.1)[\w.-]+")
    assert {name: addresses.findall(text) for name, text in files.items() if addresses.search(text)} == {}


def test_all_that_the_page_needs_is_there_offline(site: Path) -> None:
    files = content(site)
    worker = files["service-worker.js"].decode()
    listed = json.loads(re.search(r"const FILES = (\[.*?\]);", worker)[1])  # type: ignore[index]
    assert re.search(r'const VERSION = "[0-9a-f]{16}";', worker)
    kept = {name for name in files if HASHED.fullmatch(name)} | {"index.html", "manifest.webmanifest"}
    assert sorted(listed) == sorted(["./", *(f"./{name}" for name in kept)])


def test_an_export_is_repeatable_and_an_older_one_is_replaced_without_its_remains(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    before = folder.stat().st_ino  # a shell may be in it
    assert export_web(folder, "--scale", "2", "--scale", "3") == ExitCode.DONE
    assert folder.stat().st_ino == before
    (catalogue,) = folder.glob("models.*.json")
    assert [it["name"] for it in json.loads(catalogue.read_text())["models"]] == ["lkdn-s_x2", "lkdn-s_x3"]
    (folder / "robots.txt").write_text("mine")
    assert export_web(folder) == ExitCode.DONE
    found = content(folder)
    assert found.pop("robots.txt") == b"mine"
    assert found == content(site)


@pytest.mark.parametrize("name", ["photo.png", "package.json"])
def test_somebody_elses_folder_is_left_alone_unless_asked_otherwise(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / name
    theirs.write_text('{"lkdnFiles": 5}')
    assert export_web(tmp_path) == ExitCode.USAGE
    assert "holds no earlier export" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [theirs]
    if name == "photo.png":
        assert export_web(tmp_path, "--overwrite") == ExitCode.DONE
        assert theirs.exists()


def test_files_of_others_are_not_removed_by_what_a_folder_says(site: Path, tmp_path: Path) -> None:
    folder, outside = tmp_path / "site", tmp_path / "outside.01234567.txt"
    folder.mkdir()
    for path in (folder / "photo.png", outside):
        path.write_text("keep")
    names = ["photo.png", "../outside.01234567.txt", "/etc/hostname", 7, "old.01234567.mjs"]
    (folder / "package.json").write_text(json.dumps({"lkdnFiles": names}))
    (folder / "old.01234567.mjs").write_text("ours")
    assert export_web(folder) == ExitCode.DONE
    assert {path.name for path in folder.iterdir()} == content(site).keys() | {"photo.png"}
    assert outside.exists()


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--onnx", "--fp16"], ExitCode.USAGE, "--onnx, --fp16 cannot be given with --web"),
        (["--scale", "2", "--scale", "2"], ExitCode.USAGE, "two networks are called lkdn-s_x2"),
        (["--model", "nothing"], ExitCode.USAGE, "nothing"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: list[str], status: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_web(tmp_path / "site", *options) == status
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_web_an_option_stands_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--onnx", "-o", str(tmp_path), "--scale", "2", "--scale", "3"]
    assert run_command(command, options) == ExitCode.USAGE
    assert "--scale was given 2 times" in capsys.readouterr().err


def test_a_network_that_needs_the_whole_picture_is_refused(tmp_path: Path) -> None:
    artifact = read_artifact(bundled()["lkdn-s", 4])
    for changed, obstacle in (
        (replace(artifact, metadata=replace(artifact.metadata, receptive_radius=None)), "from the whole picture"),
        (replace(artifact, data=WITH_SUBGRAPHS), "does not support a network of which every pixel depends"),
        (replace(artifact, data=b"no network"), "it is not an ONNX model"),
    ):
        with pytest.raises(InputError, match=obstacle):
            write_folder([changed], tmp_path / "site")
    assert list(tmp_path.iterdir()) == []


def test_files_in_a_circle_are_an_error() -> None:
    with pytest.raises(ValueError, match="circle"):
        named_by_content({"a.mjs": b'import "./b.mjs"', "b.mjs": b'import "./a.mjs"'})


def test_the_licence_is_that_of_the_project() -> None:
    assert (STATIC / "LICENSE.txt").read_bytes() == (Path(__file__).parents[2] / "LICENSE").read_bytes()


def test_npm_packs_it_and_a_program_installs_and_runs_it(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm, environment = program("npm"), {**os.environ, "npm_config_cache": str(tmp_path / "cache")}
    options = ["--offline", "--no-audit", "--no-fund", "--no-update-notifier"]
    name = run(npm, "pack", *options, "--silent", site, cwd=tmp_path, env=environment).strip()
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "package.json").write_text('{"name": "app", "version": "1.0.0"}')
    run(npm, "install", *options, "--silent", tmp_path / name, cwd=tmp_path / "app", env=environment)
    installed = tmp_path / "app" / "node_modules" / "lkdn-web"
    assert not (installed / "index.html").exists()
    described = json.loads((installed / "package.json").read_text())
    # TypeScript reads the declarations of lkdn.mjs in lkdn.d.mts only.
    assert described["exports"] == {".": {"types": "./lkdn.d.mts", "default": "./lkdn.mjs"}}
    assert (installed / "lkdn.d.mts").read_bytes() == (STATIC / "lkdn.d.mts").read_bytes()
    pixels = sample_pixels()[:30, :40]
    rgba = np.dstack([pixels, np.full((30, 40), 255, np.uint8)])
    (tmp_path / "photo.rgba").write_bytes(rgba.tobytes())
    (tmp_path / "pictures.json").write_text(json.dumps([["photo", 40, 30, {}]]))
    program_file = tmp_path / "app" / "upscale.mjs"
    program_file.write_text((Path(__file__).parent / "lib" / "upscale.mjs").read_text())
    assert node(program_file, "lkdn-web", tmp_path) == "photo 160 120 4 1\n"
    monkeypatch.setattr("lkdn_deploy.jit.compiler.processor", lambda: PLAIN)
    with Upscaler(NativeSession(read_artifact(bundled()["lkdn-s", 4]))) as upscaler:
        expected = upscaler(rgba)
    assert np.array_equal(np.fromfile(tmp_path / "photo.out", np.uint8).reshape(expected.shape), expected)
