"""The commands.

Console scripts start here, before anything slow is imported, so that Ctrl-C during imports ends without a traceback.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


def bench() -> None:
    """Run ``lkdn-bench``."""
    with _interruptible():
        from lkdn_deploy.cli.bench import main

        main()


def evaluate() -> None:
    """Run ``lkdn-eval``."""
    with _interruptible():
        from lkdn_deploy.cli.eval import main

        main()


def export() -> None:
    """Run ``lkdn-export``."""
    with _interruptible():
        from lkdn_deploy.cli.export import main

        main()


def serve() -> None:
    """Run ``lkdn-serve``."""
    with _interruptible():
        from lkdn_deploy.cli.serve import main

        main()


def train() -> None:
    """Run ``lkdn-train``."""
    with _interruptible():
        from lkdn_deploy.cli.train import main

        main()


def upscale() -> None:
    """Run ``lkdn-upscale``."""
    with _interruptible():
        from lkdn_deploy.cli.upscale import main

        main()


def zoo() -> None:
    """Run ``lkdn-zoo``."""
    with _interruptible():
        from lkdn_deploy.cli.zoo import main

        main()
