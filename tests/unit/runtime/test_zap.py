"""Our ZAP handler, with real CURVE handshakes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from ganglion.runtime import zap
from ganglion.runtime.sockets import CurveKeys, Socket, make_context, make_socket
from ganglion.runtime.zap import ANY_KEY, PATIENCE_SECONDS, ZapHandler, ZapPolicy
from tests.support.wait import wait_for

DOMAIN = "lines.Push.out"


class Server:
    """A CURVE ROUTER whose handshakes a thread with our handler answers."""

    def __init__(self, policy: ZapPolicy, *, curve: bool = True, patience: float = 0.0) -> None:
        self.policy = policy
        self.context = make_context()
        self.keys = CurveKeys.generate()
        self.handler = ZapHandler(self.context, policy, patience=patience)
        self.router = make_socket(self.context, zmq.ROUTER, curve=self.keys if curve else None, zap_domain=DOMAIN)
        self.router.bind("tcp://127.0.0.1:*")
        self.endpoint = self.router.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._clients: list[Socket] = []

    def _run(self) -> None:
        while not self._stop.is_set():
            self.handler.socket.poll(50)
            self.handler.answer()

    def client(self, keys: CurveKeys | None, *, server_key: str | None = None) -> Socket:
        socket = make_socket(
            self.context, zmq.DEALER, curve=keys, server_key=(server_key or self.keys.public) if keys is not None else None
        )
        self._clients.append(socket)
        socket.connect(self.endpoint)
        return socket

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for socket in (*self._clients, self.router):
            socket.close()
        self.handler.close()
        self.context.term()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def factory(policy: ZapPolicy, **other: float) -> Server:
        made.append(Server(policy, curve=bool(other.get("curve", True)), patience=other.get("patience", 0.0)))
        return made[-1]

    yield factory
    for server in made:
        server.close()


def _user_id(server: Server, timeout_ms: int = 10_000) -> str:
    assert server.router.poll(timeout_ms), "nothing came"
    frames = server.router.recv_multipart(copy=False)
    return str(frames[-1].get("User-Id"))


def test_user_id_is_the_key(serve: Callable[..., Server]) -> None:
    keys, policy = CurveKeys.generate(), ZapPolicy()
    policy.allow(DOMAIN, [keys.public])
    server = serve(policy)
    server.client(keys).send(b"hello")
    assert _user_id(server) == keys.public


def test_unknown_key_stays_out_and_gets_in_once_it_is_known(serve: Callable[..., Server]) -> None:
    keys, policy = CurveKeys.generate(), ZapPolicy()
    policy.allow(DOMAIN, [])
    server = serve(policy)
    server.client(keys).send(b"queued meanwhile")
    wait_for(lambda: server.handler.refused, what="a refusal")
    assert not server.router.poll(0)
    policy.allow(DOMAIN, [keys.public])
    assert _user_id(server, 20_000) == keys.public


def test_unknown_domain_fails_closed(serve: Callable[..., Server]) -> None:
    server = serve(ZapPolicy())
    server.client(CurveKeys.generate()).send(b"hello")
    wait_for(lambda: server.handler.refused, what="a refusal")
    assert not server.router.poll(0)


def test_null_is_refused_with_curve(serve: Callable[..., Server]) -> None:
    policy = ZapPolicy("Curve")
    policy.allow(DOMAIN, ANY_KEY)
    server = serve(policy, curve=False)
    with contextlib.suppress(zmq.Again):
        # Once refused for good, the client has nowhere to send to.
        server.client(None).send(b"hello", zmq.NOBLOCK)
    wait_for(lambda: server.handler.refused, what="a refusal")
    assert not server.router.poll(0)


def test_null_is_admitted_without_security(serve: Callable[..., Server]) -> None:
    policy = ZapPolicy("None")
    policy.allow(DOMAIN, [])
    server = serve(policy, curve=False)
    server.client(None).send(b"hello")
    assert server.router.poll(10_000)


def test_exception_refuses_one_and_serves_the_next(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    keys, policy = CurveKeys.generate(), ZapPolicy()
    policy.allow(DOMAIN, [keys.public])
    server = serve(policy)
    decide = policy.decide
    broken = threading.Event()

    def fail_once(*args: object) -> object:
        if not broken.is_set():
            broken.set()
            raise RuntimeError("broken")
        return decide(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(policy, "decide", fail_once)
    server.client(keys).send(b"hello")
    assert _user_id(server, 20_000) == keys.public
    assert server.handler.failures == 1


@pytest.mark.parametrize("mechanism", [b"PLAIN", b"NULL", b"GSSAPI", b""])
def test_other_mechanisms_never_pass_with_curve(mechanism: bytes) -> None:
    policy = ZapPolicy("Curve")
    policy.allow(DOMAIN, ANY_KEY)
    assert policy.decide(DOMAIN, mechanism, [b"user", b"password"]).code == "400"


@pytest.mark.parametrize("credentials", [[], [b"short"], [b"k" * 32, b"more"]])
def test_malformed_credentials(credentials: list[bytes]) -> None:
    policy = ZapPolicy()
    policy.allow(DOMAIN, ANY_KEY)
    assert policy.decide(DOMAIN, b"CURVE", credentials).code == "400"


def test_lists_are_replaced_and_forgotten() -> None:
    policy = ZapPolicy()
    policy.allow("a", ["x"])
    before = policy.allowed
    policy.replace({"b": ["y"]})
    assert before == {"a": frozenset({"x"})}, "a reader's snapshot changed under it"
    assert policy.allowed == {"a": frozenset({"x"}), "b": frozenset({"y"})}
    policy.forget("a")
    assert set(policy.allowed) == {"b"}


def test_without_a_handler_nobody_is_admitted() -> None:
    """libzmq's own default lets a handshake pass unasked."""
    context, keys = make_context(), CurveKeys.generate()
    router = make_socket(context, zmq.ROUTER, curve=keys, zap_domain=DOMAIN)
    monitor = router.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
    router.bind("tcp://127.0.0.1:*")
    client = make_socket(context, zmq.DEALER, curve=CurveKeys.generate(), server_key=keys.public)
    try:
        client.connect(router.get_string(zmq.LAST_ENDPOINT).rstrip("\0"))
        assert monitor.poll(20_000), "no handshake"
        assert int.from_bytes(monitor.recv_multipart()[0][:2], "little") == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    finally:
        router.disable_monitor()
        for socket in (monitor, client, router):
            socket.close(0)
        context.term()


