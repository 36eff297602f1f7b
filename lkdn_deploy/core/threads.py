"""Running work on several cores."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R, None, None]:
    """Yield ``work(item)`` for each item, in order, computed by a pool of threads.

    At most one item more than there are threads is in progress, so results do not pile up before a slow consumer. The
    generator must be exhausted or closed, which waits for the items in progress.

    Args:
        work: function to call.
        items: its arguments.
        threads: number of threads; with 1, the caller's own thread does the work.
    """
    if threads == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        begun: deque[Future[R]] = deque()
        for item in items:
            if len(begun) > threads:
                yield begun.popleft().result()
            begun.append(pool.submit(work, item))
            del item  # it may be large, and the next one may take long to come
        while begun:
            yield begun.popleft().result()
