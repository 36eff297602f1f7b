"""Deployment toolkit for LKDN, the Large Kernel Distillation Network (Xie et al., CVPR-W 2023).

``lkdn_deploy.load`` opens a network for upscaling. Nothing heavy is imported before it is called.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lkdn_deploy.hub.loading import load
    from lkdn_deploy.runtime.upscaler import Upscaler

__version__ = "0.2.0"
__all__ = ["Upscaler", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import ``load`` and ``Upscaler`` on first use, so that ``import lkdn_deploy`` stays light."""
    if name == "load":
        from lkdn_deploy.hub.loading import load

        return load
    if name == "Upscaler":
        from lkdn_deploy.runtime.upscaler import Upscaler

        return Upscaler
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    """List the public names too that have not been imported yet."""
    return sorted({*globals(), *__all__})
