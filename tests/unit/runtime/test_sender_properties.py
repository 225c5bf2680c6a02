"""Whatever links and receivers do, in whatever order and thread: the ledger is balanced."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from ganglion.wire import frames
from ganglion.wire.frames import DEAD, DONE, HANDLED, REJECTED, RELEASED, STARTED
from tests.support.senders import Harness, balanced


class Delivery(RuleBasedStateMachine):
    """Random lives of links and receivers. A message may be handled twice, never lost and never settled twice."""

    links = Bundle("links")

    @initialize()
    def begin(self) -> None:
        self.h = Harness()
        self.names = 0

    @rule(target=links, messages=st.integers(0, 300))
    def up(self, messages: int) -> str:
        self.names += 1
        name = str(self.names)
        self.h.link(name, messages=messages, size=messages * 10)
        return name

    @rule(n=st.integers(1, 64), count=st.integers(1, 5))
    def offer(self, n: int, count: int) -> None:
        for _ in range(count):
            self.h.offer(n)

    @rule()
    def pump(self) -> None:
        self.h.sender.pump()

    @rule(
        link=links,
        first=st.integers(0, 400),
        count=st.integers(0, 200),
        code=st.sampled_from((DONE, REJECTED, RELEASED, HANDLED, STARTED, DEAD, 9)),
    )
    def ack(self, link: str, first: int, count: int, code: int) -> None:
        self.h.done(link, first, count, code)

    @rule(link=links, messages=st.integers(0, 300))
    def grant(self, link: str, messages: int) -> None:
        self.h.sender.grant(link, messages, messages * 10)

    @rule(link=links, charge=st.booleans())
    def revoke(self, link: str, charge: bool) -> None:
        self.h.sender.revoke(link, charge=charge)

    @rule(link=links)
    def drain(self, link: str) -> None:
        self.h.sender.drain(link)

    @rule(link=consumes(links), charge=st.booleans())
    def lost(self, link: str, charge: bool) -> None:
        self.h.sender.lost(link, charge=charge)

    @invariant()
    def ledger_balances(self) -> None:
        sender = self.h.sender
        assert balanced(sender)
        unsettled = [id_.seq for id_ in sender.unsettled()]
        assert len(unsettled) == sender.in_flight
        assert set(self.h.acked).isdisjoint(unsettled)
        assert sorted([*self.h.acked, *unsettled]) == list(range(self.h.next))
        assert set(self.h.acked.values()) <= {1}
        for link in sender._links.values():
            assert link.used == sum(b.n - (b.done | b.returned).bit_count() for b in link.held.values()) >= 0
            assert link.used_bytes == sum(len(b.frame) for b in link.held.values())

    def teardown(self) -> None:
        if not hasattr(self, "h"):
            return
        h = self.h
        peer = h.link("last")
        for name in [key for key in h.peers if key != "last"]:
            h.sender.lost(name, charge=False)
        for _ in range(1000):
            h.sender.pump()
            if not peer.frames:
                break
            for frame in peer.frames:
                head = frames.data_head(frame)
                h.done("last", head.first, head.n)
            peer.frames.clear()
        assert h.sender.at_rest
        assert not h.sender._streams
        assert not h.sender.pending
        self.ledger_balances()


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_links_are_counted_in_another_thread_while_messages_leave() -> None:
    """The control thread reports how many receivers there are; an exception there would end the process."""
    h = Harness()
    for number in range(50):
        h.link(f"peer-{number}", messages=1 << 20)
    over = threading.Event()
    counts: set[int] = set()

    def report() -> None:
        while not over.is_set():
            counts.add(h.sender.links)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as pool:
            reports = pool.submit(report)
            try:
                for _ in range(3000):
                    h.offer(1)
                    h.sender.pump()
            finally:
                over.set()
            reports.result(10)
    finally:
        sys.setswitchinterval(before)
    assert counts <= {49, 50}


@given(
    st.lists(
        st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=20
    )
)
def test_hostile_ranges_leave_the_ledger_balanced(ranges: list[tuple[int, int, int, int]]) -> None:
    h = Harness()
    h.link("a")
    h.offer(64)
    h.sender.pump()
    h.sender.ack("a", ranges)
    assert balanced(h.sender)
