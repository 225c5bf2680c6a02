"""The sender's state machine: nothing lost, nothing counted twice, whatever links and receivers do."""

from __future__ import annotations

from collections import Counter

import pytest

from ganglion.runtime.plane import MessageId
from ganglion.runtime.sender import ATTEMPTS, HOPELESS
from ganglion.wire import frames
from ganglion.wire.frames import HANDLED, REJECTED, RELEASED, STARTED
from tests.support.senders import STREAM, Harness, balanced


def test_batches_wait_for_credit_and_are_never_split() -> None:
    h = Harness()
    peer = h.link("a", messages=8)
    for _ in range(3):
        h.offer(4)
    h.sender.pump()
    assert [frames.data_head(f).first for f in peer.frames] == [0, 4]
    h.done("a", 0, 3)
    h.sender.pump()
    assert len(peer.frames) == 2
    h.done("a", 3)
    h.sender.pump()
    assert frames.data_head(peer.frames[2])[1:4] == (4, STREAM, 8)


def test_links_get_messages_in_proportion_to_their_windows() -> None:
    """A receiver that is slow grants a small window: it is idle before, not after, a quick one is full."""
    h = Harness()
    quick, slow = h.link("quick", messages=64), h.link("slow", messages=8)
    for held in range(1, 10):
        h.offer(1)
        h.sender.pump()
        assert len(slow.frames) == (1 if held > 1 else 0), f"{held} messages are held"
    for _ in range(63):
        h.offer(1)
        h.sender.pump()
        # As far as whole messages go, both are equally full.
        assert abs(len(quick.frames) / 64 - len(slow.frames) / 8) <= 1 / 8
    assert (len(quick.frames), len(slow.frames)) == (64, 8)


def test_idle_links_take_turns() -> None:
    h = Harness()
    peers = {name: h.link(name) for name in "abc"}
    for turn in range(3):
        for name in "abc":
            first = h.offer(2)
            h.sender.pump()
            assert {n: len(peer.frames) for n, peer in peers.items()} == {n: turn + (n <= name) for n in "abc"}
            h.done(name, first, 2)


def test_an_idle_link_takes_a_batch_larger_than_its_window() -> None:
    h = Harness()
    peer = h.link("a", messages=1, size=10)
    h.offer(64)
    h.offer(1)
    h.sender.pump()
    assert len(peer.frames) == 1
    h.done("a", 0, 64)
    h.sender.pump()
    assert len(peer.frames) == 2


def test_byte_credit_bounds_what_is_out() -> None:
    h = Harness()
    peer = h.link("a", size=2500)
    for _ in range(3):
        h.offer(1, size=1000)
    h.sender.pump()
    assert len(peer.frames) == 2
    h.done("a", 0)
    h.sender.pump()
    assert len(peer.frames) == 3


def test_the_link_with_most_credit_is_chosen() -> None:
    h = Harness()
    a, b = h.link("a", messages=16), h.link("b", messages=32)
    for _ in range(3):
        h.offer(16)
    h.sender.pump()
    assert (len(a.frames), len(b.frames)) == (1, 2)


def test_a_lost_links_messages_go_to_another_without_those_that_were_acknowledged() -> None:
    h = Harness()
    h.link("a")
    h.offer(4)
    h.sender.pump()
    b = h.link("b")
    h.done("a", 1, 2)
    h.sender.lost("a", charge=True)
    h.sender.pump()
    head = frames.data_head(b.frames[0])
    assert head == (frames.FLAG_REDELIVERY | frames.FLAG_SKIP, 4, STREAM, 0, 0b0110)
    assert b.live(b.frames[0]) == [0, 3]
    assert h.sender.redelivered == 2
    h.done("b", 0, 4)
    assert h.sender.at_rest
    assert h.acked == Counter(range(4))
    assert len(h.settled) == 1


def test_one_range_settles_whole_batches_and_a_part_of_the_next() -> None:
    h = Harness()
    h.link("a")
    for _ in range(3):
        h.offer(4)
    h.sender.pump()
    h.done("a", 0, 10)
    assert h.acked == Counter(range(10))
    assert len(h.settled) == 2
    assert h.sender.in_flight == 2
    h.done("a", 0, 12)
    assert h.sender.at_rest
    assert h.acked == Counter(range(12))


