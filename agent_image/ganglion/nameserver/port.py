"""The join port: a ROUTER that anybody may connect to, and that reads nothing but join frames of those it does not know."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

import msgspec
import zmq

from ganglion.nameserver.auth import Authenticator, AuthError
from ganglion.nameserver.member import Member
from ganglion.nameserver.reading import SocketReader
from ganglion.nameserver.registry import Registry
from ganglion.runtime.sockets import Context, CurveKeys, Socket, make_context, make_socket
from ganglion.runtime.zap import ANY_KEY, ZapHandler, ZapPolicy
from ganglion.wire.control import AdHoc, Beat, Bye, Notice, Refuse, Watch, decode, encode
from ganglion.wire.join import MAGIC, VISITOR, JoinError, decode_join

log = logging.getLogger(__name__)

ZAP_DOMAIN = "join"
MAX_FRAME_BYTES = 64 * 1024
"""A beat with 64 channels fits in it. Together with the queue bound it limits what messages of one frame can pin: 1 MiB a connection. libzmq bounds
no message of many frames: it is dropped when it is whole, and until then only a limit of the container's memory bounds it."""
_QUEUE_IN = 16
_QUEUE_OUT = 256
TICK_SECONDS = 0.25
FLUSH_SECONDS = 0.02
"""Changes within so many seconds are told together; longer while flushing itself takes long."""
_FLUSH_SHARE = 4
JOIN_GAP_SECONDS = 0.1
"""A connection's joins are looked at no more often: checking a signature is the dearest thing a stranger can ask for."""
_MAX_GAPS = 8192
_LOG_PER_SECOND = 10


