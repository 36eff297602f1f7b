"""The words of ``lkdn-upscale --ray`` that are refused before a cluster is looked for, and its optional address."""

from pathlib import Path

import pytest
from PIL import Image

from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.upscale import command


@pytest.mark.parametrize(
    ("words", "address", "sources"),
    [
        (["--ray", "in", "out"], "", ("in",)),
        (["--ray", "head:6379", "in", "out"], "head:6379", ("in",)),
        (["--ray=10.0.0.1:6379", "in", "out"], "10.0.0.1:6379", ("in",)),
        (["--ray", "auto", "in", "out"], "auto", ("in",)),
        (["--ray", "./auto", "out"], "", ("./auto",)),
        (["a", "s3://b/c", "out", "--ray"], "", ("a", "s3://b/c")),
        (["--ray", "[::1]:6379", "--", "in", "out"], "[::1]:6379", ("in",)),
        (["--", "--ray", "out"], None, ("--ray",)),
    ],
)
def test_the_word_after_ray_is_an_address_only_if_it_looks_like_one(
    words: list[str], address: str | None, sources: tuple[str, ...]
) -> None:
    context = command.make_context("lkdn-upscale", list(words))
    assert (context.params["ray"], context.params["sources"]) == (address, sources)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["s3://bucket/in.png", "out.png"], "s3://bucket/in.png is a URL"),
        (["--ray", "film.mkv", "out.mkv"], "--ray is for pictures"),
        (["--ray", "-", "out.png"], "--ray is for files"),
        (["--ray", "ray://head:10001", "pictures", "out"], "is for Ray's client"),
    ],
)
def test_what_does_not_go_with_a_cluster_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "pictures" / "in.png")
    assert run(command, words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert " done, " not in err  # nothing was begun
