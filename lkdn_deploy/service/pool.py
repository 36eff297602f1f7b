"""Worker processes, each of which is replaced when it ends or takes too long."""

import asyncio
import logging
import multiprocessing
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Timer

from lkdn_deploy.core.errors import InputError, LkdnError, MissingError, UsageError
from lkdn_deploy.hub.choice import NetworkChoice
from lkdn_deploy.service.orders import MOST_REPLY, Limits, Order, Reply
from lkdn_deploy.service.worker import serve

log = logging.getLogger(__name__)

_START_SECONDS = 120.0
"""Most seconds that a process may take to open its networks."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a process that cannot be started is started again; doubled each time."""

Result = tuple[Reply, bytes]


class LostError(Exception):
    """A worker process ended while it worked. Internal."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class LateError(Exception):
    """A worker process took too long, and was ended. Internal."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The settings of each worker process, as ``serve`` takes them."""

    choices: tuple[NetworkChoice, ...]
    limits: Limits
    max_memory: int | None = None


class Worker:
    """A worker process, seen from the service. Its methods block, and are called by one thread at a time."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._process: multiprocessing.process.BaseProcess | None = None

    def start(self) -> None:
        """Start the process, and wait until its networks are open.

        Raises:
            LkdnError: of the process, if it cannot open them.
        """
        self.stop()
        # A fork would have the threads' locks and the memory of this process.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        settings = self._settings
        args = theirs, settings.choices, settings.limits, settings.max_memory
        self._process = context.Process(target=serve, args=args, name="lkdn-serve-worker", daemon=True)
        self._process.start()
        theirs.close()
        try:
            reply, _ = self._answer(_START_SECONDS, None)
        except (LostError, LateError) as error:
            why = error.why if isinstance(error, LostError) else f"it was not ready within {_START_SECONDS:.0f} s"
            msg = f"a worker process could not be started: {why}"
            raise InputError(msg, "allow more memory, or fewer workers") from error
        if reply.status != 200:
            self.stop()
            kind = {415: MissingError, 422: UsageError}.get(reply.status, InputError)
            raise kind(reply.detail, reply.hint)

    def upscale(self, order: Order, content: bytes, seconds: float) -> Result:
        """Carry out an order.

        Args:
            order: the order.
            content: the picture's file.
            seconds: most seconds that it may take.

        Raises:
            LostError: if the process ended, or said something that is no reply.
            LateError: if it took longer, and was ended.
        """
        return self._answer(seconds, (order, content))

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._pipe.close()
            self._process.join(1.0)
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None

    def _answer(self, seconds: float, asked: tuple[Order, bytes] | None) -> Result:
        process = self._process
        if process is None:
            msg = "it was not started"
            raise LostError(msg)
        late = False

        def end() -> None:
            nonlocal late
            late = True
            process.kill()  # which breaks the pipe, whatever it is used for at that moment

        timer = Timer(max(seconds, 0.0), end)
        timer.daemon = True
        timer.start()
        try:
            if asked is not None:
                self._pipe.send(asked[0])
                self._pipe.send_bytes(asked[1])
            reply = Reply.parse(self._pipe.recv_bytes(MOST_REPLY))
            has_result = asked is not None and reply.status == 200
            return reply, self._pipe.recv_bytes(self._settings.limits.result_bytes) if has_result else b""
        except (EOFError, OSError, ValueError, RecursionError) as error:
            timer.cancel()
            process.kill()
            process.join()
            if late:
                raise LateError from error
            raise LostError(_ended(process.exitcode)) from error
        finally:
            timer.cancel()


def _ended(code: int | None) -> str:
    """Return how a process ended, for a message."""
    if code == -signal.SIGKILL:
        return "it was killed, probably since memory ran out"
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"it ended with {signal.Signals(-code).name}"
    return f"it ended with status {code}"


class WorkerPool:
    """Workers, and the queue before them.

    Args:
        settings: of each worker.
        count: number of workers.
    """

    def __init__(self, settings: WorkerSettings, count: int) -> None:
        self._workers = [Worker(settings) for _ in range(count)]
        self._threads = ThreadPoolExecutor(count, "lkdn-serve")
        self._free: asyncio.Queue[Worker] = asyncio.Queue()
        self._tasks: set[asyncio.Task[Result | None]] = set()
        self._ending = False
        self.count, self.alive, self.lost = count, 0, 0

    async def start(self) -> None:
        """Start all workers.

        Raises:
            LkdnError: if one cannot be started.
        """
        loop = asyncio.get_running_loop()
        started = [loop.run_in_executor(self._threads, worker.start) for worker in self._workers]
        outcomes = await asyncio.gather(*started, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                await self.stop()
                raise outcome
        for worker in self._workers:
            self._free.put_nowait(worker)
        self.alive = self.count

    async def stop(self) -> None:
        """End all workers; what they work on is lost."""
        self._ending = True
        for task in self._tasks:
            task.cancel()
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(None, worker.stop) for worker in self._workers))
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def upscale(self, order: Order, content: bytes, deadline: float) -> Result:
        """Wait for a worker, and let it carry out an order.

        If the caller is cancelled while it waits, nothing is done; later, the work is finished, and its result dropped.

        Args:
            order: the order.
            content: the picture's file.
            deadline: time of ``time.monotonic`` by which the work has to be done.

        Raises:
            TimeoutError: if no worker was free in time.
            LostError, LateError: as ``Worker.upscale`` does.
        """
        async with asyncio.timeout(max(deadline - time.monotonic(), 0.0)):
            worker = await self._free.get()
        task = asyncio.create_task(self._work(worker, order, content, deadline))
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def _work(self, worker: Worker, order: Order, content: bytes, deadline: float) -> Result:
        loop = asyncio.get_running_loop()
        try:
            seconds = deadline - time.monotonic()
            found = await loop.run_in_executor(self._threads, worker.upscale, order, content, seconds)
        except (LostError, LateError) as error:
            self.lost += 1
            self.alive -= 1
            log.warning("a worker is replaced: %s", getattr(error, "why", None) or "it took too long")
            restart = asyncio.create_task(self._restart(worker))
            self._tasks.add(restart)
            restart.add_done_callback(self._forget)
            raise
        self._free.put_nowait(worker)
        return found

    async def _restart(self, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while not self._ending:
            try:
                await loop.run_in_executor(self._threads, worker.start)
            except (LkdnError, OSError) as error:
                log.error("%s; trying again in %.1f s", error, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self.alive += 1
                self._free.put_nowait(worker)
                return

    def _forget(self, task: "asyncio.Task[Result | None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # was reported to who waited for it, if anybody did
