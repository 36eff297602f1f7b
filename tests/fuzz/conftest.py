"""Puts ``lib/`` and the graphs of the native engine's tests where tests can import them."""

import sys
from pathlib import Path

here = Path(__file__).parent
sys.path[:0] = [str(here / "lib"), str(here.parent / "backends" / "native" / "graphs")]
