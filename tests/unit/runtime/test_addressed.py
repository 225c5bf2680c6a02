"""Messages that name their receiver: who there is, who waits for whom, and what becomes of what nobody will take."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from ganglion.runtime.addressed_outlet import AddressedOutlet
from ganglion.runtime.addressed_sender import AddressedSender
from ganglion.runtime.addressees import Addressees, no_such
from ganglion.runtime.batches import buffer
from ganglion.runtime.connections import DesiredPeer
from ganglion.runtime.errors import ChannelClosed, ReceiverAbsent, UnknownReceiver
from ganglion.runtime.links import Link
from ganglion.runtime.plane import MessageId
from ganglion.runtime.reactor import Reactor
from ganglion.wire import frames
from ganglion.wire.control import Addresses, ChannelState, Incarnation
from ganglion.wire.frames import DEAD, DONE
from ganglion.wire.replicas import address_of
from tests.support.wirings import channel as wired


def known(*present: str, **declared: Addresses) -> Addressees:
    peers = [
        DesiredPeer(replica=name, agent=name.rsplit("-", 1)[0], incarnation=Incarnation("u", 1, 1), key="", endpoint="") for name in present
    ]
    return Addressees(peers, ChannelState(receivers=declared))


@pytest.mark.parametrize(
    ("address", "there"),
    [
        ("a-0", True), ("a-2", True), ("a-3", False), ("a-1", False), ("a-00", False), ("a-x", False), ("a", False), ("", False),
        ("a-٢", False), ("b-0", False), ("late-9", True),
    ],
)  # fmt: skip
def test_who_there_is(address: str, there: bool) -> None:
    found = known("late-9", a=Addresses(3, (1,)))
    assert (address in found) is there
    assert "anybody" in Addressees(), "nothing is known yet"


def test_the_error_names_who_there_is() -> None:
    found = known(**{f"agent{n}": Addresses(n) for n in range(11)})
    assert no_such("talk", "x-1", found) == (
        "channel 'talk': no replica 'x-1' receives on it, or will again; there are: agent1-0, agent10-0 to agent10-9, agent2-0 to agent2-1,"
        " agent3-0 to agent3-2, agent4-0 to agent4-3, agent5-0 to agent5-4, agent6-0 to agent6-5, agent7-0 to agent7-6 and others"
    )


def test_the_pods_of_a_job_have_the_address_of_their_index() -> None:
    assert [address_of("a", replica) for replica in ("a-3", "a-3-x7k2p", "b-1", "a")] == ["a-3", "a-3", "b-1", "a"]


class Side:
    """An addressed sender with links that are written down."""

    def __init__(self, bound: int = 100) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.dead: list[tuple[bytes, str]] = []
        self.acked: list[tuple[int, int, int]] = []
        self.news: list[tuple[str, bool]] = []
        self.next = 0
        self.sender = AddressedSender(
            lambda key: str(key).partition("/")[0],
            bound,
            on_absent=lambda address, absent: self.news.append((address, absent)),
            on_settled=lambda _batch: None,
            on_acked=lambda _stream, first, count, code: self.acked.append((first, count, code)),
            on_dead=lambda _id, body, why: self.dead.append((body, why)),
        )

    def offer(self, to: str, *bodies: bytes, stream: int = 1) -> bytes:
        frame = frames.encode_data(stream, self.next, bodies, ext={"to": to})
        self.next += len(bodies)
        assert self.sender.offer(frame)
        self.sender.pump()
        return frame

    def link(self, key: str) -> None:
        self.sender.add_link(key, lambda frame: self.sent.append((key, bytes(frames.decode_data(buffer(frame)).body(0)))))
        self.sender.grant(key, 10, 1 << 20)
        self.sender.pump()

    def check(self) -> None:
        ledger = self.sender.ledger()
        assert ledger.accepted == ledger.acked + ledger.in_flight + ledger.dead_lettered + ledger.dropped


def test_each_gets_its_own_and_an_absent_one_blocks_nobody() -> None:
    side = Side()
    side.link("a-0")
    for number in range(5):
        side.offer("b-0", b"b%d" % number)
        side.offer("a-0", b"a%d" % number)
    assert [body for key, body in side.sent if key == "a-0"] == [b"a0", b"a1", b"a2", b"a3", b"a4"]
    assert [key for key, _ in side.sent] == ["a-0"] * 5
    assert side.news == [("b-0", True)]
    side.link("b-0")
    assert [body for key, body in side.sent if key == "b-0"] == [b"b0", b"b1", b"b2", b"b3", b"b4"]
    assert side.news == [("b-0", True), ("b-0", False)]
    side.sender.ack("b-0", [(1, 0, 10, DONE)])
    assert (side.sender.in_flight, side.sender.in_flight_of(1)) == (5, 5), "nobody settles what another holds"
    side.check()


def test_what_a_life_held_goes_to_the_next_life_of_the_same() -> None:
    side = Side()
    side.link("a-0/1")
    side.link("b-0")
    side.offer("a-0", b"one")
    side.sender.lost("a-0/1", charge=True)
    side.sender.pump()
    assert side.sent == [("a-0/1", b"one")]
    side.link("a-0/2")
    assert side.sent[1:] == [("a-0/2", b"one")]
    side.check()


def test_who_is_gone_for_good_leaves_dead_letters() -> None:
    side = Side()
    side.sender.set_addressees(known("a-0", a=Addresses(2)))
    side.link("a-0")
    side.offer("a-0", b"held")
    side.offer("a-1", b"waits", b"too")
    side.sender.set_addressees(known("a-0", a=Addresses(0)))
    gone = "its receiver 'a-1' is gone for good: it was scaled away, deleted or is done, or never was"
    assert side.dead == [(b"waits", gone), (b"too", gone)]
    assert (1, 1, DEAD) in side.acked
    assert side.sender.in_flight == 1, "who leaves may still settle what it holds"
    side.sender.set_addressees(known(a=Addresses(0)))
    assert side.sender.in_flight == 1, "its link is still there"
    side.sender.lost("a-0", charge=False)
    assert [body for body, _ in side.dead] == [b"waits", b"too", b"held"]
    assert side.sender.at_rest
    side.check()
    side.offer("c-0", b"never")
    assert side.dead[-1][0] == b"never"
    assert side.sender.at_rest
    side.check()


def test_a_sender_that_crashes_again_and_again_fills_no_memory() -> None:
    side = Side(bound=3)
    for number in range(5):
        side.offer("b-0", b"%d" % number, stream=number)
    assert side.sender.in_flight == 3
    assert side.dead == [(body, "3 messages wait for 'b-0' already") for body in (b"3", b"4")]
    side.check()


def test_a_message_that_fails_three_times_says_for_whom_it_was() -> None:
    side = Side()
    side.link("a-0")
    side.offer("a-0", b"bad")
    for _ in range(3):
        side.sender.ack("a-0", [(1, 0, 1, frames.REJECTED)])
        side.sender.pump()
    assert side.dead == [(b"bad", "for 'a-0': its handler raised, 3 attempts")]


@pytest.mark.parametrize("ext", [None, {}, {"to": ""}, {"to": 7}, {"to": "x" * 254}])
def test_a_batch_for_nobody_is_refused(ext: Any) -> None:
    with pytest.raises(frames.FrameError, match="field to: found"):
        Side().sender.offer(frames.encode_data(1, 0, [b""], ext=ext))


def test_who_is_gone_is_absent_no_more() -> None:
    side = Side()
    side.sender.set_addressees(known(b=Addresses(1)))
    side.offer("b-0", b"waits")
    side.sender.set_addressees(known(b=Addresses(0)))
    assert side.news == [("b-0", True), ("b-0", False)]
    side.sender.set_addressees(known(b=Addresses(1)))
    side.link("b-0")
    side.offer("b-0", b"new")
    assert side.sent == [("b-0", b"new")]
    side.offer("c-0", b"for nobody")
    assert side.news == [("b-0", True), ("b-0", False)]


def test_who_hears_anew_is_told_anew() -> None:
    side = Side()
    side.offer("b-0", b"waits")
    side.sender.tell_absent()
    assert side.news == [("b-0", True)] * 2


# -- the agent's side


class Peer(Link):
    """A link that writes down what it is given."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address
        self.up = True
        self.frames: list[bytes] = []

    def send(self, frame: Any) -> bool:
        self.frames.append(bytes(frame))
        return True

    def bodies(self) -> list[bytes]:
        found = [frames.decode_data(frame) for frame in self.frames if frames.is_data(frame)]
        return [bytes(data.body(index)) for data in found for index in range(data.head.n)]


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    loop = asyncio.new_event_loop()
    reactor = Reactor(loop)
    yield reactor
    reactor.close()
    loop.close()


