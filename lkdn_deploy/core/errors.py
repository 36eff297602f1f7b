"""The errors a user may see, and the exit code that belongs to each."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit statuses of all commands."""

    DONE = 0
    INPUT_FAILED = 1
    USAGE = 2
    MISSING = 3
    VERIFICATION_FAILED = 4
    INTERRUPTED = 130


class LkdnError(Exception):
    """An error that a user can act on; commands print it on stderr and end with its exit code.

    Attributes:
        message: what was expected and what came.
        hint: what to do next.
    """

    exit_code = ExitCode.INPUT_FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InputError(LkdnError):
    """An input cannot be read, or its result cannot be written."""


class NonFiniteError(ValueError):
    """Values that are not finite cannot become pixels. Internal: it names no network and no file."""

    def __init__(self) -> None:
        super().__init__("values that are not finite")


class UsageError(LkdnError):
    """The request cannot be carried out: a wrong option, an output that exists, an unknown name."""

    exit_code = ExitCode.USAGE


class MissingError(LkdnError):
    """A package, a device or weights that are needed are missing."""

    exit_code = ExitCode.MISSING


class DeviceError(LkdnError):
    """The GPU, its driver or a runtime on it failed."""


class OutOfDeviceMemory(DeviceError):  # noqa: N818 - it names what happened, as the driver does
    """The GPU has not enough free memory; a smaller window may succeed."""


class VerificationError(LkdnError):
    """A computed result differs from its reference."""

    exit_code = ExitCode.VERIFICATION_FAILED