def test_acknowledgements_of_a_link_that_does_not_hold_the_message_change_nothing() -> None:
    h = Harness()
    h.link("a")
    h.link("b", messages=0)
    h.offer(2)
    h.sender.pump()
    h.done("b", 0, 2)
    h.done("nobody", 0, 2)
    assert h.sender.in_flight == 2
    h.done("a", 0, 2)
    h.done("a", 0, 2)
    assert h.sender.acked == 2


def test_one_range_covers_many_batches() -> None:
    h = Harness()
    h.link("a")
    for n in (3, 1, 5):
        h.offer(n)
    h.sender.pump()
    h.done("a", 1, 7)
    assert h.sender.acked == 7
    assert sorted(h.acked) == list(range(1, 8))
    h.done("a", 0, 2**32 - 1)
    assert h.sender.at_rest
    assert set(h.acked.values()) == {1}


def test_a_rejected_message_is_tried_three_times_and_then_given_up() -> None:
    h = Harness()
    a = h.link("a")
    h.offer(3)
    for attempt in range(ATTEMPTS):
        h.sender.pump()
        assert a.live(a.frames[-1]) == ([0, 1, 2] if attempt == 0 else [1])
        h.done("a", 1, code=REJECTED)
        if attempt == 0:
            h.done("a", 0)
            h.done("a", 2)
    assert h.dead == [(MessageId(STREAM, 1), b"\1\0", "its handler raised, 3 attempts")]
    assert h.sender.at_rest
    assert sorted(h.acked) == [0, 1, 2]


def test_a_released_message_is_never_charged() -> None:
    h = Harness()
    a = h.link("a")
    h.offer(1)
    for _ in range(10):
        h.sender.pump()
        h.done("a", 0, code=RELEASED)
    h.sender.pump()
    assert len(a.frames) == 11
    assert not h.dead


def test_a_draining_link_gets_nothing_new() -> None:
    h = Harness()
    a = h.link("a")
    h.offer(1)
    h.sender.pump()
    h.sender.drain("a")
    h.done("a", 0, code=RELEASED)
    h.sender.pump()
    assert len(a.frames) == 1
    b = h.link("b")
    h.sender.pump()
    assert len(b.frames) == 1


def test_the_message_that_was_begun_is_charged() -> None:
    h = Harness()
    h.offer(3)
    h.offer(2)
    for life in range(ATTEMPTS):
        name = f"life-{life}"
        h.link(name)
        h.sender.pump()
        if life:
            h.done(name, 0, 2, code=STARTED)
            h.done(name, 0, code=HANDLED)
        h.sender.lost(name, charge=True)
    # The first loss charged the oldest, which was not at fault; later ones are proven.
    batch, _ = h.sender._find(STREAM, 1)
    assert batch is not None
    assert batch.attempts == {0: 1, 1: ATTEMPTS - 1}
    assert not h.dead


def _die_of(h: Harness, culprit: int, heard: int, *, lives: int) -> list[int]:
    """Lives of a process that dies of one message, handling in order; of each batch of several only so many messages are heard to begin."""
    lone: list[int] = []
    for life in range(lives):
        name = f"life-{life}"
        peer = h.link(name)
        alive = True
        while alive:
            h.sender.pump()
            if not peer.frames:
                return lone
            live = peer.live(peer.frames.pop(0))
            if len(live) == 1:
                lone.append(live[0])
            if culprit in live:
                alive = False
                h.done(name, live[0], heard, code=STARTED)
                h.sender.lost(name, charge=True)
            else:
                h.done(name, live[0], len(live))
    raise AssertionError(f"nobody was given up in {lives} lives")


