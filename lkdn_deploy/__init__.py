"""Deployment toolkit for LKDN, the Large Kernel Distillation Network (Xie et al., CVPR-W 2023).

``from lkdn_deploy import load`` gives the upscaler; nothing heavy is imported before it is called.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lkdn_deploy.runtime.upscaler import Upscaler, load

__version__ = "0.1.0"
__all__ = ["Upscaler", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import ``load`` and ``Upscaler`` on first use, so that ``import lkdn_deploy`` stays light."""
    if name in ("Upscaler", "load"):
        from lkdn_deploy.runtime import upscaler

        return getattr(upscaler, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
