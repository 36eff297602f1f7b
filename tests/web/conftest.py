"""Puts ``lib/``, and the graphs of the native engine's tests, where tests can import them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "backends" / "native" / "graphs"))
sys.path.insert(0, str(Path(__file__).parent / "lib"))
