"""The journal beside the outputs, by which an interrupted run is resumed and a finished one repeats no work.

Each line, a JSON object, says which bytes an output has, and of which input and by which work they were made. It is
written when the output is complete, just before it gets its name, so a run that is killed at any moment leaves a line
without its file at worst, and never a file without its line.

A line is a claim and is never trusted: an output counts as finished only if the file itself has the size and SHA-256
that the line names, and the input, as it is now, the SHA-256 that it was made from. So no order of lines matters, no
clock, and no time of a file; lines that are torn, foreign, repeated or older than a change prove nothing. To read an
output and its input takes a few percent of the time of computing it. A journal that is lost takes nothing with it: the
outputs are then files like any others, which are replaced only on request.

Lines are appended whole, by one call each, so several processes may write to one journal. As such calls are not atomic
on network file systems, each share of a job array has a journal of its own, and all journals of a folder are read.
"""

import errno
import hashlib
import json
import logging
import os
import re
import stat
import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import Seal, open_regular

log = logging.getLogger(__name__)

JOURNAL_NAME = ".lkdn-upscale{}.jsonl"
JOURNALS = re.compile(r"\.lkdn-upscale(\.\d+of\d+|\.[0-9a-f]{12}-\d+)?\.jsonl", re.ASCII)
"""The names of journals: of a folder, of a share, and the pieces of one in a store that cannot append."""

MOST_BYTES = 1 << 30
"""Bytes of all journals of a folder that are read, from their ends: some four million lines."""
_LONGEST_LINE = 1 << 15
_MOST_LINES = 8
"""Lines on one output that are kept in memory."""
_PACKED = struct.Struct("<32s32s32sQ")
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)

Finding = Literal["finished", "outdated", "unknown"]
"""The state of an output by its journal: finished; made by an earlier run from another input or with other settings; or
nothing, as there is no such file, or it is not one that a run wrote."""


class JournalLine(NamedTuple):
    """The claim of a line of the journal about an output: SHA-256 digests, and the size in bytes."""

    source: bytes
    work: bytes
    output: bytes
    size: int


@dataclass(frozen=True, slots=True)
class SourceState:
    """An input file at one moment.

    Attributes:
        sha256: digest of its bytes.
        mark: device, number, size and time of change, which differ if the file was changed or replaced meanwhile.
    """

    sha256: bytes
    mark: tuple[int, int, int, int]

    @classmethod
    def read(cls, path: Path) -> "SourceState":
        """Read the whole file.

        Raises:
            OSError: if it cannot be read, or is not a regular file.
        """
        with open_regular(path) as file:
            found = _mark(os.fstat(file.fileno()))
            return cls(hashlib.file_digest(file, "sha256").digest(), found)

    def still(self, path: Path) -> bool:
        """Return whether the file is as it was when it was read."""
        try:
            return _mark(path.stat()) == self.mark
        except OSError:
            return False


