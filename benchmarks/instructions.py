"""The native engine for fewer instructions than this processor has, for benchmarks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

from lkdn_deploy.jit.compiler import Processor, processor

THIS, AVX2 = "this processor", "AVX2"

_BEYOND_AVX2 = ("avx512", "avxvnni", "avx10", "evex512", "amx", "fast-dpwssd")


def instruction_sets() -> dict[str, Processor]:
    """Return this processor, and the same one as if it had AVX2 only, where it has more."""
    here = processor()
    features = here.features.split(",")
    fewer = ",".join(f"-{it[1:]}" if it[1:].startswith(_BEYOND_AVX2) else it for it in features)
    found = {THIS: here}
    if {"+avx2", "+fma"} <= set(features) and fewer != here.features:
        found[AVX2] = replace(here, features=fewer, lanes=8, max_outputs=5)
    return found


@contextmanager
def compiled_for(target: Processor) -> Iterator[None]:
    """Let the native engine compile what is opened meanwhile for a processor."""
    with patch("lkdn_deploy.jit.compiler.processor", lambda: target):
        yield
