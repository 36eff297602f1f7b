"""Pictures through ``lkdn-serve``: the options of lkdn-upscale, its results and its messages."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from running_service import RunningService, opened, picture

from lkdn_deploy.cli._upscale_options import FORMATS, declared_options
from lkdn_deploy.service.desk import MEDIA_TYPES


def problem(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["Content-Type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert found["status"] == response.status_code
    return found


@pytest.mark.parametrize(
    ("mode", "query"),
    [("RGB", {}), ("RGBA", {"scale": 2}), ("L", {"scale": 1.5}), ("RGB", {"wrap": "true", "scale": 3})],
)
def test_a_result_is_that_of_lkdn_upscale(
    service: RunningService, tmp_path: Path, mode: str, query: dict[str, object]
) -> None:
    from lkdn_deploy.cli._shell import run
    from lkdn_deploy.cli.upscale import command

    (tmp_path / "in.png").write_bytes(content := picture(mode=mode))
    words = [
        word for name, value in query.items() for word in ([f"--{name}"] if value == "true" else [f"--{name}", value])
    ]
    assert run(command, [str(tmp_path / "in.png"), str(tmp_path / "out.png"), *map(str, words)]) == 0
    response = service.post(content, **query)
    assert (response.status_code, response.headers["Content-Type"]) == (200, "image/png")
    assert response.content == (tmp_path / "out.png").read_bytes()
    assert response.headers["X-Lkdn-Exact"] == "true"
    assert response.headers["X-Lkdn-Size"] == "{}x{}".format(*opened(response.content).size)


@pytest.mark.parametrize("suffix", MEDIA_TYPES)
def test_every_format_can_be_asked_for(service: RunningService, suffix: str) -> None:
    response = service.post(picture(8, 8), format=suffix, scale=2)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == MEDIA_TYPES[suffix]
    from lkdn_deploy.imaging.files.read import open_in_memory

    with open_in_memory(response.content, "result") as image:
        assert (image.header.width, image.header.height) == (16, 16)


def test_the_formats_are_those_of_the_command() -> None:
    assert tuple(MEDIA_TYPES) == FORMATS


def test_without_a_format_it_is_that_of_the_picture_or_png(service: RunningService) -> None:
    for kind, expected in (("JPEG", "image/jpeg"), ("WEBP", "image/webp"), ("GIF", "image/png")):
        assert service.post(picture(8, 8, kind), kind=None).headers["Content-Type"] == expected


def test_notes_say_what_was_left_out(service: RunningService) -> None:
    deep = opened(picture(8, 8, mode="L"))
    import io

    file = io.BytesIO()
    deep.convert("I;16").save(file, "PNG")
    notes = json.loads(service.post(file.getvalue(), format="jpg").headers["X-Lkdn-Notes"])
    assert any("16 to 8 bits" in note for note in notes)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"scale": 9}, "scale: "),
        ({"scale": 2, "width": 40}, "one of scale, width, height and fit"),
        ({"quality": 101}, "quality: 101 is not in the range"),
        ({"quality": 50}, "PNG files are lossless"),
        ({"format": "gif"}, "format: 'gif' is not one of"),
        ({"width": 4}, "width"),
        ({"fit": "axb"}, "fit: expected WIDTHxHEIGHT"),
        ({"wrap": "perhaps"}, "wrap: expected true or false"),
        ({"model": "/etc/passwd"}, "model: this service has lkdn-s"),
        ({"weights": "x.pth"}, "there is no option 'weights'"),
        ({"backend": "native"}, "there is no option 'backend'"),
    ],
)
def test_wrong_options_are_refused_by_name(service: RunningService, query: dict[str, object], message: str) -> None:
    found = problem(service.post(picture(), **query))
    assert found["status"] == 422
    assert message in found["detail"]


def test_an_option_given_twice_is_refused(service: RunningService) -> None:
    response = service.client.post("/upscale?scale=2&scale=3", content=picture())
    assert "given twice" in problem(response)["detail"]


@pytest.mark.parametrize(
    ("content", "kind", "status", "message"),
    [
        (b"", None, 415, "has no body"),
        (b"hello", None, 415, "not an image that can be read"),
        (picture()[:-30], None, 422, "the picture"),
        (picture(), "text/plain", 415, "expected a picture as the body of the request, got text/plain"),
        (picture(200, 101), "image/png", 413, "200x101, 20,200 pixels; at most 20,000"),
        (bytes((1 << 20) + 1), "image/png", 413, "larger than 1,048,576 bytes"),
        (picture(8, 8, mode="RGBA"), "image/png; charset=x", 200, ""),
    ],
)
def test_what_is_no_picture_or_too_large_is_refused(
    service: RunningService, content: bytes, kind: str | None, status: int, message: str
) -> None:
    response = service.post(content, kind=kind)
    assert response.status_code == status
    if status != 200:
        assert message in problem(response)["detail"]


def test_a_body_of_unknown_length_is_bounded_too(service: RunningService) -> None:
    response = service.client.post("/upscale", content=(bytes(1 << 16) for _ in range(20)))
    assert problem(response)["status"] == 413


def test_transparency_that_would_be_lost_is_refused(service: RunningService) -> None:
    found = problem(service.post(picture(mode="RGBA"), format="jpg"))
    assert (found["status"], found["hint"]) == (422, "use .png, .webp or .tif")


def test_unknown_paths_and_methods_are_problems_too(service: RunningService) -> None:
    assert problem(service.client.get("/nothing"))["status"] == 404
    response = service.client.get("/upscale")
    assert (problem(response)["status"], response.headers["Allow"]) == (405, "POST")


def test_a_request_in_the_name_of_another_machine_is_refused(service: RunningService) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example:80", ""):
        assert problem(service.client.get("/healthz", headers={"Host": host}))["status"] in (400, 421)
    assert service.client.get("/healthz", headers={"Host": "localhost:80"}).status_code == 200


def test_the_description_has_the_options_of_the_command(service: RunningService) -> None:
    found = service.client.get("/openapi.json").json()
    operation = found["paths"]["/upscale"]["post"]
    described = {it["name"]: it for it in operation["parameters"]}
    names = [option.opts[0][2:] for option in declared_options(("scale", "self_ensemble", "format", "quality"))]
    assert set(names) <= described.keys()
    assert described["format"]["schema"]["enum"] == list(FORMATS)
    assert described["model"]["schema"]["enum"] == ["lkdn-s"]
    assert set(operation["responses"]["200"]["content"]) == {*MEDIA_TYPES.values()}
    assert {"413", "415", "503", "504"} <= operation["responses"].keys()
    assert described["quality"]["example"] == 90


def test_figures_count_requests_and_pixels(service: RunningService) -> None:
    def figures() -> dict[str, float]:
        lines = service.client.get("/metrics").text.splitlines()
        return {(words := line.split())[0]: float(words[1]) for line in lines if not line.startswith("#")}

    service.post(b"no picture")
    before = figures()
    service.post(picture(10, 5))
    service.post(b"no picture")
    after = figures()
    for name, more in (
        ('lkdn_requests_total{status="200"}', 1),
        ('lkdn_requests_total{status="415"}', 1),
        ("lkdn_pixels_total", 50),
        ("lkdn_request_seconds_count", 2),
        ("lkdn_requests_in_progress", 0),
    ):
        assert after[name] - before.get(name, 0) == more
    assert after["lkdn_workers"] == 1


def test_nothing_is_written_to_files(service: RunningService) -> None:
    service.post(picture(), format="jxl")

    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in service.folder.rglob("*")}

    before = files()
    for suffix in MEDIA_TYPES:
        assert service.post(picture(40, 30), format=suffix).status_code == 200
    assert service.post(picture(kind="TIFF")[:-8]).status_code == 422
    assert files() == before


def test_a_picture_without_an_exact_result_is_none(service: RunningService) -> None:
    content = service.post(picture(20, 10), fit="30x30").content
    assert opened(content).size == (30, 15)
    assert np.asarray(opened(content)).std() > 1
    assert re.fullmatch(r"network;dur=\d+\.\d", service.post(picture(20, 10)).headers["Server-Timing"])
