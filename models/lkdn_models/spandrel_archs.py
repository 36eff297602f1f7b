"""LKDN, BSRN and VapSR for spandrel, with which ComfyUI, chaiNNer and many scripts load models.

After ``install()``, spandrel's ``ModelLoader`` loads their checkpoints as it loads those of its own architectures. In
ComfyUI, a file in the folder ``custom_nodes`` with these lines adds them to its node "Load Upscale Model"::

    from lkdn_models.spandrel_archs import install

    install()
    NODE_CLASS_MAPPINGS = {}
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lkdn_deploy.core.errors import LkdnError
from lkdn_deploy.core.optional import needs
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.recognise import recognise
from lkdn_models.reparameterised import fuse_network
from lkdn_models.zoo import Variant, ZooEntry, name_of

with needs("spandrel"):
    from spandrel import (
        MAIN_REGISTRY,
        Architecture,
        ArchRegistry,
        ArchSupport,
        ImageModelDescriptor,
        ModelTiling,
        SizeRequirements,
    )

TELLING = {"LKDN": "fea_conv.pw.weight", "BSRN": "fea_conv.pw.weight", "VapSR": "body.0.proj_1.weight"}
"""A weight that tells an architecture from most others, without a look at the rest."""


class ZooArchitecture(Architecture):  # type: ignore[misc]
    """A family of networks of the zoo: every width and depth of LKDN, and the published ones of the others.

    Args:
        family: LKDN, BSRN or VapSR.
    """

    def __init__(self, family: str) -> None:
        super().__init__(id=family, detect=lambda state: _network(family, state) is not None)

    def load(self, state: dict[str, Any]) -> ImageModelDescriptor:
        """Return the network in plain form, for RGB in 0..1, (1, 3, H, W) -> (1, 3, scale * H, scale * W)."""
        found = recognise(state)
        trained = LKDN(found) if isinstance(found, LkdnSpec) else found.build()
        trained.load_state_dict(state)
        network, _ = fuse_network(trained)
        return ImageModelDescriptor(
            network,
            network.state_dict(),
            architecture=self,
            purpose="SR",
            tags=[name_of(found) if isinstance(found, LkdnSpec) else found.name],
            # Values in LKDN and BSRN exceed the range of FP16 and become NaN, in BSRN on drawings and noise. There
            # bfloat16 costs it most of its precision too.
            supports_half=self.id == "VapSR",
            supports_bfloat16=self.id != "BSRN",
            scale=network.scale,
            input_channels=3,
            output_channels=3,
            size_requirements=SizeRequirements(minimum=network.smallest),
            tiling=ModelTiling.SUPPORTED if network.receptive_radius else ModelTiling.DISCOURAGED,
        )


def install(registry: ArchRegistry = MAIN_REGISTRY) -> list[ArchSupport]:
    """Add the architectures to a registry, and return those that it did not have."""
    supports = [ArchSupport.from_architecture(ZooArchitecture(family)) for family in TELLING]
    return registry.add(*supports, ignore_duplicates=True)  # type: ignore[no-any-return]


def _network(family: str, state: Mapping[str, Any]) -> LkdnSpec | ZooEntry | Variant | None:
    """Return the network of a state dict, if it is one of the family."""
    if TELLING[family] not in state or not all(isinstance(value, Tensor) for value in state.values()):
        return None
    try:
        found = recognise(state)
    except LkdnError:
        return None
    module = "lkdn" if isinstance(found, LkdnSpec) else found.network.make.partition(":")[0]
    return found if module == family.lower() else None
