"""Best-effort PushPull and PubSub between SDK peers, with real sockets: in process, and through two sidecars' proxies."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import zmq

from ganglion.runtime.carrier_inlets import PullInlet, SubInlet
from ganglion.runtime.carrier_legs import CarrierLeg, Network
from ganglion.runtime.carrier_outlets import PubOutlet, PushOutlet
from ganglion.runtime.carrier_plane import CarrierPlane
from ganglion.runtime.connections import DesiredPeer, endpoint, zap_domain
from ganglion.runtime.errors import ChannelClosed, MessageTooLarge, SendTimeout
from ganglion.runtime.plane import InletSpec, MessageId, Verdict
from ganglion.runtime.proxied import ProxiedChannel
from ganglion.runtime.reactor import Reactor
from ganglion.runtime.sockets import Context, CurveKeys, make_context
from ganglion.runtime.zap import ANY_KEY, ZapHandler, ZapPolicy
from ganglion.wire.control import Incarnation
from ganglion.wiring import BarrierWiring, ChannelWiring
from tests.support.loops import TestLoop, running_loop
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
        spec = {key: other.pop(key) for key in ("topics", "polled") if key in other}
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


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running_loop() as driver:
        world = World(driver, tmp_path)
        yield world
        for member in world.members:
            member.close()


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("binder", ["Push", "Pull"])
def test_everything_sent_arrives_once_and_in_order(world: World, mode: Mode, binder: str) -> None:
    senders = [world.add(f"s-{i}", "Push", mode, bind=binder == "Push") for i in range(2)]
    receivers = [world.add(f"w-{i}", "Pull", mode, bind=binder == "Pull") for i in range(2)]
    world.wire()
    assert [sender.outlet.wired for sender in senders] == [2, 2]
    for number in range(3000):
        for index, sender in enumerate(senders):
            sender.outlet.send(b"%d:%d" % (index, number))
    for sender in senders:
        sender.outlet.flush()
    world.driver.until(lambda: sum(len(receiver.got) for receiver in receivers) >= 6000, what="all messages")
    every = [message for receiver in receivers for message in receiver.got]
    assert sorted(every) == sorted(b"%d:%d" % (i, n) for i in range(2) for n in range(3000))
    for receiver in receivers:
        for index in range(2):
            mine = [int(message.split(b":")[1]) for message in receiver.got if message.startswith(b"%d:" % index)]
            assert mine == sorted(mine)
    for sender in senders:
        ledger = sender.outlet.ledger()
        assert (ledger.accepted, ledger.acked, ledger.in_flight, ledger.dropped) == (3000, 3000, 0, 0)
        assert sender.outlet.at_rest
    assert sum(receiver.inlet.delivered for receiver in receivers) == 6000


def test_ready_messages_share_a_frame(world: World) -> None:
    sender, receiver = world.add("s", "Push", "null", bind=True), world.add("w", "Pull", "null", bind=False)
    frames = []
    batch = receiver.inlet._batch
    receiver.inlet._batch = lambda frame, *topic: (frames.append(frame), batch(frame, *topic))  # type: ignore[method-assign,assignment,func-returns-value]
    world.wire()
    sender.reactor.dispatching = True  # as inside a handler: nothing leaves before the input has drained
    for body in numbers(200):
        sender.outlet.send(body)
    sender.reactor.dispatching = False
    sender.outlet.flush()
    world.driver.until(lambda: len(receiver.got) == 200)
    assert len(frames) == 4
    assert receiver.got == numbers(200)


def test_a_lone_message_leaves_without_flush(world: World) -> None:
    sender, receiver = world.add("s", "Push", "null", bind=True), world.add("w", "Pull", "null", bind=False)
    world.wire()
    sender.outlet.send(b"x")
    world.driver.until(lambda: receiver.got == [b"x"])


@pytest.mark.parametrize("mode", ["null", "sidecars"])
def test_bare_frames_carry_bodies_as_they_are(world: World, mode: Mode) -> None:
    sender = world.add("s", "Push", mode, bind=True, frames="Bare")
    receiver = world.add("w", "Pull", mode, bind=False, frames="Bare")
    world.wire()
    for body in numbers(500):
        sender.outlet.send(body)
    world.driver.until(lambda: len(receiver.got) == 500)
    assert receiver.got == numbers(500)
    assert receiver.inlet.delivered == 500


def test_a_full_channel_blocks_until_the_timeout_and_accepts_nothing(world: World) -> None:
    sender = world.add("s", "Push", "null", bind=True, high_water_mark=8)
    for body in numbers(8):
        sender.outlet.send(body)
    with pytest.raises(SendTimeout, match="8 messages wait"):
        sender.outlet.send(b"9", timeout=0.05)
    assert sender.outlet.ledger().accepted == 8
    receiver = world.add("w", "Pull", "null", bind=False, high_water_mark=8)
    world.wire()
    world.driver.until(lambda: receiver.got == numbers(8))
    sender.outlet.send(b"8")
    world.driver.until(lambda: receiver.got == numbers(9))


def test_a_blocked_send_goes_on_when_the_receiver_takes_messages(world: World) -> None:
    """Sender and receiver in two contexts: the send blocks in the main thread, so the receiver is a plain thread-less socket read before it."""
    sender = world.add("s", "Push", "null", bind=True, high_water_mark=16, frames="Bare")
    pull = sender.context.socket(zmq.PULL)
    pull.rcvhwm = 1
    pull.connect(endpoint("127.0.0.1", sender.outlet.tcp_port))
    started = time.monotonic()
    blocked = 0
    for number in range(200_000):
        try:
            sender.outlet.send(b"%7d" % number + bytes(4096), timeout=0.01)
        except SendTimeout:
            blocked += 1
            break
    assert blocked == 1
    assert pull.poll(5000)
    while pull.poll(100):
        pull.recv()
    sender.outlet.send(b"again", timeout=10)
    assert time.monotonic() - started < 60
    pull.close(0)


def test_drop_newest_counts(world: World) -> None:
    sender = world.add("s", "Push", "null", bind=True, high_water_mark=8, overflow="DropNewest")
    ids = [sender.outlet.send(body) for body in numbers(20)]
    assert [i.seq for i in ids] == list(range(20))
    ledger = sender.outlet.ledger()
    assert (ledger.accepted, ledger.in_flight, ledger.dropped) == (20, 8, 12)
    receiver = world.add("w", "Pull", "null", bind=False, high_water_mark=8)
    world.wire()
    world.driver.until(lambda: len(receiver.got) == 8)
    sender.outlet.send(b"20")
    world.driver.until(lambda: receiver.got == [*numbers(8), b"20"])
    ledger = sender.outlet.ledger()
    assert ledger.accepted == ledger.acked + ledger.dropped == 21


def test_what_cannot_be_sent_is_refused(world: World) -> None:
    sender = world.add("s", "Push", "null", bind=True, max_message_bytes=10)
    with pytest.raises(MessageTooLarge, match="found 11 bytes, maxMessageBytes is 10"):
        sender.outlet.send(bytes(11))
    with pytest.raises(MessageTooLarge):
        sender.outlet.send(memoryview(bytes(16)).cast("Q"))
    sender.outlet.end()
    assert sender.outlet.ended
    with pytest.raises(ChannelClosed):
        sender.outlet.send(b"x")
    with pytest.raises(TypeError):
        sender.outlet.request(b"", timeout=1, on_reply=lambda _: None)
    assert sender.outlet.ledger().accepted == 0


def test_a_reused_buffer_does_not_change_what_was_sent(world: World) -> None:
    sender, receiver = world.add("s", "Push", "null", bind=True), world.add("w", "Pull", "null", bind=False)
    buffer = bytearray(b"first")
    sender.outlet.send(memoryview(buffer))
    buffer[:] = b"later"
    world.wire()
    world.driver.until(lambda: receiver.got == [b"first"])


@pytest.mark.parametrize("mode", MODES)
def test_receivers_come_and_go(world: World, mode: Mode) -> None:
    sender = world.add("s", "Push", mode, bind=True)
    first = world.add("w-0", "Pull", mode, bind=False)
    world.wire()
    sender.outlet.send(b"one")
    world.driver.until(lambda: first.got == [b"one"])
    second = world.add("w-1", "Pull", mode, bind=False)
    world.wire()
    world.remove(first)
    world.driver.until(lambda: second.wired == 1)
    sent = 0

    def arrives() -> bool:
        nonlocal sent
        sender.outlet.send(b"two")
        sent += 1
        return b"two" in second.got

    world.driver.until(arrives)
    assert sender.outlet.ledger().acked == sent + 1


@pytest.mark.parametrize("mode", ["curve", "sidecars-curve"])
def test_a_binder_back_with_another_key_gets_messages_again(world: World, mode: Mode) -> None:
    sender = world.add("s", "Push", mode, bind=False)
    old = world.add("w", "Pull", mode, bind=True)
    world.wire()
    sender.outlet.send(b"one")
    world.driver.until(lambda: old.got == [b"one"])
    world.remove(old)
    (new := Member("w", old.wiring_channel, world.driver, mode, world.tmp_path / "again")).opened()
    world.members.append(new)
    world.wire()
    sender.outlet.send(b"two")
    world.driver.until(lambda: new.got == [b"two"])


@pytest.mark.parametrize("mode", ["curve", "sidecars-curve"])
@pytest.mark.parametrize("poison", [{"key": "#" * 40}, {"endpoint": "tcp://127.0.0.1:-5"}], ids=["key", "port"])
def test_a_peer_that_cannot_be_connected_to_keeps_nobody_from_the_others(world: World, mode: Mode, poison: dict[str, Any]) -> None:
    """A member says itself what its key and its port are."""
    sender = world.add("s", "Push", mode, bind=False)
    receiver = world.add("w", "Pull", mode, bind=True)
    receiver.apply(sender)
    bad = replace(receiver.peer(), replica="bad", **poison)
    want = {"bad": bad, "w": receiver.peer()}
    sender.plane.apply({"push": want})
    if sender.sidecar is not None:
        sender.sidecar.apply(want)
    sender.outlet.send(b"one")
    world.driver.until(lambda: receiver.got == [b"one"])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("binder", ["Pub", "Sub"])
def test_topics_match_by_prefix_and_hold_any_byte(world: World, mode: Mode, binder: str) -> None:
    publisher = world.add("p", "Pub", mode, bind=binder == "Pub")
    some = world.add("a", "Sub", mode, bind=binder == "Sub", topics=(b"\x00\x80", b"news."))
    every = world.add("b", "Sub", mode, bind=binder == "Sub")
    world.wire()
    world.driver.until(lambda: publisher.outlet.wired == 2, what="two subscribers")
    sent = [(b"news.sport", b"1"), (b"new", b"2"), (b"\x00\x80\xff", b"3"), (b"", b"4"), (b"\xff\xfe", b"5"), (b"news.", b"6")]
    for topic, body in sent:
        publisher.outlet.send(body, topic=topic)
    world.driver.until(lambda: len(every.got) == 6)
    assert every.got == sent
    world.driver.until(lambda: len(some.got) == 3)
    assert some.got == [sent[0], sent[2], sent[5]]
    some.inlet.subscribe(b"late")
    some.inlet.unsubscribe(b"news.")

    def resubscribed() -> bool:
        publisher.outlet.send(b"x", topic=b"later")
        publisher.outlet.send(b"x", topic=b"news.")
        return (b"later", b"x") in some.got

    world.driver.until(resubscribed)
    seen = len(some.got)
    world.driver.until(lambda: resubscribed() and len(some.got) > seen + 3)
    assert (b"news.", b"x") not in some.got[seen + 1 :]


@pytest.mark.parametrize("mode", ["null", "sidecars"])
def test_equal_subscriptions_count_apart_and_leave(world: World, mode: Mode) -> None:
    publisher = world.add("p", "Pub", mode, bind=True)
    for index in range(3):
        world.add(f"s-{index}", "Sub", mode, bind=False)
    world.wire()
    world.driver.until(lambda: publisher.outlet.wired == 3, what="three subscribers")
    world.remove(world.members[-1])
    world.driver.until(lambda: publisher.outlet.wired == 2, what="two subscribers")
    world.members[-1].inlet.stop_intake()
    world.driver.until(lambda: publisher.outlet.wired == 1, what="one subscriber")


@pytest.mark.parametrize("frames", ["Ganglion", "Bare"])
@pytest.mark.parametrize("mode", ["null", "sidecars-curve"])
def test_the_barrier_loses_no_first_publication(world: World, mode: Mode, frames: str) -> None:
    publisher = world.add("p", "Pub", mode, bind=True, frames=frames, barrier=BarrierWiring(peers=3, timeout_seconds=60))
    for body in numbers(10):
        publisher.outlet.send(body, topic=b"t")
    world.driver.until(lambda: publisher.outlet.ledger().in_flight == 10)
    subscribers = [world.add(f"s-{i}", "Sub", mode, bind=False, frames=frames) for i in range(2)]
    world.wire()
    world.driver.until(lambda: publisher.outlet.wired == 2)
    assert publisher.outlet.ledger().in_flight == 10
    assert not publisher.outlet.at_rest
    subscribers.append(world.add("s-2", "Sub", mode, bind=False, frames=frames))
    world.wire()
    for subscriber in subscribers:
        world.driver.until(lambda: len(subscriber.got) == 10, what="ten publications")  # noqa: B023 - this round's
        assert subscriber.got == [(b"t", body) for body in numbers(10)]
    assert publisher.outlet.at_rest


def test_the_barrier_holds_pushes_up_to_the_high_water_mark_and_opens_by_timeout(world: World) -> None:
    sender = world.add("s", "Push", "null", bind=True, high_water_mark=20, barrier=BarrierWiring(peers=2, timeout_seconds=0.5))
    receiver = world.add("w", "Pull", "null", bind=False, high_water_mark=20)
    world.wire()
    for body in numbers(20):
        sender.outlet.send(body)
    assert sender.outlet.ledger().in_flight == 20
    sender.outlet.send(b"20")  # blocks until the barrier's timeout
    assert sender.outlet.gate.timed_out
    world.driver.until(lambda: receiver.got == numbers(21))


def test_a_handlers_exception_is_reported_with_the_messages_id(world: World) -> None:
    def handler(value: bytes) -> None:
        if value == b"1":
            raise ValueError("no ones")
        receiver.got.append((receiver.inlet.current, value))

    sender = world.add("s", "Push", "null", bind=True)
    receiver = world.add("w", "Pull", "null", bind=False, handler=handler)
    world.wire()
    ids = [sender.outlet.send(body) for body in numbers(3)]
    world.driver.until(lambda: len(receiver.got) == 2)
    assert receiver.got == [(ids[0], b"0"), (ids[2], b"2")]
    assert [(i, str(error)) for i, error in receiver.errors] == [(ids[1], "no ones")]
    assert (receiver.inlet.delivered, receiver.inlet.failed) == (3, 1)
    assert receiver.inlet.current is None


def test_coroutine_handlers_run_beside_each_other_up_to_the_window(world: World) -> None:
    gates: list[asyncio.Future[None]] = []

    async def handler(value: bytes) -> None:
        if value == b"0":
            receiver.got.append(value)
            return
        gate = asyncio.get_running_loop().create_future()
        gates.append(gate)
        await gate
        receiver.got.append((receiver.inlet.current, value))
        if value == b"2":
            raise ValueError("two")

    sender = world.add("s", "Push", "null", bind=True, frames="Bare")
    receiver = world.add("w", "Pull", "null", bind=False, handler=handler, high_water_mark=16, frames="Bare")
    world.wire()
    for body in numbers(10):
        sender.outlet.send(body)
    world.driver.until(lambda: len(gates) == 4 and receiver.got == [b"0"], what="a window of handlers")
    assert receiver.inlet.current is None
    assert not receiver.inlet.idle

    def open_gates() -> bool:
        for gate in gates:
            if not gate.done():
                gate.set_result(None)
        return len(receiver.got) == 10

    world.driver.until(open_gates)
    assert [value for _, value in receiver.got[1:]] == numbers(9, 1)
    assert receiver.got[1][0] == MessageId(0, 1)
    assert [str(error) for _, error in receiver.errors] == ["two"]
    world.driver.until(lambda: receiver.inlet.idle)


def test_polled_messages_wait_for_their_future(world: World) -> None:
    futures: list[asyncio.Future[Any]] = []

    def handler(value: bytes) -> asyncio.Future[Any]:
        futures.append(world.driver.loop.create_future())
        return futures[-1]

    sender = world.add("s", "Push", "null", bind=True, frames="Bare")
    receiver = world.add("w", "Pull", "null", bind=False, handler=handler, high_water_mark=16, frames="Bare", polled=True)
    world.wire()
    for body in numbers(10):
        sender.outlet.send(body)
    world.driver.until(lambda: len(futures) == 4)
    futures[0].set_result(None)
    world.driver.until(lambda: len(futures) == 5)
    futures[1].set_exception(RuntimeError("handed back"))
    world.driver.until(lambda: len(futures) == 6)
    assert [str(error) for _, error in receiver.errors] == ["handed back"]
    for future in futures[2:]:
        future.cancel()


def test_garbage_is_dropped_and_counted(world: World) -> None:
    receiver = world.add("w", "Pull", "null", bind=True)
    with receiver.context.socket(zmq.PUSH) as stranger:
        stranger.connect(endpoint("127.0.0.1", receiver.inlet.tcp_port))
        stranger.send(b"garbage")
        stranger.send(b"D\x01")
        stranger.send_multipart([b"a", b"b"])
        world.driver.until(lambda: receiver.inlet.malformed >= 3)
    assert receiver.got == []


def test_close_waits_for_what_is_held(world: World) -> None:
    sender = world.add("s", "Push", "null", bind=False)
    receiver = world.add("w", "Pull", "null", bind=True)
    for body in numbers(100):
        sender.outlet.send(body)
    sender.apply(receiver)
    sender.outlet.close(5.0)
    world.driver.until(lambda: len(receiver.got) == 100)
    assert receiver.got == numbers(100)
    assert sender.outlet.ledger().dropped == 0
    other = world.add("s2", "Push", "null", bind=True)
    other.outlet.send(b"nobody is there")
    other.outlet.close(0.05)
    assert other.outlet.ledger().dropped == 1


@pytest.mark.parametrize("mode", ["null", "sidecars"])
def test_what_a_sender_left_behind_is_read_before_it_is_let_go(world: World, mode: Mode) -> None:
    """The directory says that the sender has gone, and its connection is over, while its messages wait in the receiver's queue."""
    sender = world.add("s", "Push", mode, bind=True, linger_seconds=5.0)
    receiver = world.add("w", "Pull", mode, bind=False)
    world.wire()
    receiver.inlet.stop_intake()
    for body in numbers(600):
        sender.outlet.send(body)
    sender.outlet.flush()
    world.members.remove(sender)
    sender.plane.close()
    if sender.sidecar is not None:
        sender.sidecar.leave()
        world.driver.until(lambda: sender.sidecar is not None and sender.sidecar.left, what="everything sent")
    sender.close()
    leg = receiver.sidecar._leg if receiver.sidecar is not None else receiver.inlet._leg
    assert isinstance(leg, CarrierLeg)

    def over() -> bool:
        leg.monitor.drain()
        return not leg.monitor.up

    world.driver.until(over, what="the end of the connection")
    world.directory()
    receiver.inlet.resume_intake()
    world.driver.until(lambda: len(receiver.got) == 600, what="what was left behind")
    world.driver.until(lambda: not leg._have, what="the disconnect")


@pytest.mark.parametrize("mode", ["null", "curve"])
def test_a_receiver_that_is_busy_for_long_loses_nothing(world: World, mode: Mode) -> None:
    """Its queue is full for longer than any heartbeat's timeout, and the sender has gone meanwhile."""
    sender = world.add("s", "Push", mode, bind=True, linger_seconds=10.0, high_water_mark=16)
    receiver = world.add("w", "Pull", mode, bind=False, high_water_mark=16)
    world.wire()
    receiver.inlet.stop_intake()
    for body in numbers(2000):
        sender.outlet.send(body)
    sender.outlet.flush()
    world.members.remove(sender)
    sender.close()
    busy_until = time.monotonic() + 5.5
    # The condition is the passing of time itself: nothing else tells that no heartbeat has ended the connection.
    world.driver.until(lambda: time.monotonic() > busy_until)
    receiver.inlet.resume_intake()
    world.driver.until(lambda: len(receiver.got) == 2000, what="every message")