@pytest.mark.parametrize(("heard", "lives"), [(1, 7), (0, 14)])
def test_the_last_charge_needs_proof(heard: int, lives: int) -> None:
    """What was said at the end of a life was lost: the first message of the batch looks guilty, or nobody does."""
    h = Harness()
    h.offer(5)
    h.offer(4)
    lone = _die_of(h, 3, heard, lives=lives)
    assert [id_.seq for id_, _, _ in h.dead] == [3]
    assert (h.sender.acked, h.sender.in_flight) == (8, 0)
    assert lone[:3] == [0, 1, 2]


def test_a_suspect_has_its_link_for_itself() -> None:
    h = Harness()
    h.offer(2)
    for life in range(HOPELESS):
        h.link(str(life))
        h.sender.pump()
        h.sender.lost(str(life), charge=True)
    h.offer(1)
    a, b = h.link("a"), h.link("b")
    h.sender.pump()
    assert [peer.live(frame) for peer in (a, b) for frame in peer.frames] == [[0], [2]]
    # "b" is busy: nothing goes beside a suspect, and a suspect goes beside nothing.
    h.offer(1)
    h.done("a", 0)
    h.sender.pump()
    assert [a.live(frame) for frame in a.frames] == [[0], [1]]
    assert [b.live(frame) for frame in b.frames] == [[2], [3]]
    h.done("a", 1)
    h.done("b", 2, 2)
    assert h.sender.at_rest
    assert not h.dead


def test_without_proof_a_message_is_charged_at_most_once() -> None:
    h = Harness()
    h.offer(3)
    for life in range(10):
        h.link(str(life))
        h.sender.pump()
        h.sender.lost(str(life), charge=True)
    assert not h.dead
    assert h.sender.in_flight == 3


def test_losing_a_sidecar_charges_nobody() -> None:
    h = Harness()
    h.offer(3)
    for life in range(10):
        h.link(str(life))
        h.sender.pump()
        h.sender.lost(str(life), charge=False)
    assert not h.dead
    assert h.sender.in_flight == 3


def test_a_revoked_link_waits_for_its_next_grant() -> None:
    h = Harness()
    a = h.link("a")
    h.offer(1)
    h.sender.pump()
    h.sender.revoke("a", charge=False)
    h.sender.pump()
    assert len(a.frames) == 1
    h.sender.grant("a", 4, 1000)
    h.sender.pump()
    assert len(a.frames) == 2


def test_a_replayed_batch_is_taken_once() -> None:
    h = Harness()
    frame = frames.encode_data(STREAM, 5, [b"x"])
    assert h.sender.offer(frame)
    assert not h.sender.offer(frame)
    assert h.sender.accepted == 1


def test_requests_of_a_lost_replier_fail_at_once() -> None:
    h = Harness()
    h.link("a")
    h.offer(2, flags=frames.FLAG_REQUEST)
    h.sender.pump()
    assert h.sender.reply("a", STREAM, 0)
    h.sender.lost("a", charge=True)
    assert h.failed == [1]
    assert h.sender.at_rest
    assert h.sender.dropped == 1
    assert balanced(h.sender)


def test_a_timed_out_request_spends_credit_until_its_reply() -> None:
    h = Harness()
    a = h.link("a", messages=1)
    h.offer(1, flags=frames.FLAG_REQUEST)
    h.offer(1, flags=frames.FLAG_REQUEST)
    h.sender.pump()
    assert h.sender.cancel(STREAM, 0)
    assert not h.sender.cancel(STREAM, 0)
    h.sender.pump()
    assert len(a.frames) == 1
    assert not h.sender.reply("a", STREAM, 0)
    h.sender.pump()
    assert len(a.frames) == 2
    assert h.sender.cancel(STREAM, 1)
    h.sender.lost("a", charge=False)
    assert not h.failed
    assert h.sender.at_rest
    assert balanced(h.sender)


def test_old_entries_of_a_stream_do_not_pile_up_behind_one_that_stays() -> None:
    h = Harness()
    h.link("a", messages=1000)
    h.offer(1)
    h.sender.pump()
    for _ in range(5000):
        h.done("a", h.offer(1))
        h.sender.pump()
        h.done("a", h.next - 1)
    assert len(h.sender._streams[STREAM].firsts) < 2000
    h.done("a", 0)
    assert h.sender.at_rest
