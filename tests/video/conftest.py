"""Puts ``lib/`` where tests can import it, and skips the room where PyAV is missing."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("av")
sys.path.insert(0, str(Path(__file__).parent / "lib"))
