"""The library for what Pillow does not do, or not as fast; loaded when the first such file comes."""

from types import ModuleType

from lkdn_deploy.core.errors import MissingError


def imagecodecs() -> ModuleType:
    """The imagecodecs package.

    Raises:
        MissingError: if it is not installed.
    """
    try:
        import imagecodecs
    except ImportError as error:
        msg = "this file needs the package imagecodecs, which is not installed"
        raise MissingError(msg, "pip install imagecodecs") from error
    return imagecodecs
