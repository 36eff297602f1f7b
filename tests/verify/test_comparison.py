import numpy as np
import pytest
from numpy.typing import NDArray

from lkdn_deploy.core.errors import ExitCode, VerificationError
from lkdn_deploy.verify.comparison import TOLERANCE, check_finite, compare, verify

BATCH = np.random.default_rng(0).random((1, 3, 4, 5), np.float32)


def double(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    return 2 * batch


def test_equal_runs_agree_without_any_difference() -> None:
    result = compare("noise", BATCH, double, double)
    assert result
    assert (result.max_abs, result.psnr_y) == (0, float("inf"))


def test_the_largest_difference_is_found_wherever_it_is() -> None:
    def off(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        result = double(batch)
        result[0, 2, 3, 4] += 0.25
        return result

    result = compare("noise", BATCH, off, double)
    assert not result
    assert result.max_abs == pytest.approx(0.25)


@pytest.mark.parametrize("share", [0.9, 1.1])
def test_the_tolerance_is_the_border(share: float) -> None:
    step = np.float32(share * TOLERANCE["fp32"].max_abs)
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
    with pytest.raises(VerificationError, match="bright 5x4") as failed:
        verify(inputs, lambda batch: batch, double)
    assert "dark" not in failed.value.message
    assert failed.value.exit_code == ExitCode.VERIFICATION_FAILED


@pytest.mark.parametrize(("every", "close"), [(20, True), (10, False)])
def test_fp16_is_held_to_the_8_bit_image(every: int, close: bool) -> None:
    def off(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        result = batch.copy()
        result.reshape(3, -1)[:, ::every] += np.float32(1 / 255)
        return result

    grey = np.full((1, 3, 20, 20), 100 / 255, np.float32)
    result = compare("grey", grey, off, lambda batch: batch, "fp16")
    levels = 219 / 255  # of luma, of one of grey
    assert result.psnr_y == pytest.approx(10 * np.log10(255**2 * every / levels**2), abs=0.01)
    assert bool(result) == close
    assert f"PSNR {result.psnr_y:.1f} dB (at least 60)" in str(result)


def test_fp16_may_be_off_by_what_8_bits_do_not_show() -> None:
    grey = np.full((1, 3, 20, 20), 100 / 255, np.float32)
    assert compare("grey", grey, lambda batch: batch + np.float32(1e-3), lambda batch: batch, "fp16").psnr_y > 100


def test_the_worst_of_a_batch_counts() -> None:
    grey = np.full((2, 3, 20, 20), 0.5, np.float32)

    def off(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([batch[0], batch[1] + np.float32(0.1)])

    assert compare("grey", grey, off, lambda batch: batch, "fp16").psnr_y < 25


def test_what_is_not_finite_is_named() -> None:
    def overflow(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return (batch * 1e5).astype(np.float16).astype(np.float32)

    inputs = {"dark": 0 * BATCH, "bright": BATCH}
    check_finite({"dark": 0 * BATCH}, overflow)
    with np.errstate(over="ignore"), pytest.raises(VerificationError, match=r"65504, on: bright \("):
        check_finite(inputs, overflow)
