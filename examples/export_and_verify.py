"""Export a checkpoint to ONNX, fused and verified, and compare the file with the checkpoint once more.

    python examples/export_and_verify.py [CHECKPOINT] [FOLDER]

Without a checkpoint, the bundled LKDN-S x4 is exported. This needs the extra train.
"""

import sys
from pathlib import Path

from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.errors import LkdnError
from lkdn_deploy.export.job import ExportSettings, export_onnx
from lkdn_deploy.verify.comparison import verify
from lkdn_deploy.verify.probes import verification_inputs
from lkdn_models.checkpoint import load_checkpoint
from lkdn_models.training.evaluate import floats
from lkdn_models.zoo import find


def main() -> None:
    """Print what was fused, and the differences on each input."""
    given, folder = (sys.argv[1] if sys.argv[1:] else None), Path(sys.argv[2] if sys.argv[2:] else "artefacts")
    checkpoint = load_checkpoint(Path(given) if given else find("lkdn-s", 4).bundled)

    # Nothing is written if the file does not compute what the checkpoint does: that is a VerificationError.
    report = export_onnx(checkpoint, folder / "network.onnx", ExportSettings())
    print(f"{report.path}: {report.metadata.model} x{report.metadata.scale}")
    print("fused:", *report.applied, sep="\n  ")

    # The same comparison on another engine: the file on the native engine against the checkpoint in PyTorch.
    session = open_session(report.path, "native")
    for comparison in verify(verification_inputs(report.metadata), session.run, floats(checkpoint.build().eval())):
        print(comparison)


if __name__ == "__main__":
    try:
        main()
    except LkdnError as error:  # whatever input can cause: its message, with a hint
        sys.exit(f"error: {error}")
