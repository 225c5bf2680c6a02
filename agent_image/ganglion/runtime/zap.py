"""Who may connect: our own ZAP handler (ZeroMQ RFC 27), fail closed.

pyzmq's `zmq.auth` answers 400 to an unknown key, after which libzmq's client never tries again, and its thread ends with the first
exception. This one answers 300 ("temporary"): a peer whose key arrives later gets in by itself at the next handshake. That is 3 s away,
so it does not answer at once: the directory tells a connector of a binder and the binder of the connector at the same moment, and either
may hear of it first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

import zmq
from zmq.utils import z85

from ganglion.runtime.sockets import Context, Socket

log = logging.getLogger(__name__)

ZAP_ENDPOINT: Final = "inproc://zeromq.zap.01"
_VERSION = b"1.0"
_KEY_BYTES = 32
_BUDGET = 256
"""Requests answered in one go before the caller's loop gets its turn."""
PATIENCE_SECONDS = 1.5
"""How long the handshake of a key that is not known yet is held: half of what the connector waits for it."""
MAX_HELD = 4096
"""Handshakes held at once; the oldest is refused for one more. A connection that is refused stays open as long as one that is held."""


class _AnyKey:
    def __repr__(self) -> str:
        return "ANY_KEY"


ANY_KEY: Final = _AnyKey()
"""Allow list of a port that authenticates by what is said on it (the join port)."""

Allowed = Collection[str] | _AnyKey


@dataclass(frozen=True, slots=True)
class Decision:
    """Answer to one handshake. `user_id` becomes the `User-Id` of every message of the connection."""

    code: Literal["200", "300", "400", "500"]
    text: str = ""
    user_id: str = ""


class ZapPolicy:
    """Allow lists by ZAP domain. Set from any thread, read by the handler's: the mapping is replaced, never changed.

    Args:
        security: with `Curve`, NULL and PLAIN are refused whatever the lists say; with `None`, NULL is admitted to known domains.
        named: messages carry their sender's key as User-Id. libzmq then puts a frame of its own before the first message, which a REQ
            socket that binds takes for a malformed reply: it drops every connection.
    """

    def __init__(self, security: Literal["Curve", "None"] = "Curve", *, named: bool = True) -> None:
        self.security = security
        self.named = named
        self._lock = threading.Lock()
        self._allowed: Mapping[str, frozenset[str] | _AnyKey] = MappingProxyType({})

    @property
    def allowed(self) -> Mapping[str, frozenset[str] | _AnyKey]:
        """Current lists; an immutable snapshot."""
        return self._allowed

    def allow(self, domain: str, keys: Allowed) -> None:
        """Replace one domain's list (Z85 public keys). Live connections stay: check their User-Id per message."""
        with self._lock:
            self._allowed = MappingProxyType({**self._allowed, domain: keys if isinstance(keys, _AnyKey) else frozenset(keys)})

    def replace(self, lists: Mapping[str, Allowed]) -> None:
        """Replace the lists of these domains in one step."""
        frozen = {domain: keys if isinstance(keys, _AnyKey) else frozenset(keys) for domain, keys in lists.items()}
        with self._lock:
            self._allowed = MappingProxyType({**self._allowed, **frozen})

    def forget(self, domain: str) -> None:
        """Refuse everybody in a domain from now on."""
        with self._lock:
            self._allowed = MappingProxyType({name: keys for name, keys in self._allowed.items() if name != domain})

    def decide(self, domain: str, mechanism: bytes, credentials: list[bytes]) -> Decision:
        """Judge one handshake."""
        allowed = self._allowed.get(domain)
        if mechanism == b"NULL" and self.security == "None":
            return Decision("200") if allowed is not None else Decision("300", "Not yet known")
        if mechanism != b"CURVE" or self.security != "Curve":
            return Decision("400", "Mechanism refused")
        if len(credentials) != 1 or len(credentials[0]) != _KEY_BYTES:
            return Decision("400", "Malformed credentials")
        key = z85.encode(credentials[0]).decode("ascii")
        if allowed is None or not (isinstance(allowed, _AnyKey) or key in allowed):
            return Decision("300", "Not yet known")
        return Decision("200", user_id=key if self.named else "")


