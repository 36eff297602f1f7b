"""The command with a small network; and ``lib/`` is put where tests can import it."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "lib"))


@pytest.fixture
def upscale(random_artefact: Callable[[str], Path]) -> Callable[..., int]:
    """Run the command with a small x2 network."""
    from lkdn_deploy.cli._shell import run
    from lkdn_deploy.cli.upscale import command

    model = ["--model", str(random_artefact("one block"))]
    return lambda *args: run(command, [*map(str, args), *model])
