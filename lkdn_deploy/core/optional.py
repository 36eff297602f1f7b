"""Packages that only some commands need."""

from collections.abc import Iterator
from contextlib import contextmanager

from lkdn_deploy.core.errors import MissingError


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn the ImportError of a package from ``extra`` into an error that names the extra to install.

    Raises:
        MissingError: in place of ImportError.
    """
    try:
        yield
    except ImportError as error:
        msg = f"a package needed for this cannot be imported: {error}"
        raise MissingError(msg, f"install it with: pip install 'lkdn-deploy[{extra}]'") from error
