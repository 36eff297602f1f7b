"""The native engine on ARM, by an emulator, against vectors of four lanes on this machine."""

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from arm_program import LIKE_ARM, run_on_arm
from native_graphs import MODEL, Run, clouds, compiled

from lkdn_deploy.hub.artifacts import find_artifact
from lkdn_deploy.jit.compiler import processor
from lkdn_deploy.runtime.bundled import bundled


@pytest.fixture(scope="module")
def emulator() -> str:
    """A program that runs programs for ARM, or a skip."""
    found = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if found is None:
        pytest.skip("qemu-aarch64 is not installed (Debian's qemu-user-static), which runs code for ARM")
    if "+fma" not in processor().features and "+neon" not in processor().features:
        pytest.skip("this processor rounds twice where ARM rounds once, so that results differ")
    return found


@pytest.mark.long
@pytest.mark.parametrize("network", ["every operator", "lkdn-s", "lkdn", "vapsr"])
@pytest.mark.parametrize("size", [(1, 1), (5, 47), (23, 64), (40, 33)])
def test_results_are_equal_bit_for_bit(
    network: str, size: tuple[int, int], emulator: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if network == "every operator":
        model = MODEL
    elif network == "lkdn-s":
        model = bundled()["lkdn-s", 4].read_bytes()
    else:
        files = {"lkdn": "LKDN/LKDN_x4.pth", "vapsr": "VapSR/VapSR_X4.pth"}
        model = find_artifact(weights=request.getfixturevalue("data") / "weights" / files[network]).data
    image = clouds(*size)
    expected = Run(compiled(model, LIKE_ARM), *size)(image)
    assert np.array_equal(run_on_arm(model, image, emulator, tmp_path).view(np.uint32), expected.view(np.uint32))
