"""The choice of a network's scale for a picture."""

from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from lkdn_deploy import Upscaler
from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.hub.serving import find_serving
from lkdn_deploy.imaging.resize import OutputSize
from lkdn_deploy.runtime.upscalers import Upscalers


def opening(size: OutputSize | None, opened: list[int]) -> Upscalers:
    def open_upscaler(artifact: Artifact) -> Upscaler:
        opened.append(artifact.metadata.scale)
        return Upscaler(open_session(artifact, "ort-cpu", threads=1), size=size)

    return Upscalers(lambda least: find_serving(None, least), open_upscaler, size)


def saved(path: Path, *size: int) -> Path:
    Image.new("RGB", size).save(path)
    return path


def test_each_picture_gets_the_smallest_scale_that_serves_and_each_is_opened_once(tmp_path: Path) -> None:
    opened: list[int] = []
    pictures = [saved(tmp_path / f"{width}.png", width, 10) for width in (60, 59, 40, 30, 31, 61)]
    with opening(OutputSize(width=120), opened) as upscalers:
        assert [it.metadata.scale for it in upscalers.artifacts()] == [2, 3, 4]
        assert opened == []
        assert [upscalers.for_picture(path).scale for path in pictures] == [2, 3, 3, 4, 4, 2]
        assert opened == [2, 3, 4]
        assert upscalers.for_size(10, 60).result_size(10, 60) == (20, 120)
        with pytest.raises(UsageError, match=r"4\.138 times its size, and results are 1 to 4 times"):
            upscalers.for_picture(saved(tmp_path / "29.png", 29, 10))
        with pytest.raises(InputError, match="does not exist"):
            upscalers.for_picture(tmp_path / "none.png")
        first = upscalers.for_size(10, 60)
    with pytest.raises(UsageError, match="the session is closed"):
        first.session.run(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "scale"), [(None, 4), (OutputSize(scale=Fraction(5, 2)), 3)])
def test_one_scale_serves_all_pictures_without_a_look_at_them(size: OutputSize | None, scale: int) -> None:
    opened: list[int] = []
    with opening(size, opened) as upscalers:
        assert [it.metadata.scale for it in upscalers.artifacts()] == [scale]
        assert upscalers.for_picture(Path("none.png")) is upscalers.for_size(5, 5)
    assert opened == [scale]
