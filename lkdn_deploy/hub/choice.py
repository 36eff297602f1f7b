"""The choice of a network and of the way in which it runs, and the upscalers that carry it out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.core.protocols import Session
from lkdn_deploy.hub.artifacts import Converting, Telling
from lkdn_deploy.hub.foreign import Hints
from lkdn_deploy.hub.loading import open_artifact
from lkdn_deploy.hub.serving import find_serving
from lkdn_deploy.imaging.resize import OutputSize
from lkdn_deploy.runtime.upscaler import Upscaler
from lkdn_deploy.runtime.upscalers import Upscalers


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkChoice:
    """The options of ``lkdn-upscale`` on the network and the size of results, which describe each field."""

    model: str | None = None
    weights: Path | None = None
    peak: float | None = None
    bgr: bool | None = None
    backend: str = "auto"
    precision: str | None = None
    tile: int | None = None
    threads: int | None = None
    size: OutputSize | None = None
    self_ensemble: bool = False
    wrap: bool = False

    def find(
        self, least: int | None, converting: Converting = lambda _: None, told: Telling = lambda _: None
    ) -> Artifact:
        """Return the artefact that serves a scale, as ``find_serving`` does.

        Args:
            least: the smallest scale that serves.
            converting, told: as ``find_serving`` takes them.

        Raises:
            LkdnError: as ``find_serving`` does.
        """
        hints = Hints(self.peak, self.bgr)
        return find_serving(
            self.model, least, self.weights, precision=self.precision, converting=converting, hints=hints, told=told
        )

    def open(self, artifact: Artifact) -> Session:
        """Open an artefact on the engine.

        Raises:
            LkdnError: as ``open_artifact`` does.
        """
        return open_artifact(artifact, backend=self.backend, precision=self.precision, threads=self.threads)


def upscalers_for(
    choice: NetworkChoice,
    find: Callable[[int | None], Artifact],
    open_session: Callable[[Artifact], Session] | None = None,
) -> Upscalers:
    """Return the upscalers of a network at the scales that pictures need.

    Args:
        choice: the choice.
        find: returns the artefact that serves a scale, such as ``choice.find``.
        open_session: opens an artefact; default: ``choice.open``.
    """
    size = choice.size

    def open_upscaler(artifact: Artifact) -> Upscaler:
        session = (open_session or choice.open)(artifact)
        if choice.self_ensemble:
            from lkdn_deploy.runtime.ensemble import EnsembleSession

            session = EnsembleSession(session)
        return Upscaler(
            session,
            tile=choice.tile,
            threads=choice.threads,
            size=None if size is None or size.scale == session.metadata.scale else size,
            wrap=choice.wrap,
        )

    return Upscalers(find, open_upscaler, size)
