"""The bindings of TensorRT 10 and 11 have every name, constant and signature that our code uses.

The stand-ins have what our code uses and nothing else. The bindings are loaded over libraries without any function in
them, so neither TensorRT nor a GPU is needed, but the network is, and a C compiler.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from describe_bindings import described, missing, used
from device_fake import FakeDevice
from engine_fake import runtime_module
from tensorrt_fake import Behaviour, fake

from lkdn_deploy.backends import trt

VERSIONS = ("10.1.0", "10.16.1.11", "11.4.0.106")
FUNCTIONS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL", "getLogger",
    "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry",
    "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins", "getInferLibVersion",
)  # fmt: skip
"""The names that the bindings want of the libraries when they are loaded."""
RTX_ONLY = ("IRuntimeConfig", "IRuntimeCache", "DynamicShapesKernelSpecializationStrategy", "ComputeCapability")
SETTABLE = {"IBuilderConfig": ("profiling_verbosity", "progress_monitor"), "ITensor": ("shape",)}

# What is written over a null pointer: each is refused with our error, as where the driver is too old.
GUARDED = """
import sys
import tensorrt_bindings
sys.modules["tensorrt"] = tensorrt_bindings
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from engine_fake import record_of
from lkdn_deploy.backends.trt.build import BuildError, build
from lkdn_deploy.backends.trt.engine import Engine
from lkdn_deploy.core.errors import DeviceError
artefact = Path(sys.argv[2])
record = record_of(artefact, jit=False)
for attempt in (lambda: build(artefact.read_bytes(), record.spec), lambda: Engine(b"", record, tensorrt_bindings)):
    try:
        attempt()
    except (BuildError, DeviceError) as error:
        print(error.message)
"""


def stand_ins(rtx: bool) -> list[Any]:
    modules = [fake(Behaviour(rtx=rtx)), runtime_module(FakeDevice(), jit=rtx)]
    for module in modules:
        for name in () if rtx else RTX_ONLY:
            vars(module).pop(name, None)
    return modules


def complaints(rtx: bool, real: dict[str, dict[str, Any]]) -> list[str]:
    lacking = [line for module in stand_ins(rtx) for line in missing(module, real)]
    for name, members in SETTABLE.items():
        lacking += [f"{name}.{member} cannot be set" for member in members if real[name].get(member) != "settable"]
    return lacking


def test_the_stand_ins_have_every_name_of_a_module_that_the_code_uses() -> None:
    text = "\n".join(path.read_text() for path in Path(trt.__file__).parent.glob("*.py"))
    asked = set(re.findall(r"\b_?module\.([A-Z]\w+)", text))
    assert len(asked) > 15
    assert asked - {"IProgressMonitor"} <= {name for module in stand_ins(True) for name in used(module)}


def test_a_name_that_is_missing_and_another_signature_are_seen() -> None:
    module = ModuleType("bindings")

    class Runtime:
        def run(self, engine: bytes, flags: int) -> None: ...

        def stop(self) -> None: ...

    module.Runtime = Runtime  # type: ignore[attr-defined]
    real = {"Runtime": {"run": [[("engine", False)]], "stop": [[("hard", True)]]}}
    assert missing(module, real) == ["Runtime.run: ['engine', 'flags'], but [[('engine', False)]]"]
    assert len(missing(module, {})) == 3


def test_tensorrt_for_rtx_has_all_that_is_used() -> None:
    assert complaints(True, described(pytest.importorskip("tensorrt_rtx"))) == []


@pytest.fixture(scope="module", params=VERSIONS)
def bindings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The surroundings of a program in which ``tensorrt_bindings`` can be imported."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("stub libraries are made with a C compiler on Linux")
    folder = tmp_path_factory.mktemp("bindings")
    package = f"tensorrt-cu12-bindings=={request.param}"
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", folder, package]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        pytest.skip(f"{package} cannot be downloaded here: {done.stderr.strip()[-200:]}")
    with zipfile.ZipFile(wheels[0]) as archive:
        archive.extractall(folder)
    wanted = re.findall(
        rb"lib(?:nvinfer|nvonnxparser|nvinfer_plugin)\.so\.\d+",
        Path(folder, "tensorrt_bindings", "tensorrt.so").read_bytes(),
    )
    assert len(set(wanted)) == 3
    source = folder / "stub.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in FUNCTIONS))
    for library in {name.decode() for name in wanted}:
        subprocess.run([compiler, "-shared", "-o", folder / library, f"-Wl,-soname,{library}", source], check=True)
    paths = os.pathsep.join((str(folder), *filter(None, sys.path)))
    return dict(os.environ) | {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": paths, "VERSION": request.param}


@pytest.mark.long
def test_the_real_bindings_have_all_that_is_used(bindings: dict[str, str]) -> None:
    program = [sys.executable, "-W", "ignore", Path(described.__code__.co_filename), "tensorrt_bindings"]
    done = subprocess.run(program, env=bindings, capture_output=True, text=True, check=True)
    real = json.loads(done.stdout)
    assert len(real) > 50
    assert complaints(False, real) == []


@pytest.mark.long
def test_a_null_pointer_of_the_real_bindings_is_an_error_that_says_so(bindings: dict[str, str], artefact: Path) -> None:
    fakes = str(Path(described.__code__.co_filename).parent)
    program = [sys.executable, "-W", "ignore", "-c", GUARDED, fakes, artefact]
    done = subprocess.run(program, env=bindings, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert re.match(r"the builder of TensorRT does not start: .*nullptr", lines[0])
    assert re.match(r"the runtime of tensorrt does not start: .*nullptr", lines[1])
