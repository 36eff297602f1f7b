import numpy as np
import pytest
from numpy.typing import NDArray

from lkdn_deploy.core.errors import ExitCode, VerificationError
from lkdn_deploy.verify.compare import TOLERANCE, compare, verify

BATCH = np.random.default_rng(0).random((1, 3, 4, 5), np.float32)


def double(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    return 2 * batch


def test_equal_runs_agree_without_any_difference() -> None:
    result = compare("noise", BATCH, double, double)
    assert result
    assert (result.max_abs, result.psnr) == (0, float("inf"))


def test_the_largest_difference_is_found_wherever_it_is() -> None:
    def off(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        result = double(batch)
        result[0, 2, 3, 4] += 0.25
        return result

    result = compare("noise", BATCH, off, double)
    assert not result
    assert result.max_abs == pytest.approx(0.25)
    assert result.psnr == pytest.approx(-10 * np.log10(0.25**2 / 60), abs=1e-3)


@pytest.mark.parametrize("share", [0.9, 1.1])
def test_the_tolerance_is_the_border(share: float) -> None:
    step = np.float32(share * TOLERANCE["fp32"])
    assert bool(compare("zeros", 0 * BATCH, lambda batch: batch + step, lambda batch: batch)) == (share < 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_never_agrees(value: float) -> None:
    def broken(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full_like(batch, value)

    assert not compare("noise", BATCH, broken, broken)


def test_another_shape_never_agrees() -> None:
    assert not compare("noise", BATCH, lambda batch: batch[:, :1], lambda batch: batch)


def test_verification_names_each_input_that_failed() -> None:
    inputs = {"dark": 0 * BATCH, "bright": BATCH}
    assert len(verify(inputs, double, double)) == 2
    with pytest.raises(VerificationError, match="bright 4x5") as failed:
        verify(inputs, lambda batch: batch, double)
    assert "dark" not in failed.value.message
    assert failed.value.exit_code == ExitCode.VERIFICATION_FAILED
