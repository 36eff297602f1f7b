"""The behaviour of ``lkdn-serve`` when pictures take too long, workers die, and it is told to end."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from running_service import CODE, RunningService, environment, picture, serving

LARGE = picture(900, 900, "JPEG")
LONG = {"self_ensemble": "true"}
"""Options with which ``LARGE`` takes many seconds, and can be interrupted at any moment of them."""


def until_done(service: RunningService) -> httpx.Response:
    """Post a small picture until a worker takes it."""
    for _ in range(600):
        response = service.post(picture())
        if response.status_code != 503:
            return response
        time.sleep(0.1)
    raise AssertionError(response.text)


def test_a_killed_worker_is_one_error_and_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path) as service, ThreadPoolExecutor(2) as threads:
        (worker,) = service.workers()
        if sys.platform == "linux":
            assert Path(f"/proc/{worker.pid}/oom_score_adj").read_text().strip() == "1000"
        lost = threads.submit(service.post, LARGE, **LONG)
        service.until_running(1)
        waiting = threads.submit(service.post, picture())
        service.until_running(2)
        time.sleep(0.3)
        os.kill(worker.pid, signal.SIGKILL)
        assert lost.result().status_code == 500
        assert "killed, probably since memory ran out" in lost.result().json()["detail"]
        assert waiting.result().status_code == 200
        (other,) = service.workers()
        assert other.pid != worker.pid
        assert "lkdn_workers_replaced 1.0" in service.client.get("/metrics").text


@pytest.mark.long
def test_a_picture_that_takes_too_long_is_given_up_and_a_full_queue_says_when_to_ask_again(tmp_path: Path) -> None:
    with serving(tmp_path, "--timeout", "2", "--queue", "0") as service, ThreadPoolExecutor(1) as threads:
        long = threads.submit(service.post, LARGE, **LONG)
        service.until_running(1)
        refused = service.post(picture())
        assert refused.status_code == 503
        assert "1 requests are in progress" in refused.json()["detail"]
        assert 1 <= int(refused.headers["Retry-After"]) <= 2
        assert long.result().status_code == 504
        assert until_done(service).status_code == 200


@pytest.mark.long
def test_clients_that_leave_make_room_and_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, "--queue", "1") as service, ThreadPoolExecutor(1) as threads:
        threads.submit(service.post, LARGE, **LONG)
        service.until_running(1)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{service.client.base_url}upscale", content=picture(), timeout=0.3)
        service.until_running(1)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(20) == 143


def test_sigterm_lets_running_requests_end_and_refuses_new_ones(tmp_path: Path) -> None:
    with serving(tmp_path) as service, ThreadPoolExecutor(1) as threads:
        running = threads.submit(service.post, picture(500, 400, "JPEG"))
        service.until_running(1)
        for process in (psutil.Process(service.process.pid), *service.workers()):
            process.send_signal(signal.SIGTERM)  # as systemd does
        time.sleep(0.2)
        refused = service.post(picture())
        assert (refused.status_code, refused.json()["detail"]) == (503, "this service is about to end")
        assert "Retry-After" in refused.headers
        assert service.client.get("/healthz").status_code == 503
        assert running.result().status_code == 200
        assert service.process.wait(20) == 0


def test_a_token_is_asked_for(tmp_path: Path) -> None:
    token = "0123456789abcdef"  # noqa: S105
    with serving(tmp_path, "--host", "0.0.0.0", "--model", "LKDN-S", token=token) as service:  # noqa: S104
        assert service.post(picture(), model="lkdn-s").status_code == 200
        assert service.client.get("/healthz", headers={"Host": "any.example"}).status_code == 200
        address = str(service.client.base_url).replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        assert httpx.get(f"{address}healthz").status_code == 200
        for headers in ({}, {"Authorization": f"Bearer {token}x"}, {"Authorization": f"Basic {token}"}):
            refused = httpx.post(f"{address}upscale", content=picture(), headers=headers)
            assert (refused.status_code, refused.headers["WWW-Authenticate"][:6]) == (401, "Bearer")
            assert httpx.get(f"{address}metrics", headers=headers).status_code == 401
        assert "security" in httpx.get(f"{address}openapi.json").text
        (worker,) = service.workers()
        assert "LKDN_SERVE_TOKEN" not in worker.environ()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--host", "0.0.0.0"], 2, "requests must show a token"),  # noqa: S104
        (["--host", "no.such.host.example", "--token-file", "token"], 2, "is no address of this machine"),
        (["--token-file", "short"], 2, "expected a token of 16"),
        (["--token-file", "missing"], 1, "cannot be read"),
        (["--model", "nothing"], 2, "nothing"),
        (["--model", "lkdn-s", "--model", "lkdn-s"], 2, "two networks would be called"),
        (["--model", "a.onnx", "--model", "b.onnx", "--weights", "c.pth"], 2, "those of one network"),
    ],
)
def test_wrong_settings_are_said_before_anything_is_started(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    status: int,
    said: str,
) -> None:
    from lkdn_deploy.cli._shell import run
    from lkdn_deploy.cli.serve import command

    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_text("abc")
    (tmp_path / "token").write_text("0123456789abcdef")
    assert run(command, words) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err


@pytest.mark.long
def test_workers_that_cannot_be_started_are_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CODE, "--port", "0", "--max-memory", "1M"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert "allow more memory" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_a_head_that_does_not_end_is_not_waited_for(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        place = (service.client.base_url.host, service.client.base_url.port or 0)
        with socket.create_connection(place, 60) as first, socket.create_connection(place, 60) as second:
            first.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
            second.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /heal")
            assert first.recv(1 << 16) == b""
            assert b"".join(iter(lambda: second.recv(1 << 16), b"")).count(b"HTTP/1.1 200") == 1


@pytest.mark.long
def test_memory_is_flat_over_a_thousand_requests(tmp_path: Path) -> None:
    pictures = [picture(w, h, kind) for w, h in ((40, 30), (33, 57), (64, 64)) for kind in ("PNG", "JPEG")]
    with serving(tmp_path) as service:

        def resident(first: int, count: int) -> int:
            for number in range(first, first + count):
                assert service.post(pictures[number % len(pictures)]).status_code == 200
            processes = (psutil.Process(service.process.pid), *service.workers())
            return sum(process.memory_info().rss for process in processes)

        before = resident(0, 200)
        assert resident(200, 1000) - before < 8 << 20


@pytest.mark.long
def test_what_the_description_promises_is_true(tmp_path: Path) -> None:
    """Asked by schemathesis, with pictures for bodies.

    Its check that valid requests succeed is left out: OpenAPI cannot say that one of four options may be given, and
    which formats have a quality.
    """
    hooks = Path(__file__).parent / "lib"
    with serving(tmp_path) as service:
        start = "from schemathesis.cli import schemathesis; schemathesis()"
        words = [sys.executable, "-c", start, "run", f"{service.client.base_url}openapi.json"]
        words += ["--phases", "examples,coverage,fuzzing", "--exclude-checks", "positive_data_acceptance"]
        done = subprocess.run(
            [*words, "--max-examples", "40", "--seed", "1"],
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "posted_pictures", "PYTHONPATH": str(hooks)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:]
        assert "Tested: 3" in done.stdout
        assert until_done(service).status_code == 200
