"""Packages that only some commands need."""

from collections.abc import Iterator
from contextlib import contextmanager

from lkdn_deploy.core.errors import MissingError


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Wrap the import of a package from ``extra``, so that its absence is told with the cure.

    Raises:
        MissingError: in place of ImportError, with its text.
    """
    try:
        yield
    except ImportError as error:
        msg = f"a package that this needs cannot be imported: {error}"
        raise MissingError(msg, f"install it with: pip install 'lkdn-deploy[{extra}]'") from error
