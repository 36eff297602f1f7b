"""Write the optimised forms of the bundled artefacts for engines on CPUs beside them.

    python tools/make_forms.py

Run it when a bundled artefact, a rewrite or a target changes; a test compares the files with what this script writes.
"""

import onnx

from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.files import publish
from lkdn_deploy.graph.pipeline import rewrite_for, serialize
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.runtime.optimised import TARGETS


def main() -> None:
    """Write the form of each artefact for each target."""
    for path in bundled().values():
        model = onnx.load(path)
        metadata = ArtifactMetadata.from_props({prop.key: prop.value for prop in model.metadata_props})
        for target in TARGETS.values():
            form = path.with_name(f"{path.stem}_{target}.onnx")
            with publish(form) as part:
                rewritten = rewrite_for(model, metadata, target)
                part.write_bytes(serialize(rewritten.model, rewritten.metadata))
            print(form)


if __name__ == "__main__":
    main()
