"""Bounded queues between threads, in which an error or an end on one side reaches the other."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class _Stopped(BaseException):
    """Raised in the thread that puts, once nobody takes any more."""


class _Abandoned(BaseException):
    """Raised in the function of ``Behind`` when its block failed: what it has begun is not to be finished."""


class _Channel(Generic[T]):
    """A queue of at most ``depth`` items that one thread puts into and one takes from."""

    def __init__(self, depth: int) -> None:
        self._items: deque[T] = deque()
        self._depth = depth
        self._changed = threading.Condition()
        self._ended = self._stopped = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Add an item when there is room.

        Raises:
            _Stopped: if nobody will take it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._items) < self._depth)
            if self._stopped:
                raise _Stopped
            self._items.append(item)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Say that no item follows, because of ``error`` if there is one."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def abandon(self) -> None:
        """Drop what waits, and raise ``_Abandoned`` where items are taken."""
        with self._changed:
            self._items.clear()
        self.end(_Abandoned())

    def stop(self) -> None:
        """Say that no item will be taken any more."""
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Take items until the end; the error that ended them is raised after the last."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._items) or self._ended or self._stopped)
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
            del item  # not kept while the next one is waited for


class Ahead(Generic[T]):
    """Takes items from a generator in a thread of its own, at most ``depth`` before they are asked for.

    An error of the generator is raised where its items are taken. As a context manager it ends the thread and closes
    the generator.
    """

    def __init__(self, items: Generator[T, None, None], depth: int, name: str) -> None:
        self._source, self._channel = items, _Channel[T](depth)
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def _work(self) -> None:
        error = None
        try:
            with closing(self._source):
                for item in self._source:
                    self._channel.put(item)
                    del item
        except _Stopped:
            pass
        except BaseException as problem:  # raised in the other thread
            error = problem
        self._channel.end(error)

    def __enter__(self) -> Iterator[T]:
        """Start the thread, and return an iterator of its items."""
        self._thread.start()
        return iter(self._channel)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the thread."""
        self._channel.stop()
        self._thread.join()


class Behind(Generic[T]):
    """Gives items to a function of an iterator that runs in a thread of its own, at most ``depth`` late.

    As a context manager it waits until the function has taken all, and raises its error. If the block fails, what
    waits is dropped, and the function ends by an exception where it asks for the next item.

    Args:
        work: takes the iterator.
        depth: items that wait.
        name: of the thread.
    """

    def __init__(self, work: Callable[[Iterator[T]], None], depth: int, name: str) -> None:
        self._work, self._channel = work, _Channel[T](depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        try:
            self._work(iter(self._channel))
        except _Abandoned:
            pass
        except BaseException as problem:  # raised in the other thread
            self._error = problem
        self._channel.stop()

    def put(self, item: T) -> None:
        """Give an item when there is room.

        Raises:
            BaseException: the error of the function, if it failed.
        """
        try:
            self._channel.put(item)
        except _Stopped:
            self._thread.join()
            if self._error is not None:
                raise self._error from None
            raise

    def __enter__(self) -> "Behind[T]":
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the thread, after the function has taken all if the block succeeded."""
        if error is not None:
            self._channel.abandon()
        else:
            self._channel.end()
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error
