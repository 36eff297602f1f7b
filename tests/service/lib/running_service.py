"""``lkdn-serve`` in a process of its own, and requests to it."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from PIL import Image

from lkdn_deploy.samples import sample_pixels

CODE = "from lkdn_deploy.cli import serve; serve()"


def picture(width: int = 24, height: int = 16, kind: str = "PNG", mode: str = "RGB") -> bytes:
    """Return a file with a piece of the sample."""
    file = io.BytesIO()
    rows, columns = sample_pixels().shape[:2]
    part = Image.fromarray(sample_pixels()).crop((0, 0, min(width, columns), min(height, rows)))
    part.resize((width, height)).convert(mode).save(file, kind)
    return file.getvalue()


def opened(content: bytes) -> Image.Image:
    """Return the picture in a file."""
    return Image.open(io.BytesIO(content))


@dataclass(frozen=True, slots=True)
class RunningService:
    """The command, its address, the folder that it and its home are in, and a client."""

    process: "subprocess.Popen[str]"
    folder: Path
    client: httpx.Client

    def post(self, content: bytes = b"", *, kind: str | None = "image/png", **query: object) -> httpx.Response:
        """Post a picture."""
        headers = {} if kind is None else {"Content-Type": kind}
        params = {name.replace("_", "-"): str(value) for name, value in query.items()}
        return self.client.post("/upscale", content=content, headers=headers, params=params)

    def workers(self) -> list[psutil.Process]:
        """Return the processes that upscale."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]

    def running(self) -> int:
        """Return the number of requests that are in progress."""
        return int(self.client.get("/healthz").json()["running"])

    def until_running(self, count: int) -> None:
        """Wait until so many requests are in progress."""
        while self.running() != count:
            time.sleep(0.02)


def environment(folder: Path) -> dict[str, str]:
    """Return the environment in which the command's home and temporary folders are in ``folder``."""
    (folder / "tmp").mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if name != "LKDN_SERVE_TOKEN"}
    return kept | {"HOME": str(folder), "TMPDIR": str(folder / "tmp")}


@contextmanager
def serving(folder: Path, *options: str, token: str | None = None) -> Iterator[RunningService]:
    """Start the command on a free port, and end it, if it is still there."""
    variables = environment(folder) | ({} if token is None else {"LKDN_SERVE_TOKEN": token})
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "--port", "0", "--threads", "1", *options],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    address = process.stdout.readline().strip()
    if not address:
        raise AssertionError(process.stderr.read())
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=address, timeout=60, headers=headers) as client:
        try:
            yield RunningService(process, folder, client)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.stdout.close()
            process.stderr.close()
            process.wait(30)
