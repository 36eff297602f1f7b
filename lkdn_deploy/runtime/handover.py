"""Hands bands of rows from the thread that computes them to the one that writes them."""

import threading
from collections.abc import Iterator

from lkdn_deploy.imaging.pixels import Pixels


class Handover(Iterator[Pixels]):
    """Bands that one thread puts and another takes, by iterating; at most one is with each of them.

    Either side can break off, which the other side finds out when it next puts or takes a band.
    """

    class Broken(Exception):  # noqa: N818 - it says that the other side has failed, and is never reported
        """The other side has broken off."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._band: Pixels | None = None
        self._taken = False  # a band that the taker still works on
        self._ended = self._broken = False

    def put(self, band: Pixels) -> None:
        """Give a band, when the taker has finished with the one before.

        Raises:
            Broken: if the taker has broken off.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._broken or (self._band is None and not self._taken))
            if self._broken:
                raise Handover.Broken
            self._band = band
            self._changed.notify_all()

    def end(self) -> None:
        """Say that all bands were put."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def break_off(self) -> None:
        """Say, from either side, that no band will be put or taken any more; without effect once all are taken."""
        with self._changed:
            self._broken, self._band = True, None
            self._changed.notify_all()

    def __next__(self) -> Pixels:
        with self._changed:
            self._taken = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._broken or self._band is not None or self._ended)
            if self._broken:
                raise Handover.Broken
            if self._band is None:
                raise StopIteration
            band, self._band, self._taken = self._band, None, True
            return band
