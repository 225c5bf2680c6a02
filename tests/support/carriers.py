"""Members of a best-effort channel or PubSub, in process and behind sidecars, with real sockets and a directory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ganglion.runtime.carrier_inlets import PullInlet, SubInlet
from ganglion.runtime.carrier_legs import Network
from ganglion.runtime.carrier_outlets import PubOutlet, PushOutlet
from ganglion.runtime.carrier_plane import CarrierPlane
from ganglion.runtime.connections import DesiredPeer, endpoint, zap_domain
from ganglion.runtime.plane import InletSpec, MessageId, Verdict
from ganglion.runtime.proxied import ProxiedChannel
from ganglion.runtime.reactor import Reactor
from ganglion.runtime.sockets import Context, CurveKeys, make_context
from ganglion.runtime.zap import ANY_KEY, ZapHandler, ZapPolicy
from ganglion.wire.control import Incarnation
from ganglion.wiring import ChannelWiring
from tests.support.loops import TestLoop
from tests.support.wirings import channel, wiring

Mode = str
MODES = ["null", "curve", "sidecars", "sidecars-curve"]


class _ZapThread(threading.Thread):
    """Answers handshakes, as the control thread does."""

    def __init__(self, handler: ZapHandler) -> None:
        super().__init__()
        self.handler, self.over = handler, threading.Event()
        self.start()

    def run(self) -> None:
        while not self.over.is_set():
            if self.handler.socket.poll(20):
                self.handler.answer()
        self.handler.close()

    def stop(self) -> None:
        self.over.set()
        self.join()


@dataclass
class Member:
    """One replica: its planes, and its sidecar when it has one."""

    name: str
    wiring_channel: ChannelWiring
    driver: TestLoop
    mode: Mode
    run_dir: Path
    context: Context = field(default_factory=make_context)
    got: list[Any] = field(default_factory=list)
    errors: list[tuple[MessageId, BaseException]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reactor = Reactor(self.driver.loop)
        curve = self.mode in ("curve", "sidecars-curve")
        self.keys = CurveKeys.generate() if curve else None
        self.zap: _ZapThread | None = None
        if curve:
            policy = ZapPolicy()
            policy.allow(zap_domain(self.wiring_channel), ANY_KEY)
            self.zap = _ZapThread(ZapHandler(self.context, policy))
        document = wiring(self.wiring_channel)
        network = Network(self.context, "127.0.0.1", 0, self.keys)
        self.sidecar: ProxiedChannel | None = None
        if self.mode.startswith("sidecars"):
            self.run_dir.mkdir()
            self.sidecar = ProxiedChannel(network, document, self.wiring_channel, self.reactor, run_dir=self.run_dir, replica=self.name)
            self.plane = CarrierPlane(document, self.reactor, self.name, behind=(self.context, self.run_dir))
        else:
            self.plane = CarrierPlane(document, self.reactor, self.name, network=network)
        self.part: PushOutlet | PubOutlet | PullInlet | SubInlet

    def opened(self, handler: Callable[..., Any] | None = None, **spec: Any) -> Member:
        """Open the outlet, or the inlet with a handler that collects."""
        if self.wiring_channel.sends:
            self.part = self.plane.outlet(self.wiring_channel)
            return self
        topics = self.wiring_channel.role == "Sub"
        collect: Callable[..., Any] = (lambda topic, value: self.got.append((topic, value))) if topics else self.got.append

        def failed(message: MessageId, error: BaseException) -> Verdict:
            self.errors.append((message, error))
            return Verdict.DONE

        self.part = self.plane.inlet(
            self.wiring_channel, InletSpec(self.wiring_channel.alias, decode=bytes, handler=handler or collect, on_error=failed, **spec)
        )
        self.part.start()
        return self

    @property
    def outlet(self) -> PushOutlet | PubOutlet:
        assert isinstance(self.part, PushOutlet | PubOutlet)
        return self.part

    @property
    def inlet(self) -> PullInlet | SubInlet:
        assert isinstance(self.part, PullInlet | SubInlet)
        return self.part

    @property
    def wired(self) -> int:
        return self.sidecar.wired if self.sidecar is not None else self.part.wired

    def peer(self, start: int = 1) -> DesiredPeer:
        port = self.sidecar.tcp_port if self.sidecar is not None else self.part.tcp_port
        where = endpoint("127.0.0.1", port) if port else ""
        return DesiredPeer(
            self.name, self.name, Incarnation("u", start, 1), self.keys.public if self.keys else "", where, wired=self.wired > 0
        )

    def apply(self, *peers: Member) -> None:
        want = {other.name: other.peer() for other in peers}
        self.plane.apply({self.wiring_channel.alias: want})
        if self.sidecar is not None:
            self.sidecar.apply(want)

    def close(self) -> None:
        self.plane.close()
        if self.sidecar is not None:
            assert self.sidecar.close()
        self.reactor.close()
        if self.zap is not None:
            self.zap.stop()
        self.context.term()


class World:
    """Members of one channel, and their directory."""

    def __init__(self, driver: TestLoop, tmp_path: Path) -> None:
        self.driver = driver
        self.tmp_path = tmp_path
        self.members: list[Member] = []

    def add(self, name: str, role: str, mode: Mode, *, bind: bool, handler: Callable[..., Any] | None = None, **other: Any) -> Member:
        spec = {key: other.pop(key) for key in ("topics", "polled", "mark", "on_reply") if key in other}
        fields = {"delivery": "BestEffort", "linger_seconds": 0.0} | other
        member = Member(name, channel(role.lower(), "c", role, bind=bind, **fields), self.driver, mode, self.tmp_path / name)
        self.members.append(member)
        return member.opened(handler, **spec)

    def directory(self) -> None:
        """Tell everybody about everybody of the opposite role."""
        for member in self.members:
            member.apply(*(other for other in self.members if other.wiring_channel.role == member.wiring_channel.peer_role))

    def wire(self) -> None:
        """Connect all, and let the directory carry what they report."""
        connectors = [member for member in self.members if not member.wiring_channel.bind]
        binders = len(self.members) - len(connectors)
        self.directory()
        self.driver.until(lambda: all(member.wired == binders for member in connectors), what="all connectors wired")
        # Connectors report it, then binders see it and report it too.
        self.directory()
        self.directory()

    def remove(self, member: Member) -> None:
        self.members.remove(member)
        self.directory()
        member.close()


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]