def test_server_socket_without_a_domain_is_refused() -> None:
    context = make_context()
    try:
        with pytest.raises(ValueError, match="zap_domain"):
            make_socket(context, zmq.ROUTER, curve=CurveKeys.generate())
        with pytest.raises(ValueError, match="server_key"):
            make_socket(context, zmq.DEALER, server_key="k" * 40)
    finally:
        context.term()


def test_keys_are_checked_and_hidden() -> None:
    keys = CurveKeys.generate()
    assert keys.secret not in repr(keys)
    assert CurveKeys.from_secret(keys.secret) == keys
    with pytest.raises(ValueError, match="40"):
        CurveKeys("short", keys.secret)
    with pytest.raises(ValueError, match="Z85"):
        CurveKeys.from_secret("ü" * 40)


def test_the_handshake_of_a_key_that_comes_in_a_moment_is_held(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    keys, policy = CurveKeys.generate(), ZapPolicy()
    policy.allow(DOMAIN, [])
    asked = threading.Event()
    decide = policy.decide

    def noted(*request: Any) -> zap.Decision:
        asked.set()
        return decide(*request)

    monkeypatch.setattr(policy, "decide", noted)
    server = serve(policy, patience=PATIENCE_SECONDS)
    server.client(keys).send(b"early")
    assert asked.wait(10)
    policy.allow(DOMAIN, [keys.public])
    assert _user_id(server) == keys.public
    assert server.handler.refused == 0


def test_a_key_that_stays_unknown_is_refused_and_may_try_again(serve: Callable[..., Server]) -> None:
    keys, policy = CurveKeys.generate(), ZapPolicy()
    policy.allow(DOMAIN, [])
    server = serve(policy, patience=0.2)
    server.client(keys).send(b"queued meanwhile")
    wait_for(lambda: server.handler.refused, what="a refusal")
    policy.allow(DOMAIN, [keys.public])
    assert _user_id(server, 20_000) == keys.public


def test_no_more_handshakes_are_held_than_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zap, "MAX_HELD", 2)
    context = make_context()
    handler = ZapHandler(context, ZapPolicy(), patience=PATIENCE_SECONDS)
    askers = [context.socket(zmq.DEALER) for _ in range(3)]
    try:
        for asker in askers:
            asker.connect(zap.ZAP_ENDPOINT)
            asker.send_multipart([b"", b"1.0", b"id", DOMAIN.encode(), b"127.0.0.1", b"", b"CURVE", b"k" * 32])
        wait_for(lambda: handler.answer() and handler.refused, what="a refusal")
        assert askers[0].poll(10_000)
        assert askers[0].recv_multipart()[3] == b"300"
        assert handler.refused == 1
    finally:
        for asker in askers:
            asker.close()
        handler.close()
        context.term()


@pytest.mark.parametrize("named", [True, False])
def test_a_req_socket_that_binds_gets_replies_only_without_names(serve: Callable[..., Server], named: bool) -> None:
    keys, policy = CurveKeys.generate(), ZapPolicy(named=named)
    policy.allow(DOMAIN, [keys.public])
    server = serve(policy)
    with (
        make_socket(server.context, zmq.REQ, curve=server.keys, zap_domain=DOMAIN) as asks,
        make_socket(server.context, zmq.REP, curve=keys, server_key=server.keys.public) as replies,
    ):
        asks.bind("tcp://127.0.0.1:*")
        replies.connect(asks.get_string(zmq.LAST_ENDPOINT).rstrip("\0"))
        asks.send(b"question")
        assert replies.poll(10_000)
        replies.send_multipart([b"re: ", replies.recv()])
        # Should a libzmq take it with names as well, they can be given everywhere.
        assert bool(asks.poll(500 if named else 10_000)) is not named