def outlet_of(reactor: Reactor, *, behind: bool, mark: int = 4) -> tuple[AddressedOutlet, list[tuple[MessageId, bytes, str]]]:
    dead: list[tuple[MessageId, bytes, str]] = []
    channel = wired("talk", "talk", "Push", bind=False, addressed=True, high_water_mark=mark)
    outlet = AddressedOutlet(reactor, channel, behind=behind, on_dead=lambda *one: dead.append(one))
    return outlet, dead


def grant(outlet: AddressedOutlet, link: Peer, **more: Any) -> None:
    outlet.link_frame(link, frames.WELCOME, frames.encode_control(frames.WELCOME, {"messages": 100, "bytes": 1 << 20, **more}), b"")


def test_in_process_each_link_gets_its_own(reactor: Reactor) -> None:
    outlet, dead = outlet_of(reactor, behind=False)
    for name in (b"\xff-0", b"x" * 254):
        with pytest.raises(UnknownReceiver, match="receives on it"):
            outlet.send(b"", topic=name)
    outlet.set_addressees(known(a=Addresses(2)))
    first = Peer("a-0")
    outlet.link_up(first)
    grant(outlet, first)
    for number in range(4):
        outlet.send(b"%d" % number, topic=b"a-1")
    with pytest.raises(ReceiverAbsent, match=r"'a-1' is not there, and 4 messages \(highWaterMark\) wait for it"):
        outlet.send(b"4", topic=b"a-1")
    outlet.send(b"x", topic=b"a-0")
    outlet.flush()
    assert first.bodies() == [b"x"]
    assert outlet.wired == 1
    second = Peer("a-1")
    outlet.link_up(second)
    grant(outlet, second)
    assert second.bodies() == [b"0", b"1", b"2", b"3"]
    ids = [(data.head.stream, data.head.first, data.head.n) for data in map(frames.decode_data, filter(frames.is_data, second.frames))]
    outlet.link_frame(second, frames.ACK, frames.encode_ack([(stream, start, n, DONE) for stream, start, n in ids]), b"")
    assert (outlet.ledger().acked, outlet.ledger().in_flight) == (4, 1)
    with pytest.raises(UnknownReceiver, match="no replica 'a-2' receives on it, or will again; there are: a-0 to a-1"):
        outlet.send(b"", topic=b"a-2")
    with pytest.raises(UnknownReceiver, match=r"a Router says which replica a message is for: send\(..., to=...\)"):
        outlet.send(b"")
    outlet.set_addressees(known(a=Addresses(0)))
    assert not dead, "its link may still settle it"
    with pytest.raises(UnknownReceiver):
        outlet.send(b"", topic=b"a-0")
    outlet.link_down(first, crashed=False)
    assert [(body, "'a-0' is gone for good" in why) for _, body, why in dead] == [(b"x", True)]
    outlet.set_addressees(known(a=Addresses(0)))
    ledger = outlet.ledger()
    assert (ledger.accepted, ledger.acked, ledger.dead_lettered, ledger.in_flight) == (5, 4, 1, 0), "the account outlives its parts"
    outlet.set_addressees(known(a=Addresses(2)))
    outlet.send(b"again", topic=b"a-1")
    outlet.flush()
    assert second.bodies()[-1] == b"again"
    outlet.end()
    with pytest.raises(ChannelClosed):
        outlet.send(b"", topic=b"a-0")
    assert not outlet.ended
    outlet.close(0.0)


