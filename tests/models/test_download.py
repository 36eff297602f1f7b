"""Published checkpoints, downloaded into the cache from a server on this machine, never from the network."""

import hashlib
import logging
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lkdn_deploy.core.errors import InputError, MissingError
from lkdn_models import download as module
from lkdn_models.download import download, local, usable
from lkdn_models.zoo import all_entries, find
from lkdn_models.zoo.facts import Weights

CONTENT = bytes(range(256)) * 1024
WEIGHTS = Weights("someone/Repo", "0123" * 10, "folder/net_x4.pth", hashlib.sha256(CONTENT).hexdigest(), "MIT")
PLAIN = replace(find("lkdn", 4), weights=WEIGHTS)
TO_CONVERT = replace(PLAIN, weights=replace(WEIGHTS, path="folder/net_x4.mat", converter="tools/convert_vdsr.py"))


class Server(ThreadingHTTPServer):
    """Answers every request with ``content``, or otherwise as its attributes say."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.status = 200
        self.sent = len(CONTENT)
        """SHA-256 of the content."""
        self.then: Callable[[], object] = lambda: None
        """Called when that is sent, before the connection is closed."""
        self.paths: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content[: self.server.sent])
        self.wfile.flush()
        self.server.then()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """In the place of the host that has the checkpoints."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        monkeypatch.setattr("lkdn_models.zoo.facts.HOST", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Not there yet. A proxy that is set where the tests run stays out of it."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1,host.invalid")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_importing_it_needs_neither_torch_nor_pooch() -> None:
    code = "import sys; sys.modules.update(torch=None, pooch=None, requests=None)\nimport lkdn_models.download"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_checkpoint_is_downloaded_once(
    server: Server, cache: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = download(WEIGHTS)
    assert path == local(WEIGHTS) == cache / "lkdn-deploy" / "weights" / "someone-Repo" / "0123012" / "net_x4.pth"
    assert path.read_bytes() == CONTENT
    assert files(cache) == [path]
    assert server.paths == [f"/someone/Repo/{WEIGHTS.commit}/folder/net_x4.pth"]
    assert download(WEIGHTS) == path
    assert len(server.paths) == 1
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_what_is_there_needs_neither_a_server_nor_pooch(monkeypatch: pytest.MonkeyPatch) -> None:
    put(local(WEIGHTS))
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.setattr("lkdn_models.zoo.facts.HOST", "http://127.0.0.1:1")
    assert download(WEIGHTS) == local(WEIGHTS)


def test_without_pooch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingError, match=re.escape(".[train]")):
        download(WEIGHTS)
    assert files(cache) == []


