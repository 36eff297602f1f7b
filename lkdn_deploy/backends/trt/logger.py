"""One logger a runtime, which takes the first that it is given and ignores others while anything of it lives."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Hear = Callable[[str, str], None]
"""Called with the severity, such as ``error`` or ``internal_error``, and the text. It must not raise: the runtime would
end the process."""

_LOGGERS: dict[Any, Any] = {}


@contextmanager
def attached_logger(module: Any, hear: Hear) -> Iterator[Any]:
    """A logger to give to the objects of ``module``; what they say within the block is handed to ``hear``.

    It has no thread of its own: of two that build at once, each hears both.
    """
    logger = _LOGGERS.get(module) or _made(module)
    logger.listeners.append(hear)
    try:
        yield logger
    finally:
        logger.listeners.remove(hear)


def _made(module: Any) -> Any:
    """The class can be made only where its base is."""

    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.listeners: list[Hear] = []

        def log(self, severity: Any, text: str) -> None:
            for hear in tuple(self.listeners):
                hear(severity.name.lower(), text)

    _LOGGERS[module] = Logger()
    return _LOGGERS[module]
