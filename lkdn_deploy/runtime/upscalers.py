"""The upscalers of one network, at the scales that pictures need."""

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from lkdn_deploy import __version__
from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.core.errors import LkdnError
from lkdn_deploy.imaging.files.read import probe
from lkdn_deploy.imaging.resize import MAX_SCALE, OutputSize
from lkdn_deploy.runtime.journal import work_digest
from lkdn_deploy.runtime.upscaler import Upscaler


class Upscalers:
    """Opens the upscaler that serves a picture: of the smallest scale whose result is no smaller than wanted.

    A factor needs one scale for all pictures. A width, a height or a box may need another one for each. An upscaler is
    opened when a picture first needs it, in the calling thread, and stays open.

    Args:
        find: returns the network's artefact of the smallest scale that is at least a number; of the default one for
            ``None``. It is called once for each.
        open_upscaler: opens an artefact.
        size: of results; default: as the network's own scale gives them.
    """

    def __init__(
        self,
        find: Callable[[int | None], Artifact],
        open_upscaler: Callable[[Artifact], Upscaler],
        size: OutputSize | None = None,
    ) -> None:
        self._find, self._open = cache(find), open_upscaler
        self._size = size
        self._opened: dict[int, Upscaler] = {}

    def for_picture(self, path: Path) -> Upscaler:
        """Return the upscaler for an image file, whose header is read if its size matters.

        Raises:
            LkdnError: if it matters and cannot be read, or as ``for_size`` does.
        """
        if self._common:
            return self._serving(self._least)
        header = probe(path)
        return self.for_size(header.height, header.width)

    def for_size(self, height: int, width: int) -> Upscaler:
        """Return the upscaler for pictures of this size.

        Raises:
            UsageError: if the size of results cannot be had of such a picture, or the network has no scale for it.
            LkdnError: if the network cannot be found or opened.
        """
        if self._size is None:
            return self._serving(None)
        return self._serving(max(math.ceil(self._size.ratio(width, height)), 2))

    def artifacts(self) -> list[Artifact]:
        """Return the artefacts of all scales that may be needed, each once.

        Raises:
            LkdnError: if the network cannot be found at any of them.
        """
        if self._common:
            return [self._find(self._least)]
        found = {(first := self._find(2)).metadata.scale: first}
        for least in range(first.metadata.scale + 1, MAX_SCALE + 1):
            try:
                artifact = self._find(least)
            except LkdnError:  # pictures that need it will fail
                break
            found.setdefault(artifact.metadata.scale, artifact)
        return list(found.values())

    def work(self, backend: str, precision: str | None, tile: int | None) -> bytes:
        """Return the digest of all that decides the bytes of outputs, beside their inputs and settings.

        Args:
            backend: name of the engine that was asked for.
            precision: precision that was asked for.
            tile: side of the tiles that were asked for. It counts only for networks whose results it changes.

        Raises:
            LkdnError: as ``artifacts`` does.
        """
        artifacts = self.artifacts()
        exact = all(artifact.metadata.receptive_radius is not None for artifact in artifacts)
        choices = json.dumps(
            {"backend": backend, "precision": precision, "tile": None if exact else tile}, sort_keys=True
        )
        return work_digest(b"".join(artifact.data for artifact in artifacts), choices, __version__)

    def open_common(self) -> None:
        """Open the upscaler that serves all pictures, if there is one.

        Raises:
            LkdnError: if the network cannot be found or opened.
        """
        if self._common:
            self._serving(self._least)

    def close(self) -> None:
        """Close all upscalers that were opened."""
        while self._opened:
            self._opened.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _common(self) -> bool:
        """Whether one scale serves all pictures."""
        return self._size is None or self._size.scale is not None

    @property
    def _least(self) -> int | None:
        """The least scale that serves all pictures; ``None`` for the default one."""
        return None if self._size is None or self._size.scale is None else max(math.ceil(self._size.scale), 2)

    def _serving(self, least: int | None) -> Upscaler:
        artifact = self._find(least)
        scale = artifact.metadata.scale
        if scale not in self._opened:
            self._opened[scale] = self._open(artifact)
        return self._opened[scale]
