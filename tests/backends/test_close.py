"""Sessions that are closed: what they held is free, and using them again is an error that says so."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
from small_artefacts import noise, repeated, saved

from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.runtime.ensemble import EnsembleSession

PACKAGES = {"native": "llvmlite", "ort-cpu": "onnxruntime", "openvino": "openvino"}


@pytest.mark.parametrize("ensemble", [False, True], ids=["plain", "ensemble"])
@pytest.mark.parametrize("backend", PACKAGES)
def test_a_closed_session_says_so_however_often_it_is_closed(tmp_path: Path, backend: str, ensemble: bool) -> None:
    pytest.importorskip(PACKAGES[backend])
    path = bundled()["lkdn-s", 2] if backend == "native" else saved(tmp_path / "a.onnx")
    session: Any = open_session(path, backend, threads=2)
    if ensemble:
        session = EnsembleSession(session)
    batch = noise(1, 3, 16, 12)
    result = session.run(batch)
    if backend != "native":
        assert result == pytest.approx(repeated(batch), abs=1e-6)
    rest = session.run_many([batch] * 3)
    next(rest)
    for _ in range(2):
        session.close()
    with pytest.raises(UsageError, match="the session is closed"):
        next(rest)
    for use in (session.run, session.inference_seconds, session.device_memory):
        with pytest.raises(UsageError, match="the session is closed"):
            use(batch)


@pytest.mark.parametrize("backend", PACKAGES)
def test_a_closed_session_holds_nothing_of_the_engine(tmp_path: Path, backend: str) -> None:
    pytest.importorskip(PACKAGES[backend])
    session: Any = open_session(bundled()["lkdn-s", 2], backend, threads=2)
    session.run(noise(1, 3, 16, 12))
    held = {
        "native": lambda: [session._network, session._executor],
        "ort-cpu": lambda: [session._session],
        "openvino": lambda: [*session.requests((1, 3, 16, 12))],
    }
    references = [weakref.ref(each) for each in held[backend]()]
    session.close()
    gc.collect()
    assert [reference() for reference in references] == [None] * len(references)
