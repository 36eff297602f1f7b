"""The errors a user may see, and the exit code that belongs to each."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit status means, the same for every command."""

    DONE = 0
    INPUT_FAILED = 1
    USAGE = 2
    MISSING = 3
    VERIFICATION_FAILED = 4
    INTERRUPTED = 130


class LkdnError(Exception):
    """Something a user can act on.

    ``message`` says what was expected and what came; ``hint`` says what to do next. Commands print both on
    stderr and end with ``exit_code``.
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
    """Pixels were to be made of values that are no finite numbers. Not for users: it names no network and no file."""

    def __init__(self) -> None:
        super().__init__("values that are no numbers")


class UsageError(LkdnError):
    """The request itself cannot be carried out: a wrong option, an output that exists, an unknown name."""

    exit_code = ExitCode.USAGE


class MissingError(LkdnError):
    """Something that is needed is not there: a package, a device, weights."""

    exit_code = ExitCode.MISSING


class DeviceError(LkdnError):
    """The GPU, its driver or a runtime on it failed."""


class OutOfDeviceMemory(DeviceError):  # noqa: N818 - it names what happened, as the driver does
    """The GPU has not enough free memory; a smaller window may succeed."""


class VerificationError(LkdnError):
    """A result was computed and found to differ from what it must equal."""

    exit_code = ExitCode.VERIFICATION_FAILED
