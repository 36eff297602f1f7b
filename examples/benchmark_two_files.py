"""Time two ONNX files side by side, and say whether one is faster.

    python examples/benchmark_two_files.py ONE.onnx OTHER.onnx

This needs the extra bench.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lkdn_deploy.bench.models import find_models
from lkdn_deploy.bench.results import Protocol, Settings
from lkdn_deploy.bench.run import BenchRequest, bench
from lkdn_deploy.core.errors import LkdnError


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Say what is being done; a function may be yielded that is called with the progress."""
    print(f"{name} …", file=sys.stderr)
    yield


def main() -> None:
    """Print the median of each file, and the ratio with its interval."""
    files = sys.argv[1:3]
    models = find_models(files, None, [])
    if len(models) != 2:
        sys.exit("give two different .onnx files")
    settings = Settings(
        Protocol.STEADY, input_size=(64, 64), threads=1, rounds=8, seed=0
    )  # 8 is the least for an interval
    report = bench(BenchRequest(models, ["native"], ["fp32"], settings), stage)
    for name, row in zip(files, report.rows, strict=True):
        if row.latency is None:
            sys.exit(f"{name} was not timed: {row.problem}")
        print(f"{name}: {row.latency.median:.2f} ms")
        if (ratio := row.latency.ratio) is not None:
            apart = "told apart" if not ratio.low <= 1 <= ratio.high else "not told apart"
            print(f"  {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] of the first: {apart}")


if __name__ == "__main__":
    try:
        main()
    except LkdnError as error:  # whatever input can cause: its message, with a hint
        sys.exit(f"error: {error}")
