"""The one logger of a runtime, which keeps the first that it is given and ignores others while its objects live."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Listener = Callable[[str, str], None]
"""Called with a severity, such as ``error`` or ``internal_error``, and a message. It must not raise: the runtime would
end the process."""

_LOGGERS: dict[Any, Any] = {}


@contextmanager
def attached_logger(module: Any, listener: Listener) -> Iterator[Any]:
    """Yield a logger for objects of ``module``, whose messages go to ``listener`` within the block.

    It does not separate threads: of two concurrent builds, each receives the messages of both.
    """
    if module not in _LOGGERS:
        _LOGGERS[module] = _create(module)
    logger = _LOGGERS[module]
    logger.listeners.append(listener)
    try:
        yield logger
    finally:
        logger.listeners.remove(listener)


def _create(module: Any) -> Any:
    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.listeners: list[Listener] = []

        def log(self, severity: Any, text: str) -> None:
            for listener in tuple(self.listeners):
                listener(severity.name.lower(), text)

    return Logger()
