"""Export a PyTorch network as one small, portable ONNX graph."""

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING

from lkdn_deploy.core.optional import needs

if TYPE_CHECKING:
    import onnx
    from torch import nn

OPSETS = (18, 19, 20, 21, 22, 23)
"""Opsets that can be written; 18 is the oldest that PyTorch's exporter writes."""
DEFAULT_OPSET = 20
"""The oldest in which GELU is one operator."""

INPUT, OUTPUT = "lr", "sr"


def to_onnx(
    network: "nn.Module",
    scale: int,
    *,
    smallest: int = 1,
    opset: int = DEFAULT_OPSET,
    static: tuple[int, int] | None = None,
) -> "onnx.ModelProto":
    """Export a network as a graph from ``lr`` (N, 3, H, W) to ``sr`` (N, 3, scale * H, scale * W), weights inside.

    The graph passes ``onnx.checker`` in full. It carries no metadata yet.

    Args:
        network: of RGB in 0..1.
        scale: how many times it enlarges.
        smallest: the least height and width that it takes.
        opset: one of ``OPSETS``.
        static: height and width to fix, with N = 1; ``None`` leaves all three free.

    Raises:
        MissingError: without the packages of the ``train`` extra.
    """
    with needs("train"):
        import onnx
        import onnxscript  # noqa: F401  (torch's exporter imports it late and names no extra)
        import torch
    height, width = static or (37, 41)  # primes, so that a size that is baked in by mistake shows
    example = torch.zeros(1 if static else 2, 3, height, width)
    # Given the least size, the exporter needs no second trace; it treats 0 and 1 specially anyway.
    least = {"min": smallest} if smallest > 2 else {}
    free = {
        0: torch.export.Dim("batch"),
        2: torch.export.Dim("height", **least),
        3: torch.export.Dim("width", **least),
    }
    with (
        contextlib.ExitStack() as quiet
    ):  # the exporter warns about its own internals, and prints and logs its progress
        logger = logging.getLogger("torch.onnx")
        quiet.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
        quiet.enter_context(warnings.catch_warnings(action="ignore"))
        quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
        quiet.enter_context(contextlib.redirect_stderr(io.StringIO()))
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
    if static is None:
        dims = model.graph.output[0].type.tensor_type.shape.dim
        for axis, name in ((0, "batch"), (2, f"{scale}*height"), (3, f"{scale}*width")):
            dims[axis].dim_param = name
    onnx.checker.check_model(model, full_check=True)
    return model


def _strip(model: "onnx.ModelProto") -> None:
    """Remove the exporter's notes, which contain the paths of source files on the machine that exported."""
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
