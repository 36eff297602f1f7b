"""A model repository for Triton Inference Server: the model and a configuration that says what its graph says."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lkdn_deploy.backends.trt.record import SideCar
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import publish
from lkdn_deploy.core.optional import needs

if TYPE_CHECKING:
    import onnx

VERSION = "1"
"""Of the model in its repository: the number of its folder."""

FREE = -1

_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "uint8": "TYPE_UINT8"}


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    dtype: str
    dims: tuple[int, ...]
    """With the batch; ``FREE`` where the size is."""


@dataclass(frozen=True, slots=True)
class _Model:
    """What the configuration is made of."""

    name: str
    backend: str
    file: str
    input: _Tensor
    output: _Tensor
    parameters: dict[str, str]


def write_onnx(artefact: Path, repository: Path) -> list[Path]:
    """Put an ``.onnx`` artefact into a repository, for Triton's ONNX Runtime backend.

    The model is called as the file is. One of that name is replaced.

    Returns:
        The files written: ``NAME/1/model.onnx`` and ``NAME/config.pbtxt``.

    Raises:
        InputError: if the artefact cannot be read, or the repository not be written.
        MissingError: without onnx.
    """
    with needs("train"):
        import onnx
    try:
        graph_of = onnx.load_model_from_string(artefact.read_bytes())
    except OSError as error:
        msg = f"{artefact} cannot be read: {error.strerror}"
        raise InputError(msg) from error
    except Exception as error:  # protobuf's errors have no common base with others
        msg = f"{artefact} is no ONNX file"
        raise InputError(msg, "give one that lkdn-export wrote") from error
    metadata = ArtifactMetadata.from_props({item.key: item.value for item in graph_of.metadata_props})
    graph = graph_of.graph
    model = _Model(
        artefact.stem,
        "onnxruntime",
        "model.onnx",
        _tensor(graph.input[0]),
        _tensor(graph.output[0]),
        _parameters(metadata),
    )
    return _write(model, artefact, repository)


def write_engine(engine: Path, sidecar: SideCar, repository: Path) -> list[Path]:
    """Put a TensorRT engine into a repository, for Triton's TensorRT backend.

    A plan runs on the version of TensorRT and on the kind of GPU that it was built with, and on no other: both are
    written into the configuration's parameters.

    Raises:
        UsageError: of an engine of TensorRT for RTX, which Triton has no backend for.
        InputError: if a file cannot be read or written.
    """
    if sidecar.runtime != "tensorrt":
        msg = f"{engine} is of {sidecar.runtime}, and Triton runs engines of tensorrt only"
        raise UsageError(
            msg, "put the .onnx file into the repository: leave out --trt, or build with --runtime tensorrt"
        )
    size = sidecar.profile.fixed_size or (FREE, FREE)
    scale, batch = sidecar.metadata.scale, sidecar.profile.batch
    large = tuple(side if side == FREE else side * scale for side in size)
    model = _Model(
        engine.stem,
        "tensorrt",
        "model.plan",
        _Tensor(sidecar.input.name, sidecar.input.dtype, (batch, 3, *size)),
        _Tensor(sidecar.output.name, sidecar.output.dtype, (batch, 3, *large)),
        _parameters(sidecar.metadata)
        | {"tensorrt_version": sidecar.runtime_version, "gpu": sidecar.gpu, "compute_capability": sidecar.targets[0]},
    )
    return _write(model, engine, repository)


def config(model: _Model) -> str:
    """The text of ``config.pbtxt``.

    There is no batching by the server (``max_batch_size`` 0): pictures differ in size, and the dimensions here are the
    graph's own, with the batch in front.
    """
    lines = [
        f"name: {json.dumps(model.name)}",
        f"backend: {json.dumps(model.backend)}",
        f"default_model_filename: {json.dumps(model.file)}",
        "max_batch_size: 0",
        *_tensor_lines("input", model.input),
        *_tensor_lines("output", model.output),
    ]
    for key, value in model.parameters.items():
        lines += ["parameters {", f"  key: {json.dumps(key)}", f"  value {{ string_value: {json.dumps(value)} }}", "}"]
    return "\n".join(lines) + "\n"


def _tensor_lines(kind: str, tensor: _Tensor) -> list[str]:
    return [
        f"{kind} [",
        "  {",
        f"    name: {json.dumps(tensor.name)}",
        f"    data_type: {_TYPES[tensor.dtype]}",
        f"    dims: [{', '.join(map(str, tensor.dims))}]",
        "  }",
        "]",
    ]


def _parameters(metadata: ArtifactMetadata) -> dict[str, str]:
    """What a client must know of the pictures."""
    return {
        "scale": str(metadata.scale),
        "colour": metadata.colour,
        "value_range": metadata.value_range,
        "precision": metadata.precision,
        "weights_sha256": metadata.weights_sha256,
    }


def _tensor(value: "onnx.ValueInfoProto") -> _Tensor:
    from onnx import helper

    kind = value.type.tensor_type
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else FREE for dim in kind.shape.dim)
    dtype = str(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    if dtype not in _TYPES:
        msg = f"{value.name} is of {dtype}: expected one of {', '.join(_TYPES)}"
        raise InputError(msg, "give a file that lkdn-export wrote")
    return _Tensor(value.name, dtype, dims)


def _write(model: _Model, source: Path, repository: Path) -> list[Path]:
    folder = repository / model.name
    target, configuration = folder / VERSION / model.file, folder / "config.pbtxt"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with publish(target) as part:
            shutil.copyfile(source, part)
    except OSError as error:
        msg = f"{target} cannot be written: {error.strerror}"
        raise InputError(msg, "give another folder with --triton") from error
    with publish(configuration) as part:  # last: without it the server does not load what is not whole
        part.write_text(config(model), encoding="utf-8")
    return [target, configuration]
