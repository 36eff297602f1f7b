"""Write the forms of the bundled artefacts for engines on CPUs, beside them.

    python tools/make_forms.py

To be run when a bundled artefact, a rewrite or a target changes; a test compares what is there with what this writes.
"""

import onnx

from lkdn_deploy.core.files import publish
from lkdn_deploy.graph.target import rewrite_for
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.runtime.optimised import TARGETS


def main() -> None:
    """Each artefact, each target."""
    for path in bundled().values():
        for target in TARGETS.values():
            form = path.with_name(f"{path.stem}_{target}.onnx")
            with publish(form) as part:
                part.write_bytes(rewrite_for(onnx.load(path), target).model.SerializeToString())
            print(form)


if __name__ == "__main__":
    main()