class JoinPort:
    """Owns the server's context, its ZAP handler and the ROUTER; feeds the registry.

    Args:
        registry: decides.
        authenticator: judges tokens.
        keys: our CURVE keys; None with `security: None`.
        on_notice: a member has something for people.
    """

    def __init__(
        self, registry: Registry, authenticator: Authenticator, keys: CurveKeys | None, on_notice: Callable[[Member, Notice], None]
    ) -> None:
        self.registry = registry
        self.counts: Counter[str] = Counter()
        """Joins and dropped messages by outcome, for metrics."""
        self.endpoint = ""
        self.last_tick = time.monotonic()
        self._authenticator = authenticator
        self._keys = keys
        self._on_notice = on_notice
        self._policy = ZapPolicy("Curve" if keys is not None else "None")
        self._context: Context | None = None
        self._router: Socket
        self._zap: ZapHandler | None = None
        self._readers: list[SocketReader] = []
        self._flush_handle: asyncio.TimerHandle | None = None
        self._flush_after = 0.0
        self._tick_handle: asyncio.TimerHandle | None = None
        self._stuck: set[bytes] = set()
        self._joined_at: OrderedDict[bytes, float] = OrderedDict()
        self._logged: tuple[int, int] = (0, 0)

    def open(self, address: str) -> None:
        """Bind; must be called in the running loop.

        Args:
            address: `tcp://IP:port`; port `*` takes any free one.
        Raises:
            zmq.ZMQError: the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._context = make_context()
        try:
            self._policy.allow(ZAP_DOMAIN, ANY_KEY)
            self._zap = ZapHandler(self._context, self._policy)
            self._router = make_socket(
                self._context, zmq.ROUTER, curve=self._keys, zap_domain=ZAP_DOMAIN, max_message_bytes=MAX_FRAME_BYTES
            )
            self._router.set(zmq.RCVHWM, _QUEUE_IN)
            self._router.set(zmq.SNDHWM, _QUEUE_OUT)
            self._router.bind(address)
        except BaseException:
            self.close()
            raise
        self.endpoint = self._router.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
        zap = self._zap
        self._readers.append(SocketReader(loop, zap.socket, lambda: _answer_one(zap)))
        self._readers.append(SocketReader(loop, self._router, self._take))
        self._tick()

    def close(self, linger: float = 0.0) -> None:
        """Close everything; what is queued for members gets `linger` seconds. Idempotent."""
        for handle in (self._flush_handle, self._tick_handle):
            if handle is not None:
                handle.cancel()
        for reader in self._readers:
            reader.close()
        self._readers.clear()
        if self._context is None:
            return
        context, self._context = self._context, None
        if hasattr(self, "_router"):
            self._router.close(int(linger * 1000))
        if self._zap is not None:
            self._zap.close()
        context.term()

    @property
    def refused_handshakes(self) -> int:
        """Connections that ZAP did not let in (no CURVE, wrong mechanism)."""
        return self._zap.refused if self._zap is not None else 0

    # -- input ---------------------------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        frames = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
        now = time.monotonic()
        if len(frames) != 2:
            self.counts["malformed"] += 1
            return
        session, frame = frames[0].bytes, frames[1]
        user_id = str(frame.get("User-Id")) if self._keys is not None else ""
        data = frame.bytes
        if data[:2] == MAGIC:
            self._join(session, user_id, data, now)
        else:
            self._message(session, user_id, data, now)
        self.pump()

    def _join(self, session: bytes, user_id: str, data: bytes, now: float) -> None:
        if now - self._joined_at.get(session, -JOIN_GAP_SECONDS) < JOIN_GAP_SECONDS:
            self.counts["join_too_often"] += 1
            return
        self._joined_at[session] = now
        while len(self._joined_at) > _MAX_GAPS:
            self._joined_at.popitem(last=False)
        try:
            join = decode_join(data)
        except JoinError as error:
            self._refuse_join(session, Refuse(reason=error.reason, message=str(error), retry=False), "a peer")
            return
        visits = join.agent == VISITOR
        try:
            issued = 0
            if visits:
                self._authenticator.admit(join)
            else:
                issued = self._authenticator.verify(join)
        except AuthError as error:
            self.counts["join_NotAuthenticated"] += 1
            self._log("join of %s refused: %s", join.replica, error)
            self._send(session, encode(Refuse(reason="NotAuthenticated", message="not authenticated", retry=True)))
            return
        if visits:
            # It learns what programs in pods learn of their sidecar, and becomes no member.
            self.counts["join_visitor"] += 1
            self._send(session, encode(AdHoc(name_server="", host=join.host, terms=self.registry.ad_hoc)))
            return
        refuse = self.registry.join(session, user_id, join, issued, now)
        if refuse is None:
            self.counts["join_accepted"] += 1
            log.debug("%s joined (%s, start %d)", join.replica, join.host, join.start)
        else:
            self.counts[f"join_{refuse.reason}"] += 1
            self._log("join of %s refused: %s: %s", join.replica, refuse.reason, refuse.message)

    def _refuse_join(self, session: bytes, refuse: Refuse, who: str) -> None:
        self.counts[f"join_{refuse.reason}"] += 1
        self._log("join of %s refused: %s", who, refuse.message)
        self._send(session, encode(refuse))

    def _message(self, session: bytes, user_id: str, data: bytes, now: float) -> None:
        member = self.registry.member_of(session, user_id)
        if member is None:
            # Not decoded: whoever speaks here must join first.
            self.counts["not_a_member"] += 1
            self._send(session, encode(Refuse(reason="NotAuthenticated", message="not authenticated", retry=True)))
            return
        try:
            message = decode(data)
        except msgspec.MsgspecError as error:
            self.counts["malformed"] += 1
            self._log("message of %s cannot be read: %s", member.replica, error)
            return
        match message:
            case Beat():
                self.registry.beat(session, user_id, message, now)
            case Bye():
                log.info("%s says goodbye%s", member.replica, " (completed)" if message.completed else "")
                self.registry.bye(session, user_id, message, now)
            case Watch():
                self.registry.watch(session, user_id, message, now)
            case Notice():
                self._on_notice(member, message)
            case _:
                self.counts["malformed"] += 1

    # -- output --------------------------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Send what the registry has to say, and see to what it will have."""
        outbox = self.registry.outbox
        if outbox:
            for session, frame in outbox:
                self._send(session, frame)
            outbox.clear()
        if self.registry.pending and self._flush_handle is None and self._context is not None:
            self._flush_handle = self._loop.call_at(max(self._loop.time(), self._flush_after), self._flush)

    def _flush(self) -> None:
        self._flush_handle = None
        started = self._loop.time()
        self.registry.flush()
        self.pump()
        took = self._loop.time() - started
        # With a thousand members one flush is many milliseconds: the loop must get to reading beats in between.
        self._flush_after = self._loop.time() + max(FLUSH_SECONDS, took * _FLUSH_SHARE)

    def _send(self, session: bytes, frame: bytes) -> None:
        try:
            self._router.send_multipart([session, frame], zmq.NOBLOCK)
        except zmq.Again:
            # It reads nothing: it gets a snapshot once it does, unless its lease ends before.
            self._stuck.add(session)
        except zmq.ZMQError as error:
            # EHOSTUNREACH: the connection is gone; its lease will tell.
            if error.errno != zmq.EHOSTUNREACH:
                raise
        self._readers[-1].recheck()

    def _tick(self) -> None:
        now = time.monotonic()
        self.last_tick = now
        for session in self._stuck:
            self.registry.asks_snapshot(session)
        self._stuck.clear()
        for member in self.registry.tick(now):
            log.warning("%s: lease over, nothing heard for too long", member.replica)
            self.counts["lease_over"] += 1
        for replica, channel, role in self.registry.not_granted:
            self._log("%s: role %r on channel %r is not declared; it gets no peers there", replica, role, channel)
        self.registry.not_granted.clear()
        self.pump()
        self._tick_handle = self._loop.call_later(TICK_SECONDS, self._tick)

    def _log(self, message: str, *args: object) -> None:
        second = int(time.monotonic())
        since, count = self._logged
        if since != second:
            if count > _LOG_PER_SECOND:
                log.warning("%d more lines of this kind in one second", count - _LOG_PER_SECOND)
            since, count = second, 0
        self._logged = (since, count + 1)
        if count < _LOG_PER_SECOND:
            log.warning(message, *args)


def _answer_one(zap: ZapHandler) -> None:
    if not zap.answer():
        raise zmq.Again
