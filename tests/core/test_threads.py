"""Work by several threads: results in order, and not too many of them."""

import threading
import time

import pytest

from lkdn_deploy.core.threads import in_order


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 30])
def test_results_come_in_the_order_of_the_items(count: int, threads: int) -> None:
    def work(item: int) -> int:
        time.sleep(0.003 * (item % 3))
        return item**2

    assert list(in_order(work, range(count), threads)) == [item**2 for item in range(count)]


def test_threads_work_at_once() -> None:
    together = threading.Barrier(3)
    assert sorted(in_order(lambda _: together.wait(timeout=60), range(3), 3)) == [0, 1, 2]


def test_one_thread_is_the_caller() -> None:
    assert set(in_order(lambda _: threading.get_ident(), range(3), 1)) == {threading.get_ident()}


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_no_more_is_begun_than_threads_and_one(threads: int) -> None:
    begun: list[int] = []
    for done, _ in enumerate(in_order(begun.append, range(20), threads)):
        time.sleep(0.002)
        assert len(begun) <= done + threads + 1


def test_closing_waits_for_what_was_begun() -> None:
    ended: list[int] = []

    def work(item: int) -> None:
        time.sleep(0.02)
        ended.append(item)

    results = in_order(work, range(20), 3)
    next(results)
    results.close()
    settled = list(ended)
    time.sleep(0.05)
    assert ended == settled
    assert len(ended) <= 4


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_comes_in_the_place_of_its_result(threads: int) -> None:
    results = in_order(lambda item: 6 // item, [2, 3, 0, 1], threads)
    assert [next(results), next(results)] == [3, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)
