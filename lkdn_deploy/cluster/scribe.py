"""The one writer of the journal of a run on a cluster.

Workers hand it their lines, and are told when these are written, just before their outputs get their names. So the
journal has whole lines on any file system, and is the one that a run on one machine writes. Lines that arrive while
others are being written are written together.
"""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lkdn_deploy.cluster.stores import StoreFolder
from lkdn_deploy.core.errors import LkdnError
from lkdn_deploy.runtime.journal import JOURNAL_NAME, append_line

_PIECE = 1 << 18
"""Bytes of a piece of a journal in a store, from which on the next one is begun."""


@dataclass(slots=True, eq=False)
class FileLines:
    """A journal in a file."""

    path: Path

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines.

        Raises:
            OSError: if they cannot be written.
        """
        for line in lines:
            append_line(self.path, line)


@dataclass(slots=True, eq=False)
class StoreLines:
    """A journal in a store, which cannot append: pieces, of which the last is written again with each line."""

    store: StoreFolder
    _run: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    _number: int = 0
    _text: bytes = b""

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines.

        Raises:
            OSError: if they cannot be written.
        """
        text = self._text + b"".join(b"\n" + line for line in lines)
        try:
            self.store.write(JOURNAL_NAME.format(f".{self._run}-{self._number}"), text)
        except LkdnError as error:
            raise OSError(str(error)) from error
        self._text = text
        if len(text) > _PIECE:
            self._number, self._text = self._number + 1, b""


class Scribe:
    """Writes lines in the order of their arrival; an actor of Ray.

    Args:
        lines: the journal.
    """

    def __init__(self, lines: FileLines | StoreLines) -> None:
        self._lines = lines
        self._waiting: list[bytes] = []
        self._written = asyncio.Lock()
        self._error: OSError | None = None

    async def append(self, line: bytes) -> None:
        """Return when a line is written.

        Raises:
            OSError: if it cannot be written.
        """
        batch = self._waiting
        batch.append(line)
        async with self._written:
            if self._waiting is batch:  # nobody has written it yet, so all that wait are written
                self._waiting, self._error = [], None
                try:
                    await asyncio.to_thread(self._lines.write, batch)
                except OSError as error:
                    self._error = error
            if self._error is not None:
                raise OSError(str(self._error))
