"""The networks of a folder: compiled, and listed as ``static/lkdn.mjs`` reads them."""

import json
import re
from collections.abc import Sequence

from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.backends.native.ir import UnsupportedError
from lkdn_deploy.backends.native.wasm import compile_wasm
from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.core.errors import InputError, LkdnError, UsageError

CATALOGUE = "models.json"

FORMAT = 2
"""The version of the list; ``static/lkdn.mjs`` reads this one only."""


def model_name(artifact: Artifact) -> str:
    """Return the name of a network's files, and that by which it is loaded, such as ``lkdn-s_x4``."""
    model = re.sub(r"[^a-z0-9.-]+", "-", artifact.metadata.model.lower()).strip("-.")
    return f"{model or 'network'}_x{artifact.metadata.scale}"


def catalogue_files(artifacts: Sequence[Artifact]) -> dict[str, bytes]:
    """Return the files of some networks by name, the list of all of them included. The first is the default.

    Raises:
        InputError: if a network cannot run in a browser.
        UsageError: if two have the same name.
    """
    names = [model_name(it) for it in artifacts]
    for number, name in enumerate(names):
        if name in names[:number]:
            msg = f"two networks are called {name}"
            raise UsageError(msg, "name each network and scale once")
    files: dict[str, bytes] = {}
    models = []
    for artifact in artifacts:
        entry, added = _compiled(artifact)
        models.append(entry)
        files |= added
    content = {"format": FORMAT, "default": models[0]["name"], "models": models}
    return files | {CATALOGUE: json.dumps(content, separators=(",", ":")).encode()}


def _compiled(artifact: Artifact) -> tuple[dict[str, object], dict[str, bytes]]:
    """Return a network's entry in the list, and its files."""
    metadata, name = artifact.metadata, model_name(artifact)
    try:
        if metadata.receptive_radius is None:
            msg = f"{artifact.path}: {metadata.model} computes every pixel from the whole picture"
            msg += ", for which the engine of the browser has no code"
            raise InputError(msg, "use a network without attention over the whole picture, such as lkdn-s")
        network = compile_wasm(import_program(artifact.data))
    except UnsupportedError as error:
        msg = f"{artifact.path}: the engine of the browser does not support {error}"
        raise InputError(msg, "use another network, such as lkdn-s, or a float32 file of any size") from error
    except LkdnError as error:
        if error.message.startswith(str(artifact.path)):
            raise
        msg = f"{artifact.path}: {error.message}"
        raise type(error)(msg, error.hint) from error
    modules = {
        "plain": {"alone": network.plain.alone, "threads": network.plain.threads},
        "relaxed": {"alone": network.relaxed.alone, "threads": network.relaxed.threads},
    }
    weights = f"{name}.bin"
    files = {weights: network.weights}
    code: dict[str, dict[str, str]] = {}
    for instructions, by_memory in modules.items():
        code[instructions] = {}
        for memory, content in by_memory.items():
            file = f"{name}-{instructions}-{memory}.wasm"
            files[file], code[instructions][memory] = content, f"./{file}"
    return {
        "name": name,
        "model": metadata.model,
        "scale": metadata.scale,
        "halo": max(metadata.receptive_radius, network.window_halo),
        "smallest": metadata.smallest,
        "bytes": sum(map(len, files.values())),
        "code": code,
        "weights": f"./{weights}",
        "weightsBytes": len(network.weights),
        "weightsSha256": metadata.weights_sha256,
        "network": network.description,
    }, files