def test_a_bar_is_drawn_on_stderr_when_asked_for(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    download(WEIGHTS, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "100%" in err
    assert "Downloading" not in err


def test_poochs_logger_is_left_as_it_was(server: Server) -> None:
    import pooch

    level = pooch.get_logger().level
    try:
        pooch.get_logger().setLevel(logging.ERROR)
        download(WEIGHTS)
        assert pooch.get_logger().level == logging.ERROR
    finally:
        pooch.get_logger().setLevel(level)


def test_a_damaged_file_is_replaced(server: Server, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = put(local(WEIGHTS), CONTENT[:-1])
    assert download(WEIGHTS) == path
    assert path.read_bytes() == CONTENT
    assert files(cache) == [path]
    assert f"{path} is damaged" in caplog.text


def test_other_content_is_refused(server: Server, cache: Path) -> None:
    server.content = CONTENT[::-1]
    with pytest.raises(InputError, match="is not the published file") as refused:
        download(WEIGHTS)
    assert WEIGHTS.sha256 in refused.value.message
    assert hashlib.sha256(server.content).hexdigest() in refused.value.message
    assert WEIGHTS.page in refused.value.hint
    assert files(cache) == []


@pytest.mark.parametrize(("status", "answer"), [(404, "404 Not Found"), (500, "500 Internal Server Error")])
def test_a_server_that_does_not_send_it_is_named_with_the_remedy(
    server: Server, cache: Path, status: int, answer: str
) -> None:
    server.status = status
    with pytest.raises(MissingError) as missing:
        download(WEIGHTS)
    assert missing.value.message == f"{WEIGHTS.url} cannot be downloaded: the server answered {answer}"
    assert missing.value.hint == f"download {WEIGHTS.page} by hand and put it at {local(WEIGHTS)}"
    assert files(cache) == []


@pytest.mark.parametrize(
    "host", ["http://host.invalid", "http://127.0.0.1:{port}"]
)  # no such name (RFC 2606), no answer
def test_a_missing_network_is_named_with_the_remedy(cache: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:  # closed before it is asked
        monkeypatch.setattr("lkdn_models.zoo.facts.HOST", host.format(port=closed.getsockname()[1]))
    reason = "" if "invalid" in host else " Connection refused"
    with pytest.raises(MissingError, match=f"cannot be downloaded:{reason}") as missing:
        download(WEIGHTS)
    assert str(local(WEIGHTS)) in missing.value.hint
    assert files(cache) == []


@pytest.mark.parametrize("damaged", [False, True])
def test_a_server_that_hangs_up_midway_leaves_what_was_there(server: Server, cache: Path, damaged: bool) -> None:
    before = [put(local(WEIGHTS), b"damaged")] if damaged else []
    server.sent = len(CONTENT) // 2
    with pytest.raises(MissingError, match="cannot be downloaded"):
        download(WEIGHTS)
    assert files(cache) == before
    assert all(path.read_bytes() == b"damaged" for path in before)


@pytest.mark.parametrize("sent", [None, 0, len(CONTENT) // 2])
def test_a_silent_server_is_given_up(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, sent: int | None
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    given_up = threading.Event()
    server.sent, server.then = sent or 0, lambda: given_up.wait(10)
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # it accepts no connection
        if sent is None:
            monkeypatch.setattr("lkdn_models.zoo.facts.HOST", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        try:
            with pytest.raises(MissingError, match="cannot be downloaded: timed out"):
                download(WEIGHTS)
        finally:
            given_up.set()
    assert files(cache) == []


def test_an_interrupt_leaves_no_file(server: Server, cache: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it
    main, interrupted = threading.main_thread().ident, threading.Event()

    def interrupt() -> None:
        assert len(files(cache)) == 1  # it has begun
        signal.pthread_kill(main, signal.SIGINT)
        interrupted.wait(10)

    server.sent, server.then = len(CONTENT) // 2, interrupt
    try:
        with pytest.raises(KeyboardInterrupt):
            download(WEIGHTS)
    finally:
        interrupted.set()
        signal.signal(signal.SIGINT, before)
    assert files(cache) == []


def test_a_full_disk_leaves_no_file(server: Server, cache: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, before[1]))  # a write beyond it fails
        with pytest.raises(InputError, match="cannot be read or written") as refused:
            download(WEIGHTS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "XDG_CACHE_HOME" in refused.value.hint
    assert files(cache) == []


@pytest.mark.parametrize("folder", [True, False])
def test_a_cache_that_cannot_be_used_is_named_with_the_remedy(server: Server, cache: Path, folder: bool) -> None:
    if folder:
        local(WEIGHTS).mkdir(parents=True)
    else:
        cache.write_bytes(b"a file where a folder must be")
    for use in (lambda: download(WEIGHTS), lambda: usable(PLAIN)) if folder else (lambda: download(WEIGHTS),):
        with pytest.raises(InputError, match="cannot be read or written") as refused:
            use()
        assert "XDG_CACHE_HOME" in refused.value.hint
    assert files(cache) == []
    assert server.paths == []


def test_the_zoos_checkpoints_have_a_place_each() -> None:
    published = {entry.weights for entry in all_entries() if entry.weights}
    places = [local(weights) for weights in published]
    places += [local(weights).with_suffix(".safetensors") for weights in published if weights.converter]
    assert len(places) == len(set(places))


def test_downloaded_and_converted_weights_are_usable() -> None:
    put(local(WEIGHTS))
    assert usable(PLAIN) == local(WEIGHTS)
    converted = put(local(TO_CONVERT.weights).with_suffix(".safetensors"), b"converted")
    assert usable(TO_CONVERT) == converted


def test_weights_to_convert_come_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache"))
    path = put(local(TO_CONVERT.weights))
    with pytest.raises(MissingError, match="not converted") as missing:
        usable(TO_CONVERT)
    command = shlex.split(missing.value.hint.partition("repository: ")[2])
    assert command == ["python", "tools/convert_vdsr.py", str(path), str(path.with_suffix(".safetensors"))]
    assert (Path(__file__).parents[2] / command[1]).is_file()


@pytest.mark.parametrize("entry", [PLAIN, TO_CONVERT])
def test_missing_weights_come_with_the_command(entry: object) -> None:
    with pytest.raises(MissingError, match="not downloaded") as missing:
        usable(entry)
    assert "lkdn-zoo get lkdn --scale 4" in missing.value.hint
    put(local(entry.weights), b"damaged")
    with pytest.raises(MissingError, match="damaged") as missing:
        usable(entry)
    assert "lkdn-zoo get lkdn --scale 4" in missing.value.hint


def test_weights_that_none_published_are_to_be_trained() -> None:
    with pytest.raises(MissingError, match="no weights of lkdn x4 were published") as missing:
        usable(replace(PLAIN, weights=None))
    assert "train the network" in missing.value.hint
