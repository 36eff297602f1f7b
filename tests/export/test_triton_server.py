"""The real Triton Inference Server, of the wheel of nvidia-pytriton, with repositories that are written for it."""

import os
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lkdn_deploy import load
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.export import command
from lkdn_deploy.samples import sample_pixels

grpc = pytest.importorskip("tritonclient.grpc")
PACKAGE = "nvidia-pytriton==0.7.0"
PICTURE = sample_pixels()[:90, :110]

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the server, with the stub for this Python."""
    folder = tmp_path_factory.mktemp("pytriton")
    options = ["-q", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, PACKAGE], capture_output=True, text=True, timeout=600
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        pytest.skip(f"{PACKAGE} cannot be downloaded here: {done.stderr.strip()[-200:]}")
    with zipfile.ZipFile(wheels[0]) as archive:
        archive.extractall(folder)
    wheels[0].unlink()
    place = folder / "pytriton" / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = place / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        pytest.skip(f"{PACKAGE} has no stub for Python {version}")
    stub.rename(place / "backends" / "python" / stub.name)
    for program in (place / "bin" / "tritonserver", place / "backends" / "python" / stub.name):
        program.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model for Triton's Python backend, and one for that of ONNX Runtime, which the wheel lacks."""
    folder = tmp_path_factory.mktemp("repository")
    assert run(command, ["--triton", str(folder), "--scale", "2", "--backend", "python"]) == 0
    assert run(command, ["--triton", str(folder), "--scale", "3"]) == 0
    # A server has this package in its Python, which ignores PYTHONPATH; this one is to find that of the tests.
    program = folder / "lkdn-s_x2" / "1" / "model.py"
    paths = [path for path in sys.path if path]
    program.write_text(f"import sys\nsys.path[:0] = {paths!r}\n" + program.read_text())
    return folder


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def client(server: Path, repository: Path) -> Iterator[Any]:
    place, port = server / "pytriton" / "tritonserver", free_port()
    libraries = os.pathsep.join((str(server / "nvidia_pytriton.libs"), f"{sys.base_prefix}/lib"))
    surroundings = os.environ | {"LD_LIBRARY_PATH": libraries}
    arguments = {
        "model-repository": repository,
        "backend-directory": place / "backends",
        "grpc-address": "127.0.0.1",
        "grpc-port": port,
        "allow-http": "false",
        "allow-metrics": "false",
        "exit-on-error": "false",
    }
    program = [place / "bin" / "tritonserver", *(f"--{name}={value}" for name, value in arguments.items())]
    with (server / "log").open("w") as log:
        process = subprocess.Popen(program, env=surroundings, stdout=log, stderr=subprocess.STDOUT)
    try:
        with grpc.InferenceServerClient(f"127.0.0.1:{port}") as found:
            _wait(found, process, server / "log")
            yield found
    finally:
        process.terminate()
        process.wait(60)


def _wait(client: Any, process: Any, log: Path) -> None:
    """Wait until the server answers and has tried all models."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            index = client.get_model_repository_index().models
        except grpc.InferenceServerException:
            index = []
        if len(index) == 2 and all(model.state in ("READY", "UNAVAILABLE") for model in index):
            return
        time.sleep(0.2)
    pytest.fail(log.read_text()[-4000:])


def ask(client: Any, pixels: np.ndarray) -> np.ndarray:
    value = grpc.InferInput("image", list(pixels.shape), "UINT8")
    value.set_data_from_numpy(pixels)
    return np.asarray(client.infer("lkdn-s_x2", [value]).as_numpy("upscaled"))


@pytest.mark.parametrize("kind", ["RGB", "grey", "RGBA"])
def test_the_python_backend_answers_with_the_same_pixels(client: Any, kind: str) -> None:
    pixels = {"RGB": PICTURE, "grey": PICTURE[:, :, :1], "RGBA": np.dstack([PICTURE, PICTURE[:, :, 0]])}[kind]
    expected = load("lkdn-s", 2)(pixels)
    assert np.array_equal(ask(client, np.ascontiguousarray(pixels)), expected)


def test_what_is_no_picture_is_an_error_of_its_request_alone(client: Any) -> None:
    with pytest.raises(grpc.InferenceServerException, match="1 to 4 channels"):
        ask(client, np.zeros((8, 8, 5), np.uint8))
    assert ask(client, PICTURE[:20, :20].copy()).shape == (40, 40, 3)


def test_the_configuration_for_onnx_runtime_is_read_up_to_the_missing_backend(client: Any) -> None:
    models = {model.name: model for model in client.get_model_repository_index().models}
    assert models["lkdn-s_x2"].state == "READY"
    assert "onnxruntime" in models["lkdn-s_x3"].reason
    assert client.get_model_metadata("lkdn-s_x2").inputs[0].shape == [-1, -1, -1]
