"""Build engines of TensorRT for RTX ahead of time, and record build time, size and share in FP16. Needs no GPU.

    python benchmarks/engines.py [--weights DIR] [--output benchmarks/results/engines.json]

LKDN, LKDN-S, BSRN, VAPSR and RFDN x4, in FP32 and FP16, for one size and a range of sizes, for one GPU and for two.
Weights are the published ones under DIR, else random: neither time nor size depends on them. No engine is run.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.backends.trt.engine_spec import DEFAULT_PROFILE, Profile
from lkdn_deploy.backends.trt.make import make_engine
from lkdn_deploy.backends.trt.resolve import resolve
from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.bench.models import find_models
from lkdn_deploy.core.files import publish
from lkdn_deploy.export.job import ExportSettings, export_onnx

FILES = (
    *("LKDN/LKDN_x4.pth", "LKDN/LKDN-S_x4.pth", "BSRN/net_g_BSRN_x4.pth", "VapSR/VapSR_X4.pth"),
    "RFDN/team00_rfdn.pth",
)
PROFILES = {"320x180": Profile.fixed((180, 320)), "dynamic": DEFAULT_PROFILE}
TARGETS = (("sm86",), ("sm86", "sm89"))


def main() -> None:
    """Build the engines, print the results and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="folder of published checkpoints")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "engines.json")
    options = parser.parse_args()
    files = [options.weights / name for name in FILES] if options.weights else [None]
    models = find_models([], 4, [path for path in files if path and path.is_file()])
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for model in models:
            checkpoint = model.load()
            for precision in ("fp32", "fp16"):
                path = Path(name) / f"{model.name}_{precision}.onnx"
                artefact = export_onnx(checkpoint, path, ExportSettings(precision=precision)).path
                for title, profile in PROFILES.items():
                    for targets in TARGETS:
                        spec = resolve("tensorrt-rtx", targets, profile=profile)
                        stored = make_engine(read_artifact(artefact), spec, Path(name))
                        record = stored.record
                        rows.append(
                            {
                                "model": model.name,
                                "weights": model.origin,
                                "precision": precision,
                                "profile": title,
                                "targets": list(targets),
                                "seconds": round(record.build_seconds, 2),
                                "mib": round(len(stored.data) / 2**20, 2),
                                "audit": str(record.audit) if record.audit else "",
                                "fallbacks": list(record.fallbacks),
                                "built": bool(stored.reason),
                            }
                        )
                        print(*rows[-1].values(), flush=True)
    with publish(options.output) as part:
        part.write_text(json.dumps({"machine": machine_facts(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
