"""Makes the helpers here, and the stand-ins of ``tests/backends/trt``, importable."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "lib"), str(HERE.parent / "backends" / "trt" / "fakes")]
