"""Puts ``lib/`` where tests can import it, and starts the command."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "lib"))

from running_service import RunningService, serving


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """The command with a limit of 20,000 pixels and 100,000 bytes."""
    folder = tmp_path_factory.mktemp("service")
    with serving(folder, "--max-pixels", "20000", "--max-bytes", "1M") as found:
        yield found