def test_behind_a_sidecar_all_share_the_leg_and_it_tells_who_is_absent(reactor: Reactor) -> None:
    outlet, _ = outlet_of(reactor, behind=True)
    leg = Peer("")
    outlet.link_up(leg)
    grant(outlet, leg, wired=1)
    assert outlet.wired == 1
    for number in range(4):
        outlet.send(b"%d" % number, topic=b"a-0")
        outlet.send(b"%d" % number, topic=b"b-0")
    outlet.flush()
    assert sorted(leg.bodies()) == sorted([b"0", b"1", b"2", b"3"] * 2)
    assert {frames.decode_data(frame).ext["to"] for frame in leg.frames if frames.is_data(frame)} == {"a-0", "b-0"}
    outlet.link_frame(leg, frames.WELCOME, frames.encode_control(frames.WELCOME, {"absent": "b-0"}), b"")
    with pytest.raises(ReceiverAbsent):
        outlet.send(b"4", topic=b"b-0")
    outlet.link_frame(leg, frames.WELCOME, frames.encode_control(frames.WELCOME, {"back": "b-0"}), b"")
    with pytest.raises(TimeoutError, match="4 messages are unacknowledged"):
        outlet.send(b"4", topic=b"b-0", timeout=0.01)
    # Scaled away and up again before all that waited for it is settled.
    outlet.link_frame(leg, frames.WELCOME, frames.encode_control(frames.WELCOME, {"absent": "b-0"}), b"")
    outlet.set_addressees(known(a=Addresses(1), b=Addresses(0)))
    outlet.link_frame(leg, frames.WELCOME, frames.encode_control(frames.WELCOME, {"back": "b-0"}), b"")
    outlet.set_addressees(known(a=Addresses(1), b=Addresses(1)))
    with pytest.raises(TimeoutError, match="4 messages are unacknowledged"):
        outlet.send(b"4", topic=b"b-0", timeout=0.01)
    assert outlet.ledger().in_flight == 8
    outlet.link_down(leg, crashed=True)
    again = Peer("")
    outlet.link_up(again)
    grant(outlet, again)
    assert len(again.bodies()) == 8, "what a sidecar took over is replayed to the next"
    outlet.close(0.0)


def test_a_revocation_of_a_link_that_nothing_was_sent_on_is_echoed(reactor: Reactor) -> None:
    outlet, _ = outlet_of(reactor, behind=False)
    link = Peer("a-0")
    outlet.link_up(link)
    outlet.link_frame(link, frames.REVOKE, frames.encode_control(frames.REVOKE), b"")
    assert [frames.kind(frame) for frame in link.frames] == [frames.REVOKE]
    outlet.close(0.0)
