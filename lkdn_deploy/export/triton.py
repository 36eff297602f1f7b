"""A model repository for Triton Inference Server: a model, and the configuration that its graph implies."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.backends.trt.record import EngineRecord
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import publish
from lkdn_deploy.core.optional import needs

if TYPE_CHECKING:
    import onnx

VERSION = "1"
"""Version of the model in its repository: the name of its folder."""

FREE = -1
"""A dimension that takes any size."""

_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "uint8": "TYPE_UINT8"}

# The server does no batching (max_batch_size 0): pictures differ in size, and the dimensions here are the graph's own,
# with the batch in front.
_CONFIGURATION = """\
name: {name}
backend: {backend}
default_model_filename: {file}
max_batch_size: 0
input [
  {input}
]
output [
  {output}
]
{parameters}"""

_MODEL = """\
from lkdn_deploy.hub.triton_model import TritonPythonModel as TritonPythonModel
"""
"""Code of the Python backend's model. The class is in this package, which the server's Python must have."""

# One instance, which takes the GPU by itself where its engine has one.
_ONE_INSTANCE = "instance_group [ { kind: KIND_CPU, count: 1 } ]\n"


def write_onnx(artefact: Path, repository: Path) -> list[Path]:
    """Put an ``.onnx`` artefact into a repository, for Triton's ONNX Runtime backend.

    The model gets the file's name, and replaces one of that name.

    Returns:
        The files written: ``NAME/1/model.onnx`` and ``NAME/config.pbtxt``.

    Raises:
        InputError: if the artefact cannot be read, or the repository cannot be written.
        MissingError: if the package onnx is missing.
    """
    with needs("train"):
        import onnx
    try:
        model = onnx.load_model_from_string(artefact.read_bytes())
    except OSError as error:
        msg = f"{artefact} cannot be read: {error.strerror}"
        raise InputError(msg) from error
    except Exception as error:  # protobuf's errors have no common base with others
        msg = f"{artefact} is not an ONNX file"
        raise InputError(msg, "give one that lkdn-export wrote") from error
    metadata = ArtifactMetadata.from_props({item.key: item.value for item in model.metadata_props})
    tensors = _tensor_of(model.graph.input[0]), _tensor_of(model.graph.output[0])
    return _write(artefact, repository, "onnxruntime", "model.onnx", *tensors, _parameters(metadata))


def write_python(artefact: Path, repository: Path) -> list[Path]:
    """Put an ``.onnx`` artefact into a repository, for Triton's Python backend, which serves it through this package.

    A request has a picture ``image``, (H, W, C) uint8, and its answer ``upscaled``, (scale * H, scale * W, C).

    Returns:
        The files written: ``NAME/1/model.onnx``, ``NAME/1/model.py`` and ``NAME/config.pbtxt``.

    Raises:
        InputError: if the artefact cannot be read, or the repository cannot be written.
    """
    metadata = read_artifact(artefact).metadata
    given, made = (_tensor(name, "uint8", (FREE, FREE, FREE)) for name in ("image", "upscaled"))
    parameters = _parameters(metadata) | {"value_range": "0..255"}
    return _write(artefact, repository, "python", "model.onnx", given, made, parameters, code=_MODEL)


def write_engine(engine: Path, record: EngineRecord, repository: Path) -> list[Path]:
    """Put a TensorRT engine into a repository, for Triton's TensorRT backend.

    A plan runs only on the version of TensorRT and the kind of GPU that it was built with: the configuration's
    parameters name both.

    Args:
        engine: the engine, whose name the model gets.
        record: facts about it.
        repository: folder of the models.

    Returns:
        The files written: ``NAME/1/model.plan`` and ``NAME/config.pbtxt``.

    Raises:
        UsageError: if it is an engine of TensorRT for RTX, for which Triton has no backend.
        InputError: if a file cannot be read or written.
    """
    spec, metadata = record.spec, record.metadata
    if spec.runtime != "tensorrt":
        msg = f"{engine} is an engine of {spec.runtime}, and Triton runs engines of tensorrt only"
        hint = "put the .onnx file into the repository: leave out --trt, or build with --runtime tensorrt"
        raise UsageError(msg, hint)
    size = spec.sizes.fixed_size or (FREE, FREE)
    large = tuple(side if side == FREE else side * metadata.scale for side in size)
    given = _tensor(record.input.name, record.input.dtype, (spec.batch, 3, *size))
    made = _tensor(record.output.name, record.output.dtype, (spec.batch, 3, *large))
    parameters = {"tensorrt_version": spec.runtime_version, "gpu": spec.gpu, "compute_capability": spec.targets[0]}
    return _write(engine, repository, "tensorrt", "model.plan", given, made, _parameters(metadata) | parameters)


def _parameters(metadata: ArtifactMetadata) -> dict[str, str]:
    """Return what a client must know about the pictures."""
    return {
        "scale": str(metadata.scale),
        "colour": metadata.colour,
        "value_range": metadata.value_range,
        "precision": metadata.precision,
        "weights_sha256": metadata.weights_sha256,
    }


def _tensor_of(value: "onnx.ValueInfoProto") -> str:
    from onnx import helper

    kind = value.type.tensor_type
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else FREE for dim in kind.shape.dim)
    return _tensor(value.name, str(helper.tensor_dtype_to_np_dtype(kind.elem_type)), dims)


def _tensor(name: str, dtype: str, dims: tuple[int, ...]) -> str:
    if dtype not in _TYPES:
        msg = f"expected {name} to be one of {', '.join(_TYPES)}, but it is {dtype}"
        raise InputError(msg, "give a file that lkdn-export wrote")
    return f"{{ name: {json.dumps(name)}, data_type: {_TYPES[dtype]}, dims: {list(dims)} }}"


def _write(
    source: Path,
    repository: Path,
    backend: str,
    file: str,
    given: str,
    made: str,
    parameters: dict[str, str],
    code: str = "",
) -> list[Path]:
    folder = repository / source.stem
    model, program, configuration = folder / VERSION / file, folder / VERSION / "model.py", folder / "config.pbtxt"
    named = {"name": source.stem, "backend": backend, "file": program.name if code else file}
    lines = (
        f"parameters {{ key: {json.dumps(key)}, value {{ string_value: {json.dumps(value)} }} }}\n"
        for key, value in parameters.items()
    )
    text = _CONFIGURATION.format(
        **{key: json.dumps(value) for key, value in named.items()}, input=given, output=made, parameters="".join(lines)
    )
    try:
        model.parent.mkdir(parents=True, exist_ok=True)
        with publish(model) as part:
            shutil.copyfile(source, part)
        if code:
            with publish(program) as part:
                part.write_text(code, encoding="utf-8")
    except OSError as error:
        msg = f"{model} cannot be written: {error.strerror}"
        raise InputError(msg, "give another folder with --triton") from error
    with publish(configuration) as part:  # last: the server does not load an incomplete model
        part.write_text(text + (_ONE_INSTANCE if code else ""), encoding="utf-8")
    return [model, *([program] if code else []), configuration]