class Journal:
    """The journals of one folder of outputs.

    Args:
        folder: the folder. Outputs are named by their paths relative to it.
        work: digest of all that decides an output's bytes beside its input.
        share: name of the share of a job array that this process works on, such as ``3of16``; default: none.
        append: appends a line to the journal; default: to its file.
    """

    def __init__(
        self, folder: Path, work: bytes, *, share: str | None = None, append: Callable[[bytes], None] | None = None
    ) -> None:
        self.path = folder / JOURNAL_NAME.format(f".{share}" if share else "")
        self._append = append or partial(append_line, self.path)
        self._folder, self.work = folder, work
        self._lines: dict[str, bytes] = {}
        self._wanted: frozenset[str] = frozenset()
        self._read: dict[Path, int] = {self.path: 0}
        self._complained = False

    @property
    def loaded(self) -> bool:
        """Whether what it says is asked for."""
        return bool(self._wanted)

    def load(self, outputs: Collection[Path]) -> None:
        """Read what all journals of the folder say of these outputs. Memory is bounded by their number.

        Raises:
            InputError: if a journal is there that cannot be read.
        """
        self._wanted = frozenset(map(self._name, outputs))
        try:
            found = sorted(path for path in self._folder.iterdir() if JOURNALS.fullmatch(path.name))
        except FileNotFoundError:
            return
        except OSError as error:
            msg = f"{self._folder} cannot be read: {_said(error)}"
            raise InputError(msg) from error
        self._read = dict.fromkeys([*found, self.path], 0)
        self._update()

    def excerpt(self, outputs: Iterable[Path]) -> dict[str, bytes]:
        """Return what was read of these outputs, for the ``adopt`` of another process."""
        return {name: self._lines[name] for name in map(self._name, outputs) if name in self._lines}

    def adopt(self, outputs: Iterable[Path], excerpt: Mapping[str, bytes]) -> None:
        """Take over what another process has read of these outputs, instead of reading the journals."""
        self._wanted, self._lines, self._read = frozenset(map(self._name, outputs)), dict(excerpt), {}

    def look_up(self, output: Path, source: SourceState, settings: str) -> Finding:
        """Return what is known of an output that exists.

        Args:
            output: the file.
            source: its input, as it is now.
            settings: the settings of the output, as canonical text.
        """
        name = self._name(output)
        found = self._examine(name, output, source, settings)
        if found == "unknown" and name in self._wanted and os.path.lexists(output):
            self._update()  # another run on this folder may have written it since
            found = self._examine(name, output, source, settings)
        return found

    def seal(self, output: Path, source: SourceState, settings: str) -> Seal:
        """Return a function that appends the line of an output, given its complete temporary file.

        Whatever goes wrong with the journal, the output is not affected; the log says so once.
        """

        def note(part: Path) -> None:
            try:
                with part.open("rb") as file:
                    digest, size = hashlib.file_digest(file, "sha256"), os.fstat(file.fileno()).st_size
                line = {
                    "output": self._name(output),
                    "sha256": digest.hexdigest(),
                    "size": size,
                    "input_sha256": source.sha256.hex(),
                    "work_sha256": self._work_of(settings).hex(),
                }
                self._append(json.dumps(line).encode())
            except OSError as error:
                if not self._complained:
                    self._complained = True
                    said = "the journal %s cannot be written, so --resume will not know this output: %s"
                    log.warning(said, self.path, _said(error))

        return note

    def _examine(self, name: str, output: Path, source: SourceState, settings: str) -> Finding:
        packed = self._lines.get(name, b"")
        try:
            if not packed or not stat.S_ISREG((facts := output.stat()).st_mode):
                return "unknown"
            lines = [line for line in map(JournalLine._make, _PACKED.iter_unpack(packed)) if line.size == facts.st_size]
            if not lines:
                return "unknown"
            with open_regular(output) as file:
                digest = hashlib.file_digest(file, "sha256").digest()
        except OSError:
            return "unknown"
        made = [line for line in lines if line.output == digest]
        work = self._work_of(settings)
        if any(line.source == source.sha256 and line.work == work for line in made):
            return "finished"
        if made:
            changed = "the settings" if any(line.source == source.sha256 for line in made) else "the input"
            log.info("%s is made again, since %s changed", output, changed)
            return "outdated"
        return "unknown"

    def _work_of(self, settings: str) -> bytes:
        return hashlib.sha256(self.work + settings.encode()).digest()

    def _name(self, output: Path) -> str:
        return output.relative_to(self._folder).as_posix()

    def _update(self) -> None:
        """Read what the journals have gained.

        Raises:
            InputError: if a journal is there that cannot be read.
        """
        room = MOST_BYTES
        for path in self._read:
            try:
                room -= self._read_lines(path, room)
            except FileNotFoundError:
                continue
            except OSError as error:
                msg = f"the journal {path} cannot be read: {_said(error)}"
                hint = "remove it; outputs that exist are then replaced only with --overwrite"
                raise InputError(msg, hint) from error

    def _read_lines(self, path: Path, room: int) -> int:
        """Read what a journal has gained, at most ``room`` bytes from its end, and return how many they were."""
        if path.is_symlink():
            raise OSError(errno.EINVAL, "it is a link", os.fspath(path))
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            before = self._read.get(path, 0)
            start = max(before if before <= size else 0, size - room)
            file.seek(start)
            whole = True
            while file.tell() < size and (piece := file.readline(_LONGEST_LINE)):
                ended = piece.endswith(b"\n")
                if whole:
                    self._take(piece)
                whole = ended
            self._read[path] = max(size - _LONGEST_LINE, 0)  # its last line may have been incomplete
            return size - start

    def _take(self, line: bytes) -> None:
        """Keep a line, if it is one, and about an output that is wanted."""
        try:
            found = json.loads(line)
            name, size = found["output"], found["size"]
            digests = [found[key] for key in ("input_sha256", "work_sha256", "sha256")]
            if name not in self._wanted or type(size) is not int or not 0 <= size < 1 << 63:
                return
            if all(_HEX.fullmatch(digest) for digest in digests):
                packed = _PACKED.pack(*map(bytes.fromhex, digests), size)
                before, length = self._lines.get(name, b""), _PACKED.size
                kept = [before[at : at + length] for at in range(0, len(before), length)]
                self._lines[name] = b"".join([*(other for other in kept if other != packed), packed][-_MOST_LINES:])
        except (ValueError, KeyError, TypeError, RecursionError):
            return  # torn, or somebody else's


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a journal, which is created if there is none.

    Raises:
        OSError: if it cannot be written, or is not a regular file.
    """
    # A line begins with its end-of-line mark, so that one that is torn spoils no other. The file is opened each time:
    # it may be removed meanwhile, and on network file systems others see it when it is closed.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
        text = b"\n" + line
        if os.write(descriptor, text) != len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
    finally:
        os.close(descriptor)


def work_digest(network: bytes, choices: str, version: str) -> bytes:
    """Return the digest of all that decides the bytes of outputs, beside their inputs and settings.

    Args:
        network: the artefact's file.
        choices: how it is run, as canonical text.
        version: that of this package.
    """
    return hashlib.sha256(hashlib.sha256(network).digest() + f"{version}\0{choices}".encode()).digest()


def _mark(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _said(error: OSError) -> str:
    return error.strerror or str(error)
