"""The HTTP endpoint of probes and metrics, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from ganglion.runtime import health
from ganglion.runtime.health import HealthServer, Probes
from tests.support.nameserver import LoopThread
from tests.support.wait import wait_for


class Endpoint:
    def __init__(self, thread: LoopThread) -> None:
        self.reason = ""
        self.thread = thread
        self.server = HealthServer(Probes(ready=lambda: self.reason, live=self._raise, metrics=lambda: b"ganglion_up 1\n"))
        self.run(self.server.start(0, "127.0.0.1"))

    def _raise(self) -> str:
        raise RuntimeError("broken check")

    def run(self, coroutine: object) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self.thread.loop).result(10)  # type: ignore[arg-type]

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.server.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    thread = LoopThread()
    made = Endpoint(thread)
    yield made
    made.run(made.server.stop())
    thread.close()


def test_probes_follow_their_checks(endpoint: Endpoint) -> None:
    assert endpoint.get("/startupz") == (200, "ok\n")
    assert endpoint.get("/readyz?verbose") == (200, "ok\n")
    endpoint.reason = "channel lines is not listening"
    assert endpoint.get("/readyz") == (503, "channel lines is not listening\n")
    assert endpoint.get("/metrics") == (200, "ganglion_up 1\n")


def test_failing_check_is_a_failed_probe(endpoint: Endpoint) -> None:
    status, text = endpoint.get("/livez")
    assert (status, text) == (503, "RuntimeError: broken check\n")
    assert endpoint.get("/startupz")[0] == 200


def test_other_requests_are_refused(endpoint: Endpoint) -> None:
    assert endpoint.get("/")[0] == 404
    assert endpoint.get("/readyz", method="POST")[0] == 405


@pytest.mark.parametrize("request_bytes", [b"\x00" * 20000, b"GET", b"\r\n\r\n", b"GET " + b"/" * 9000 + b" HTTP/1.1\r\n\r\n"])
def test_garbage_does_not_end_it(endpoint: Endpoint, request_bytes: bytes) -> None:
    async def send() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", endpoint.server.port)
        writer.write(request_bytes)
        writer.close()

    endpoint.run(send())
    assert endpoint.get("/startupz")[0] == 200


def test_a_prober_that_reads_nothing_is_cut_off(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reaches the port may ask for metrics; their bytes must not be kept for whoever never takes them."""
    monkeypatch.setattr(health, "ANSWER_SECONDS", 0.3)
    size = 32 * 1024 * 1024
    endpoint.server._metrics = lambda: bytes(size)
    with socket.socket() as greedy:
        greedy.settimeout(10)
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.connect(("127.0.0.1", endpoint.server.port))
        greedy.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        wait_for(lambda: endpoint.server._connections, what="the connection")
        wait_for(lambda: not endpoint.server._connections, what="its end", timeout=10)
        received = 0
        with contextlib.suppress(ConnectionError):
            while data := greedy.recv(1 << 20):
                received += len(data)
        assert received < size
