"""The range and colour order of a network are found by its results on pictures, or asked about."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.runtime.probing import Run, probe

Change = Callable[[Run], Run]


@pytest.fixture(scope="module")
def network() -> Run:
    """A trained network, x3, of RGB in 0..1."""
    return open_session(bundled()["lkdn-s", 3], "ort-cpu").run


def in_levels(network: Run) -> Run:
    return lambda x: network(x / np.float32(255)) * 255


def of_bgr(network: Run) -> Run:
    return lambda x: network(np.ascontiguousarray(x[:, ::-1]))[:, ::-1]


def even(network: Run) -> Run:
    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        if x.shape[2] % 2 or x.shape[3] % 2:
            msg = "sizes must be even"
            raise RuntimeError(msg)
        return network(x)

    return run


def nearest(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x.repeat(3, axis=2).repeat(3, axis=3)


def test_the_range_is_found(network: Run) -> None:
    found = probe(network)
    assert (found.scale, found.multiple, found.peak, found.bgr) == (3, 1, 1.0, False)
    assert found.reasons[0] == "it enlarges 3 times"
    assert found.reasons[1].startswith("values are 0..1: flat colours change by 0.0")
    assert found.reasons[2].startswith("colours are RGB: as BGR, a photograph comes out ")
    assert probe(in_levels(network)).peak == 255
    assert probe(in_levels(network), peak=255.0).reasons[1].startswith("colours")


def test_another_order_of_colours_is_asked_about(network: Run) -> None:
    with pytest.raises(InputError, match=r"as BGR, a photograph comes out .* better") as caught:
        probe(of_bgr(network))
    assert "--bgr" in (caught.value.hint or "")
    assert probe(of_bgr(network), bgr=True).bgr


def test_rgb_is_taken_where_the_order_hardly_matters(network: Run) -> None:
    of_either = probe(lambda x: (network(x) + of_bgr(network)(x)) / 2)
    assert not of_either.bgr
    assert of_either.reasons[2].startswith("colours are taken as RGB, whose order hardly matters (--bgr turns it)")


def test_sizes_that_it_takes_are_found(network: Run) -> None:
    assert probe(even(network), peak=1.0, bgr=False).multiple == 2
    assert probe(network, size=(30, None), peak=1.0, bgr=False).multiple == 1
    with pytest.raises(InputError, match="sizes must be even"):
        probe(even(network), size=(31, 33))


def test_a_network_that_works_alike_in_all_ranges_needs_none() -> None:
    found = probe(nearest)
    assert (found.scale, found.peak, found.bgr) == (3, 1.0, False)
    assert "works alike in all" in found.reasons[1]


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda x: 1 - nearest(x), "the range of values cannot be told"),
        (lambda x: nearest(x)[:, ::-1], "the range of values cannot be told"),
        (lambda x: np.full_like(nearest(x), np.nan), "the range of values cannot be told"),
        (lambda x: nearest(x)[:, :, :-1], "by a whole number"),
        (lambda x: x.repeat(9, axis=2).repeat(9, axis=3), "by a whole number up to 8"),
        (lambda x: nearest(x)[:, :1], "by a whole number"),
    ],
)
def test_what_is_no_network_for_pictures_is_refused(run: Run, said: str) -> None:
    with pytest.raises(InputError, match=said):
        probe(run)
