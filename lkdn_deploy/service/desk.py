"""The desk where requests for pictures are admitted, queued, and answered."""

import asyncio
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.service.figures import ServiceMetrics
from lkdn_deploy.service.orders import Limits, Order, Reply
from lkdn_deploy.service.pool import LateError, LostError, WorkerPool
from lkdn_deploy.service.problems import Problem

MEDIA_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "tif": "image/tiff",
    "bmp": "image/bmp",
    "avif": "image/avif",
    "jxl": "image/jxl",
}
"""The media types of results, by their suffixes."""

ParseOrder = Callable[[Sequence[tuple[str, str]]], Order]
"""Turns the names and values of a query into an order; raises ``UsageError`` if they are none."""

_GONE = 499
"""Status in the metrics of requests whose client did not wait; as other servers count them."""
_PIECE = 1 << 16
_MOST_NOTES = 4096


class Desk:
    """Admits as many requests as workers and their queue take.

    Args:
        pool: the workers.
        limits: of each request.
        parse: reads the options of a request.
    """

    def __init__(self, pool: WorkerPool, limits: Limits, parse: ParseOrder) -> None:
        self.pool, self.limits, self.draining = pool, limits, False
        self.running = 0
        self.metrics = ServiceMetrics(lambda: self.running, lambda: pool.alive, lambda: pool.lost)
        self._parse = parse
        self._usual = 1.0  # seconds that a picture takes, as of late

    async def answer(self, request: Request) -> Response:
        """Return the result of a request, or the problem.

        The request counts as running until its answer is sent.
        """
        start = time.monotonic()
        try:
            response = await self._answer(request)
        except Problem as problem:
            response = problem.response()
        except ClientDisconnect:
            response = Response(status_code=_GONE)
        self.metrics.requests.labels(str(response.status_code)).inc()
        self.metrics.seconds.observe(time.monotonic() - start)
        return response

    async def _answer(self, request: Request) -> Response:
        if self.draining:
            msg = "this service is about to end"
            raise Problem(
                503, msg, "ask another one, or this one again later", {"Retry-After": "5", "Connection": "close"}
            )
        order = self._order(request)
        self._check_head(request)
        ticket = self._admit()
        with ticket as kept:
            content = await self._body(request)
            reply, result = await self._work(request, order, content)
            del content
            if reply.status != 200:
                raise Problem(reply.status, reply.detail, reply.hint)
            return _PictureResponse(reply, result, self.limits.seconds, kept())

    def _order(self, request: Request) -> Order:
        try:
            return self._parse(request.query_params.multi_items())
        except UsageError as error:
            raise Problem(422, error.message, error.hint) from error

    def _check_head(self, request: Request) -> None:
        """Refuse a body that is no picture, or too large, before it is read."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and not kind.startswith("image/") and kind != "application/octet-stream":
            msg = f"expected a picture as the body of the request, got {kind[:80]}"
            hint = (
                "send its bytes as image/png, image/jpeg and so on, or as application/octet-stream "
                "(curl: -H 'Content-Type: image/png')"
            )
            raise Problem(415, msg, hint)
        if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise Problem(415, "expected a picture without a further encoding", "leave Content-Encoding out")
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) > self.limits.upload:
            raise self._too_large()

    def _too_large(self) -> Problem:
        msg = f"the picture's file is larger than {self.limits.upload:,} bytes, the most that are taken"
        return Problem(413, msg, "send a smaller one")

    @contextmanager
    def _admit(self) -> Iterator["Callable[[], Callable[[], None]]"]:
        """Count a request as running; the function that is given moves the end of that from here to another place."""
        most = self.pool.count + self.limits.waiting
        if self.running >= most:
            msg = f"{self.running} requests are in progress, the most that are taken"
            raise self._busy(msg)
        self.running += 1
        moved = False

        def done() -> None:
            self.running -= 1

        def keep() -> Callable[[], None]:
            nonlocal moved
            moved = True
            return done

        try:
            yield keep
        finally:
            if not moved:
                done()

    def _busy(self, why: str) -> Problem:
        rounds = (self.running + self.pool.count) / self.pool.count
        seconds = min(max(math.ceil(self._usual * rounds / 2), 1), math.ceil(self.limits.seconds))
        return Problem(503, why, f"ask again in {seconds} s", {"Retry-After": str(seconds)})

    async def _body(self, request: Request) -> bytes:
        content = bytearray()
        try:
            async with asyncio.timeout(self.limits.seconds):
                async for piece in request.stream():
                    if len(content) + len(piece) > self.limits.upload:
                        raise self._too_large()
                    content += piece
        except TimeoutError as error:
            msg = f"the picture did not arrive within {self.limits.seconds:g} s"
            raise Problem(408, msg) from error
        if not content:
            raise Problem(415, "the request has no body", "send the bytes of a picture as its body")
        return bytes(content)

    async def _work(self, request: Request, order: Order, content: bytes) -> tuple[Reply, bytes]:
        """Let a worker carry out an order, unless the client goes away before it begins."""
        start = time.monotonic()
        work = asyncio.create_task(self.pool.upscale(order, content, start + self.limits.seconds))
        gone = asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientDisconnect
            reply, result = work.result()
        except TimeoutError as error:
            msg = f"no worker was free within {self.limits.seconds:g} s"
            raise self._busy(msg) from error
        except LateError as error:
            msg = f"the picture was not done within {self.limits.seconds:g} s"
            raise Problem(504, msg, "send a smaller one, or ask for a smaller scale") from error
        except LostError as error:
            msg = f"the process that worked on the picture was lost: {error.why}"
            raise Problem(
                500, msg, "other requests are not affected; send a smaller picture, or another one"
            ) from error
        finally:
            for task in (work, gone):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
        if reply.status == 200:
            self._usual += (time.monotonic() - start - self._usual) / 8
            self.metrics.network.observe(reply.facts["seconds"])
            self.metrics.pixels.inc(reply.facts["pixels"])
        return reply, result


async def _disconnected(request: Request) -> None:
    """Wait until the client goes away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _PictureResponse(Response):
    """A picture that is sent in pieces, so that a client that does not take it holds little of it for long."""

    def __init__(self, reply: Reply, content: bytes, seconds: float, done: Callable[[], None]) -> None:
        facts = reply.facts
        notes = json.dumps(facts["notes"])
        headers = {
            "Content-Length": str(len(content)),
            "X-Lkdn-Size": f"{facts['width']}x{facts['height']}",
            "X-Lkdn-Model": f"{facts['model']} x{facts['scale']}",
            "X-Lkdn-Backend": facts["backend"],
            "X-Lkdn-Exact": "true" if facts["exact"] else "false",
            "X-Lkdn-Notes": notes if len(notes) <= _MOST_NOTES else "[]",
            "Server-Timing": f"network;dur={facts['seconds'] * 1000:.1f}",
            "X-Content-Type-Options": "nosniff",
        }
        printed = {name: value.encode("latin-1", "replace").decode("latin-1") for name, value in headers.items()}
        super().__init__(None, 200, printed, MEDIA_TYPES[facts["format"]])
        self._content, self._seconds, self._done = content, seconds, done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                view = memoryview(self._content)
                for at in range(0, len(view), _PIECE):
                    piece = bytes(view[at : at + _PIECE])
                    more = at + _PIECE < len(view)
                    await send({"type": "http.response.body", "body": piece, "more_body": more})
        finally:
            self._content = b""
            self._done()
