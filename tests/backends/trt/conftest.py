"""Puts the stand-ins in ``fakes/`` where tests can import them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "fakes"))
