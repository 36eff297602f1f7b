"""Upscales many image files in Python: each is read while the one before it is in the network."""

import os
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.limits import available_memory
from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.files.read import probe, read_picture
from lkdn_deploy.imaging.files.write import check_target, write_picture
from lkdn_deploy.runtime.upscaler import Upscaler

StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, eq=False)
class MappedFile:
    """The outcome of one image file: either ``picture`` or ``error`` is there.

    Attributes:
        path: the file, as it was given.
        picture: the result: its ``pixels``, (H, W, C) of uint8 or uint16, and what the file recorded about them.
        error: why there is no result.
    """

    path: StrPath
    picture: Picture | None
    error: LkdnError | None = None

    def unwrap(self) -> Picture:
        """Return the result, or raise the error.

        Raises:
            LkdnError: ``error``, if there is one.
        """
        if self.picture is None:
            assert self.error is not None  # noqa: S101  there is one of the two
            raise self.error
        return self.picture

    def save(self, target: StrPath, *, quality: int | None = None, overwrite: bool = False) -> tuple[str, ...]:
        """Write the result with its metadata; the file appears whole or not at all, and its suffix chooses the format.

        Args:
            target: the file to write.
            quality: 1 to 100, for lossy formats.
            overwrite: whether an existing file may be replaced.

        Returns:
            Notes on what the file does not hold of the picture, a sentence each.

        Raises:
            LkdnError: ``error``, if there is one; or if the file cannot be written, exists, or cannot hold the picture.
        """
        picture = self.unwrap()
        check_target(target, quality=quality, overwrite=overwrite)
        return write_picture(target, picture, quality=quality)


def map_files(upscaler: Upscaler, paths: Iterable[StrPath]) -> Generator[MappedFile, None, None]:
    """Yield what becomes of each file, in order, as soon as it is there.

    The network runs in the caller's thread, when the next outcome is asked for. At most two pictures and a result are
    in memory, beside those that the caller keeps.

    Args:
        upscaler: the network.
        paths: the files; they are taken one by one, one ahead.
    """
    with ThreadPoolExecutor(1, "lkdn-map") as reader:
        ahead: tuple[StrPath, Future[Picture]] | None = None
        try:
            for path in paths:
                following = path, reader.submit(_read, upscaler, path)
                if ahead is not None:
                    yield _outcome(upscaler, *ahead)
                ahead = following
                del following
            if ahead is not None:
                yield _outcome(upscaler, *ahead)
        finally:
            reader.shutdown(wait=False, cancel_futures=True)  # ``with`` waits for the rest


def _read(upscaler: Upscaler, path: StrPath) -> Picture:
    """Read a picture, if it and its result fit into memory."""
    header = probe(path)
    upscaler.check_size(header.height, header.width)
    need = header.width * header.height * (1 + upscaler.scale**2) * header.channels * header.depth // 8
    if need > (free := available_memory()):
        msg = f"{path}: x{upscaler.scale} of {header.width}x{header.height} needs {need >> 20} MiB, "
        msg += f"{free >> 20} MiB are free"
        raise InputError(msg, "upscale it with lkdn-upscale, which holds large results in parts")
    return read_picture(path)


def _outcome(upscaler: Upscaler, path: StrPath, read: "Future[Picture]") -> MappedFile:
    try:
        picture = read.result()
        return MappedFile(path, picture.with_pixels(upscaler.upscale(picture.pixels).pixels))
    except LkdnError as error:
        named = error if os.fspath(path) in error.message else type(error)(f"{Path(path)}: {error.message}", error.hint)
        _forget_frames(named)
        return MappedFile(path, None, named)
    except MemoryError:
        return MappedFile(path, None, InputError(f"{path} does not fit into memory", "upscale it with lkdn-upscale"))


def _forget_frames(error: BaseException | None) -> None:
    """Free the frames of an error that is kept, and with them the pictures that they hold."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
