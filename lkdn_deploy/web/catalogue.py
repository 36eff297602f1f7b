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

FORMAT = 1
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
    files: dict[str, bytes] = {}
    models = []
    for artifact in artifacts:
        entry, added = _compiled(artifact)
        if added.keys() & files.keys():
            msg = f"two networks are called {entry['name']}"
            raise UsageError(msg, "name each network and scale once")
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
    files = {
        f"{name}.wasm": network.code,
        f"{name}-threads.wasm": network.threads_code,
        f"{name}.bin": network.weights,
    }
    code, threads_code, weights = (f"./{it}" for it in files)
    return {
        "name": name,
        "model": metadata.model,
        "scale": metadata.scale,
        "halo": metadata.receptive_radius,
        "smallest": metadata.smallest,
        "bytes": sum(map(len, files.values())),
        "code": code,
        "threadsCode": threads_code,
        "weights": weights,
        "weightsBytes": len(network.weights),
        "weightsSha256": metadata.weights_sha256,
        "network": network.description,
    }, files
