"""Importing the toolkit and upscaling must not need torch, nor load what is not used."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "PIL",
    "av",
    "fastapi",
    "fsspec",
    "imagecodecs",
    "matplotlib",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "psutil",
    "pydantic",
    "ray",
    "torch",
    "uvicorn",
}
COMMANDS = ("bench", "eval", "export", "serve", "train", "upscale", "zoo")
SAMPLE = Path(__file__).parents[2] / "lkdn_deploy" / "samples" / "dandelion.png"


def python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)


def imported(code: str) -> set[str]:
    """Return the top-level packages that are loaded after running ``code``."""
    done = python(f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint('\\n', *sys.modules)")
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.rsplit("\n", 2)[-2].split()}


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not imported("import lkdn_deploy") & HEAVY


@pytest.mark.parametrize("name", COMMANDS)
def test_help_loads_nothing_heavy(name: str) -> None:
    loaded = imported(f"from lkdn_deploy.cli.{name} import main; sys.argv = ['x', '--help']; main()")
    assert "click" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("task", ["run", "plot", "export", "tiny"])
def test_help_of_the_parts_of_lkdn_train_loads_nothing_heavy(task: str) -> None:
    loaded = imported(f"from lkdn_deploy.cli.train import main; sys.argv = ['x', '{task}', '--help']; main()")
    assert "click" in loaded
    assert not loaded & HEAVY


def test_upscaling_works_where_torch_and_onnx_cannot_be_imported(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules.update(torch=None, onnx=None, lkdn_models=None)\n"
        "from lkdn_deploy.cli.upscale import main; main()"
    )
    done = python(code, str(SAMPLE), str(tmp_path / "out.png"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.png").exists()


def test_upscaling_on_the_native_engine_loads_no_other(tmp_path: Path) -> None:
    words = ["x", str(SAMPLE), str(tmp_path / "out.png")]
    loaded = imported(f"from lkdn_deploy.cli.upscale import main; sys.argv = {words}; main()")
    assert "llvmlite" in loaded
    assert not loaded & {"onnxruntime", "openvino"}


def test_upscaling_starts_no_threads_that_it_does_not_use(tmp_path: Path) -> None:
    code = (
        "import psutil, sys; from lkdn_deploy.cli.upscale import main\n"
        "try:\n    main()\nexcept SystemExit:\n    print('numpy' in sys.modules, psutil.Process().num_threads())"
    )
    assert python(code, str(tmp_path / "no.png"), str(tmp_path / "out.png")).stdout.split() == ["True", "1"]


def test_garbage_is_not_looked_for_in_what_stays_and_is_in_what_comes(tmp_path: Path) -> None:
    code = (
        "import gc; from lkdn_deploy.cli.upscale import main\n"
        "try:\n    main()\nexcept SystemExit:\n    print(gc.isenabled(), gc.get_freeze_count() > 50_000)"
    )
    assert python(code, str(SAMPLE), str(tmp_path / "out.png")).stdout.splitlines()[-1] == "True True"


def test_exporting_without_torch_names_the_extra(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom lkdn_deploy.cli.export import main; main()"
    done = python(code, "--onnx", "-o", str(tmp_path))
    assert done.returncode == 3
    assert ".[train]" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_serving_without_its_packages_names_the_extra() -> None:
    code = "import sys; sys.modules['fastapi'] = None\nfrom lkdn_deploy.cli.serve import main; main()"
    done = python(code)
    assert done.returncode == 3
    assert ".[serve]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("missing", "args"),
    [
        ("torch", ["tiny", "--data", "photos"]),
        ("torch", ["export", "run"]),
        ("torch", ["plot", "run"]),
        ("matplotlib", ["plot", "run"]),
    ],
)
def test_training_without_its_packages_names_the_extra(missing: str, args: list[str]) -> None:
    code = f"import sys; sys.modules['{missing}'] = None\nfrom lkdn_deploy.cli.train import main; main()"
    done = python(code, *args)
    assert done.returncode == 3
    assert ".[train]" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_zoo_is_shown_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom lkdn_deploy.cli.zoo import main; main()"
    assert "lkdn-s" in python(code, "list").stdout
