"""Directory → connections."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganglion.runtime.connections import DesiredPeer, allowed_keys, applied, data_port, desired, difference, endpoint, zap_domain
from ganglion.wire.control import Incarnation, Peer, PeerChannel
from tests.support.wirings import channel, wiring

ONE = Incarnation("uid", 1, 100)


def peer(replica: str, role: str = "Pull", port: int = 7600, *, key: str = "k", name: str = "jobs", host: str = "10.0.0.1") -> Peer:
    return Peer(
        agent=replica.rsplit("-", 1)[0],
        replica=replica,
        incarnation=ONE,
        host=host,
        key=key,
        channels={name: PeerChannel(role=role, port=port, wired=True)},
    )


def test_a_connector_wants_every_binder_of_the_opposite_role() -> None:
    document = wiring(channel("out", "jobs", "Push", bind=False), channel("log", "log", "Push", bind=False))
    found = desired(document, [peer("w-0"), peer("w-1", host="::1"), peer("x-0", role="Push"), peer("y-0", name="other")])
    assert {r: p.endpoint for r, p in found["out"].items()} == {"w-0": "tcp://10.0.0.1:7600", "w-1": "tcp://[::1]:7600"}
    assert found["out"]["w-0"].wired
    assert found["log"] == {}


def test_a_binder_connects_nowhere_and_admits_only_peers_of_the_opposite_role() -> None:
    binder = channel("in", "jobs", "Pull", bind=True)
    document = wiring(binder, channel("log", "log", "Push", bind=False))
    members = [peer("s-0", role="Push", key="a", port=0), peer("w-1", key="b"), peer("s-1", role="Push", key="")]
    assert {p.endpoint for p in desired(document, members)["in"].values()} == {""}
    assert allowed_keys(document, members) == {zap_domain(binder): frozenset({"a"})}
    assert allowed_keys(document, []) == {zap_domain(binder): frozenset()}


def test_a_peer_that_does_not_listen_yet_is_not_connected_to() -> None:
    document = wiring(channel("out", "jobs", "Push", bind=False))
    assert not difference({}, desired(document, [peer("w-0", port=0)])["out"])


@pytest.mark.parametrize(
    "changed",
    [{"endpoint": "tcp://10.0.0.2:7600"}, {"key": "new"}, {"incarnation": Incarnation("uid", 2, 100)}],
)
def test_a_changed_peer_is_disconnected_and_connected(changed: dict[str, object]) -> None:
    old = DesiredPeer("w-0", "w", ONE, "k", "tcp://10.0.0.1:7600")
    new = replace(old, **changed)  # type: ignore[arg-type]
    change = difference({"w-0": old}, {"w-0": new})
    assert (change.disconnect, change.connect) == ((old,), (new,))


def test_counts_and_end_change_nothing() -> None:
    old = DesiredPeer("w-0", "w", ONE, "k", "tcp://10.0.0.1:7600")
    assert not difference({"w-0": old}, {"w-0": replace(old, wired=True, ended=True)})


def test_a_replica_with_several_aliases_on_a_channel_is_several_peers() -> None:
    document = wiring(channel("in", "letters", "Pull", bind=False))
    twice = Peer(
        agent="s",
        replica="s-0",
        incarnation=ONE,
        host="h",
        key="k",
        channels={
            "letters": PeerChannel(role="Push", port=7601, also=(PeerChannel(role="Push", port=7603), PeerChannel(role="Pull", port=1)))
        },
    )
    assert {link: p.endpoint for link, p in desired(document, [twice])["in"].items()} == {"s-0": "tcp://h:7601", "s-0/1": "tcp://h:7603"}


def test_ports_count_the_bound_channels() -> None:
    document = wiring(channel("a", "a", "Push", bind=True), channel("b", "b", "Push", bind=False), channel("c", "c", "Push", bind=True))
    assert [data_port(document, "a", 7600), data_port(document, "c", 7600), data_port(document, "c", 0)] == [7600, 7601, 0]


def test_a_stopped_replica_is_no_peer() -> None:
    document = wiring(channel("out", "jobs", "Push", bind=False))
    assert desired(document, [msgspec.structs.replace(peer("w-0"), phase="Stopped")])["out"] == {}


def test_a_replica_on_the_address_of_another_is_connected_again() -> None:
    """libzmq's disconnect takes every connection to the address along."""
    old = DesiredPeer("w-0", "w", ONE, "k", "tcp://127.0.0.1:7600")
    new = DesiredPeer("w-1", "w", ONE, "q", "tcp://127.0.0.1:7600")
    change = difference({"w-0": old, "w-1": new}, {"w-1": new})
    assert set(change.disconnect) == {old, new}
    assert change.connect == (new,)


def test_endpoint_brackets_ipv6() -> None:
    assert endpoint("fe80::1", 1) == "tcp://[fe80::1]:1"


some_peers = st.dictionaries(
    st.sampled_from("abcde"),
    st.builds(
        lambda port, key, start: ("", key, start) if not port else (f"tcp://h:{port}", key, start),
        st.integers(0, 3),
        st.sampled_from("xy"),
        st.integers(1, 2),
    ),
).map(lambda m: {r: DesiredPeer(r, r, Incarnation(r, start, 0), key, where) for r, (where, key, start) in m.items()})


@given(some_peers, some_peers)
def test_the_difference_leads_to_what_is_wanted_and_touches_nothing_else(
    before: dict[str, DesiredPeer], want: dict[str, DesiredPeer]
) -> None:
    have = {r: p for r, p in before.items() if p.endpoint}
    change = difference(have, want)
    after = applied(have, change)
    assert after == {r: p for r, p in want.items() if p.endpoint}
    assert not difference(after, want)
    moved = {have[r].endpoint for r in have if after.get(r) != have[r]}
    untouched = {r for r in have if after.get(r) == have[r] and have[r].endpoint not in moved}
    assert untouched.isdisjoint(p.link for p in change.disconnect)
