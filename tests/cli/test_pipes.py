"""Pictures and raw frames through pipes, in processes of their own."""

import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lkdn_deploy.cli.upscale as cli
from lkdn_deploy import load
from lkdn_deploy.cli._shell import run as run_command
from lkdn_deploy.imaging.files.read import read_picture
from lkdn_deploy.samples import sample_pixels

PHOTOGRAPH = sample_pixels()[60:90, 90:134]
UPSCALE = [sys.executable, "-c", "from lkdn_deploy.cli.upscale import main; main()"]


def run(*args: str | Path, data: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
    given = {} if "stdin" in options else {"input": data}
    return subprocess.run([*UPSCALE, *map(str, args)], capture_output=True, check=False, **given, **options)


def encoded(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_picture_goes_through_pipes_and_nothing_else_does(tmp_path: Path) -> None:
    done = run(
        "-", "-", "--format", "tif", "--scale", "1.5", data=encoded(PHOTOGRAPH, "PNG", dpi=(300, 300)), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert np.array_equal(decoded(done.stdout), load(scale=1.5)(PHOTOGRAPH))
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert image.format == "TIFF"
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert b"44x30 -> 66x45 with lkdn-s x2" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_either_end_may_be_a_file(tmp_path: Path) -> None:
    source, target = tmp_path / "in.png", tmp_path / "out.png"
    source.write_bytes(encoded(PHOTOGRAPH, "PNG"))
    out = run(source, "-", "--format", "png", "--scale", "2")
    into = run("-", target, "--scale", "2", "--json", data=source.read_bytes())
    assert (out.returncode, into.returncode) == (0, 0), out.stderr + into.stderr
    assert out.stdout == target.read_bytes()
    assert {"output": str(target), "width": 88, "height": 60, "scale": 2}.items() <= json.loads(into.stdout).items()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-", "-"], "a picture on standard output (-) needs a --format"),
        (["-", "-", "--format", "png", "--json"], "takes the picture and nothing else"),
        (["-", "."], "a picture from standard input has no name to get in the folder ."),
        (["-", "a.png", "."], "standard input (-) is one picture"),
        ([".", "-", "--format", "png"], "standard output (-) takes one picture"),
        (["-", "-", "--format", "png", "--resume"], "--resume is for files"),
        (["--raw", "4x4:rgb24", "in.rgb", "-"], "IN and OUT are both -"),
        (["--raw", "4x4:yuv420p", "-", "-"], "no such pixel format: yuv420p"),
        (["--raw", "4x4:rgb24", "--format", "png", "-", "-"], "--format is for pictures"),
        (["--raw", "4x4:rgb24", "--max-memory", "1G", "-", "-"], "--max-memory is for pictures"),
        (["--raw", "4x4:rgb24", "--codec", "ffv1", "-", "-"], "--codec is for films"),
    ],
)
def test_what_does_not_go_with_pipes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(cli.command, args) == 2
    found = capsys.readouterr()
    assert said in found.err
    assert found.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "data", "said"),
    [
        (["--format", "png"], b"", "standard input is empty"),
        (["--format", "png"], b"no picture", "error: standard input is not an image that can be read"),
        (["--raw", "4x4:rgb24", "--scale", "2"], b"", "the stream ended before the first frame"),
    ],
)
def test_what_is_no_picture_leaves_standard_output_empty(
    tmp_path: Path, args: list[str], data: bytes, said: str
) -> None:
    done = run(*args, "-", "-", data=data, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert said in done.stderr.decode()
    assert list(tmp_path.iterdir()) == []


def test_binary_data_is_not_written_to_a_terminal(tmp_path: Path) -> None:
    source = tmp_path / "in.png"
    source.write_bytes(encoded(PHOTOGRAPH, "PNG"))
    screen, terminal = pty.openpty()
    try:
        for args, stream in (([source, "-", "--format", "png"], "output"), (["-", "out.png"], "input")):
            done = subprocess.run(
                [*UPSCALE, *args], stdin=terminal, stdout=terminal, stderr=subprocess.PIPE, check=False, cwd=tmp_path
            )
            assert done.returncode == 2
            assert done.stderr.decode().startswith(f"error: standard {stream} (-) is a terminal")
    finally:
        os.close(screen)
        os.close(terminal)
    assert list(tmp_path.iterdir()) == [source]


def test_frames_go_through_pipes(tmp_path: Path) -> None:
    stream = np.stack([np.roll(PHOTOGRAPH, 5 * index, axis=1) for index in range(4)])
    done = run("--raw", "44x30:rgb24", "--scale", "2", "-", "-", data=stream.tobytes() + b"cut off")
    assert done.returncode == 1
    assert b"the stream ended within frame 5, after 7 of its 3,960 bytes; the 4 before it are written" in done.stderr
    upscale = load(scale=2)
    assert done.stdout == b"".join(upscale(frame).tobytes() for frame in stream)


def test_a_reader_of_frames_that_leaves_is_no_failure() -> None:
    done = subprocess.run(
        [
            "bash",
            "-c",
            f"yes | {sys.executable} -c '{UPSCALE[2]}' --raw 40x40:rgb24 -q - - | head -c 9; echo ${{PIPESTATUS[1]}}",
        ],
        capture_output=True,
        check=False,
    )
    assert done.stdout.endswith(b"0\n")
    assert done.stderr == b""


def test_a_signal_ends_it_while_it_waits_for_a_frame() -> None:
    args = ["--raw", "4x4:rgb24", "--scale", "2", "-", "-"]
    process = subprocess.Popen([*UPSCALE, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(bytes(48))
        process.stdin.flush()
        assert len(process.stdout.read(4 * 48)) == 4 * 48
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_frames_go_from_ffmpeg_to_ffmpeg(tmp_path: Path) -> None:
    """As in the README, without losses, so that every frame can be compared."""
    made = "ffmpeg -v error -f lavfi -i testsrc=size=64x36:rate=5:duration=1 -f rawvideo -pix_fmt rgb48le - "
    upscale = f"{sys.executable} -c '{UPSCALE[2]}' --raw 64x36:rgb48le --scale 1.5 - - "
    kept = f"ffmpeg -v error -f rawvideo -pix_fmt rgb48le -s 96x54 -r 5 -i - -c:v png {tmp_path}/%d.png"
    subprocess.run(["bash", "-o", "pipefail", "-c", f"{made} | tee {tmp_path}/in | {upscale} | {kept}"], check=True)
    frames = np.fromfile(tmp_path / "in", "<u2").reshape(-1, 36, 64, 3)
    assert len(frames) == 5
    upscaler = load(scale=1.5)
    for index, frame in enumerate(frames, 1):
        assert np.array_equal(read_picture(tmp_path / f"{index}.png").pixels, upscaler(frame))
