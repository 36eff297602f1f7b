"""Reading of what ``torch.save`` wrote, as data only: no code of a file is run, and its size when read is bounded."""

import io
import pickle
import re
import warnings
import zipfile
from typing import Any

import torch

from lkdn_deploy.core.errors import InputError, MissingError

MAX_BYTES = 1 << 30
"""Largest size of a file, and of what comes out of it: the networks here have a few million parameters at most."""
EXPANSION = 32
"""Largest ratio of what comes out of a file to its size. PyTorch stores without compression: its own files have 1."""
_SLACK = 1 << 20  # bytes by which a small file may exceed that ratio


def read_pickle(data: bytes) -> Any:
    """Return the tensors and plain values that ``torch.save`` wrote, on the CPU.

    Raises:
        InputError: if it is no such file, or a damaged one, holds other objects, or expands beyond the bounds.
        MissingError: if the installed torch cannot read it safely.
    """
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 10):
        msg = f"a .pth file can make torch {torch.__version__} run code (CVE-2026-24747)"
        raise MissingError(msg, "install torch 2.10 or newer, or convert the weights to .safetensors")
    damaged, hint = "not a PyTorch checkpoint, or a damaged one", "give a file that torch.save or safetensors wrote"
    try:
        if b"bytearray" in _pickles(data):  # torch would call it with any size
            raise _refused(bytearray.__name__)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        # Its reasons do not distinguish a forbidden object from noise; the file's beginning does: a zip or a pickle.
        if data.startswith((b"PK", b"\x80")):
            found = re.search(r"GLOBAL ([\w.]{1,80})", str(error))
            raise _refused(found[1] if found else "") from error
        raise InputError(damaged, hint) from error
    except (Exception, RecursionError) as error:  # whatever damaged input makes the readers trip over
        raise InputError(damaged, hint) from error


def _refused(name: str) -> InputError:
    held = f" ({name})" if name else ""
    msg = f"refused: it holds Python objects{held}, not only tensors, and reading them could run code"
    return InputError(msg, "save the state dict alone: torch.save(model.state_dict(), path)")


def _pickles(data: bytes) -> bytes:
    """Return the pickles in a file, after checking the sizes that a zip file gives for its members.

    Raises:
        InputError: if it expands beyond the bounds.
        BadZipFile: if it is a damaged zip file.
    """
    if not data.startswith(b"PK"):
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        size = sum(member.file_size for member in members)
        limit = min(MAX_BYTES, EXPANSION * len(data) + _SLACK)
        if size > limit:
            msg = f"it expands from {len(data):,} to {size:,} bytes, more than a checkpoint may have ({limit:,})"
            raise InputError(msg, "save it again with torch.save, which does not compress")
        return b"".join(archive.read(member) for member in members if member.filename.endswith(".pkl"))
