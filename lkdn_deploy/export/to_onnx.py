"""A PyTorch network as one small, portable ONNX graph."""

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING

from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.optional import needs

if TYPE_CHECKING:
    import onnx
    from torch import nn

# From 20 on GELU is one operator; before, the exporter spells it out. 18 is the oldest that the exporter writes.
OPSETS = (18, 19, 20, 21, 22, 23)
DEFAULT_OPSET = 20

INPUT, OUTPUT = "lr", "sr"


def to_onnx(
    network: "nn.Module",
    metadata: ArtifactMetadata,
    *,
    opset: int = DEFAULT_OPSET,
    static: tuple[int, int] | None = None,
) -> "onnx.ModelProto":
    """Export ``network``: input ``lr`` (N, 3, H, W), output ``sr`` (N, 3, scale * H, scale * W), weights inside.

    N, H and W are free, or 1 and ``static``. ``opset`` is one of ``OPSETS``. The model carries ``metadata`` and passes
    ``onnx.checker`` in full.

    Raises:
        MissingError: without the packages of the ``train`` extra.
    """
    with needs("train"):
        import onnx
        import onnxscript  # noqa: F401  (torch's exporter imports it late and names no extra)
        import torch
    height, width = static or (37, 41)  # no multiples of anything: a size that is baked in by mistake shows
    example = torch.zeros(1 if static else 2, 3, height, width)
    # Told the least size, the exporter needs no second trace; 0 and 1 it takes for special anyway.
    least = {"min": metadata.smallest} if metadata.smallest > 2 else {}
    free = {
        0: torch.export.Dim("batch"),
        2: torch.export.Dim("height", **least),
        3: torch.export.Dim("width", **least),
    }
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=None if static else (free,),
            external_data=False,
            verbose=False,
        )
    model = program.model_proto  # type: ignore[union-attr]
    _strip(model)
    _name_sizes(model, metadata.scale, static)
    onnx.helper.set_model_props(model, metadata.to_props())
    onnx.checker.check_model(model, full_check=True)
    return model


def _strip(model: "onnx.ModelProto") -> None:
    """Drop the exporter's notes: among them are the paths of source files on the machine that exported."""
    del model.metadata_props[:]
    model.doc_string = ""
    graph = model.graph
    graph.doc_string = ""
    graph.name = "lkdn"
    del graph.metadata_props[:]
    del graph.value_info[:]
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
    model.producer_name = "lkdn-deploy"
    model.producer_version = ""


def _name_sizes(model: "onnx.ModelProto", scale: int, static: tuple[int, int] | None) -> None:
    """Give the output's free dimensions plain names."""
    if static is None:
        dims = model.graph.output[0].type.tensor_type.shape.dim
        for dim, name in zip(dims, ("batch", None, f"{scale}*height", f"{scale}*width"), strict=True):
            if name:
                dim.dim_param = name


@contextlib.contextmanager
def _quiet():  # type: ignore[no-untyped-def]
    """The exporter prints its progress and logs what torchvision could have done."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