@dataclass(frozen=True, slots=True)
class _Request:
    """One handshake; `envelope` is how its session is answered."""

    envelope: list[bytes]
    request_id: bytes
    domain: str
    mechanism: bytes
    credentials: list[bytes]
    due: float


class ZapHandler:
    """The handler socket of one context. Make it before anything is bound there; `close` it after all else.

    One thread owns it: it calls `answer` when `socket` is readable, when the policy has changed, and every quarter of a second or so.

    Args:
        context: whose servers ask.
        policy: decides.
        patience: seconds for which the handshake of an unknown key is held, in case the policy changes; at most `PATIENCE_SECONDS`.
    """

    def __init__(self, context: Context, policy: ZapPolicy, *, patience: float = 0.0) -> None:
        self.policy = policy
        self.refused = 0
        """Handshakes answered with anything but 200."""
        self.failures = 0
        """Requests whose judgement raised or that were malformed; each is answered, none ends the handler."""
        self._patience = min(patience, PATIENCE_SECONDS)
        self._held: deque[_Request] = deque()
        self._held_against: object = None
        """The lists that the held ones were compared with."""
        self.socket: Socket = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.bind(ZAP_ENDPOINT)

    def answer(self) -> int:
        """Answer what is waiting, at most 256 requests. Returns how many were taken."""
        now = time.monotonic()
        if self._held:
            self._look_at_held(now)
        for count in range(_BUDGET):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return count
            self._take(frames, now)
        return _BUDGET

    def _look_at_held(self, now: float) -> None:
        lists = self.policy.allowed
        if lists is not self._held_against:
            self._held_against = lists
            held, self._held = self._held, deque()
            for request in held:
                self._judge(request, now)
        while self._held and self._held[0].due <= now:
            self._judge(self._held.popleft(), now)

    def _take(self, frames: list[bytes], now: float) -> None:
        try:
            split = frames.index(b"")
            envelope, request = frames[: split + 1], frames[split + 1 :]
            version, request_id, domain, _address, _routing_id, mechanism, *credentials = request
        except ValueError:
            # libzmq makes these requests itself; a malformed one has nobody to answer to.
            self.failures += 1
            log.warning("ZAP request of %d frames is malformed", len(frames))
            return
        asked = _Request(envelope, request_id, domain.decode("utf-8", "replace"), mechanism, credentials, now + self._patience)
        if version != _VERSION:
            self._reply(asked, Decision("500", "Unknown ZAP version"))
            return
        self._judge(asked, now)

    def _judge(self, request: _Request, now: float) -> None:
        lists = self.policy.allowed
        try:
            decision = self.policy.decide(request.domain, request.mechanism, request.credentials)
        except Exception:
            # Whatever went wrong, the peer stays out and may try again; the handler goes on.
            self.failures += 1
            log.exception("ZAP decision failed; the peer is told to try again")
            self._reply(request, Decision("300", "Internal error"))
            return
        if decision.code == "300" and now < request.due:
            if not self._held:
                self._held_against = lists
            self._held.append(request)
            if len(self._held) > MAX_HELD:
                self._reply(self._held.popleft(), decision)
            return
        self._reply(request, decision)

    def _reply(self, request: _Request, decision: Decision) -> None:
        if decision.code != "200":
            self.refused += 1
        answer = [_VERSION, request.request_id, decision.code.encode(), decision.text.encode(), decision.user_id.encode(), b""]
        try:
            self.socket.send_multipart([*request.envelope, *answer], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            # The asking session may have closed meanwhile.
            self.failures += 1
            log.debug("ZAP answer was not taken: %s", error)

    def close(self) -> None:
        """Idempotent. Handshakes in ZAP-enforced domains fail from now on."""
        self._held.clear()
        self.socket.close()
