"""The page's own reading of headers and writing of PNG files, in Node."""

import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from lkdn_deploy.samples import sample_pixels
from lkdn_deploy.web.folder import STATIC

SCRIPT = Path(__file__).parent / "lib" / "pictures_in_node.mjs"

Node = Callable[..., bytes]


@pytest.fixture(scope="module")
def node() -> Node:
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")

    def run(*words: object, stdin: bytes = b"") -> bytes:
        command = [program, str(SCRIPT), str(STATIC), *map(str, words)]
        return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout

    return run


@pytest.mark.parametrize(("channels", "rows"), [(3, 1), (4, 7), (3, 500)])
def test_png_files_hold_what_was_given(node: Node, channels: int, rows: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (180, 240, 1), np.uint8)
    pixels = np.concatenate([sample_pixels(), noise if channels == 4 else np.full_like(noise, 255)], axis=2)
    written = node("write", 240, 180, int(channels == 4), rows, stdin=pixels.tobytes())
    image = Image.open(io.BytesIO(written))
    image.verify()  # the sums of the chunks
    found = np.asarray(Image.open(io.BytesIO(written)))
    assert np.array_equal(found, pixels[..., :channels])
    assert channels == 4 or len(written) < 0.8 * found.size


def test_headers_are_read_without_decoding(node: Node, tmp_path: Path) -> None:
    image = Image.fromarray(sample_pixels()[:30, :40])
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    p3 = profile.replace("sRGB".encode("utf-16-be"), "  P3".encode("utf-16-be"))
    cases: list[tuple[str, Image.Image, dict[str, Any], dict[str, Any]]] = [
        ("a.png", image, {}, {"format": "PNG", "alpha": False}),
        ("b.png", image.convert("RGBA"), {"icc_profile": p3}, {"alpha": True, "colours": "p3"}),
        ("c.png", Image.new("I;16", (40, 30)), {}, {"bits": 16}),
        ("d.jpg", image, {"icc_profile": profile, "progressive": True}, {"format": "JPEG", "colours": "srgb"}),
        ("e.jpg", image, {"icc_profile": p3}, {"alpha": False, "colours": "p3"}),
        ("f.webp", image, {}, {"format": "WebP", "alpha": False}),
        ("g.webp", image.convert("RGBA"), {"lossless": True}, {"format": "WebP"}),
        ("h.webp", image, {"icc_profile": p3}, {"colours": "p3", "alpha": False}),
        ("i.gif", image, {"save_all": True, "append_images": [image.rotate(90)], "loop": 0}, {"animated": True}),
        ("once.gif", image, {"save_all": True, "append_images": [image.rotate(90)]}, {"animated": True}),
        ("still.gif", image, {"comment": b"one picture,"}, {"format": "GIF", "animated": False}),
        ("j.bmp", image, {}, {"format": "BMP"}),
        ("k.avif", image, {}, {"format": "AVIF"}),
    ]
    for name, picture, options, _ in cases:
        picture.save(tmp_path / name, **options)
    lines = node("headers", *(tmp_path / name for name, *_ in cases)).splitlines()
    for (name, _, _, expected), line in zip(cases, lines, strict=True):
        facts = json.loads(line)
        assert {key: facts[key] for key in expected} == expected, name
        assert (facts["width"], facts["height"]) == (40, 30), name


def test_damaged_headers_are_no_trouble(node: Node, tmp_path: Path) -> None:
    image = Image.fromarray(sample_pixels()[:30, :40])
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    random = np.random.default_rng(0)
    paths = []
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF"):
        buffer = io.BytesIO()
        image.save(buffer, kind, **({"icc_profile": profile} if kind in ("PNG", "JPEG", "WEBP") else {}))
        for number in range(40):
            content = bytearray(buffer.getvalue())
            for place in random.integers(4, min(len(content), 600), 6):
                content[place] = random.integers(256)
            paths.append(tmp_path / f"{kind}{number}")
            paths[-1].write_bytes(content[: random.integers(8, len(content))] if number % 2 else content)
    assert len(node("headers", *paths).splitlines()) == len(paths)
