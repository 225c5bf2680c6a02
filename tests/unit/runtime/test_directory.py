"""A member's copy of its directory, and the differences that a sidecar relays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ganglion.runtime.directory import DirectoryMirror, directory_delta
from ganglion.wire.control import ChannelState, Directory, Incarnation, Peer


def peer(name: str, start: int = 1) -> Peer:
    return Peer(agent="a", replica=name, incarnation=Incarnation("u", start, 1), host="h", key="k")


def full(epoch: str, seq: int, *names: str) -> Directory:
    return Directory(epoch=epoch, seq=seq, full=True, peers=[peer(name) for name in names])


def delta(epoch: str, seq: int, *names: str, gone: tuple[str, ...] = ()) -> Directory:
    return Directory(epoch=epoch, seq=seq, full=False, peers=[peer(name) for name in names], gone=list(gone))


def test_snapshot_then_deltas() -> None:
    mirror = DirectoryMirror()
    mirror.enter("e", 0, 10)
    assert mirror.apply(full("e", 1, "a", "b"))
    assert mirror.apply(delta("e", 2, "c", gone=("a",)))
    assert set(mirror.peers) == {"b", "c"}
    assert mirror.seq == 2


def test_gap_or_early_delta_asks_for_a_snapshot() -> None:
    mirror = DirectoryMirror()
    mirror.enter("e", 0, 10)
    assert not mirror.apply(delta("e", 1, "a"))
    assert mirror.apply(full("e", 1, "a"))
    assert not mirror.apply(delta("e", 3, "b"))
    assert mirror.seq == 0
    assert not mirror.apply(delta("e", 4, "c")), "deltas after a gap are not applied"
    assert mirror.apply(full("e", 9, "z"))
    assert set(mirror.peers) == {"z"}


def test_other_epoch_is_not_applied() -> None:
    mirror = DirectoryMirror()
    mirror.enter("e", 0, 10)
    assert not mirror.apply(full("old", 1, "a"))
    assert not mirror.peers


def test_restart_of_the_name_server_lets_nobody_go_at_once() -> None:
    mirror = DirectoryMirror()
    mirror.enter("one", 0, 10)
    mirror.apply(full("one", 1, "a", "b", "c"))
    mirror.enter("two", 100, 10)
    assert mirror.apply(full("two", 1))
    assert set(mirror.peers) == {"a", "b", "c"}
    assert mirror.apply(Directory(epoch="two", seq=2, full=False, peers=[peer("a", start=2)], gone=["b"]))
    assert set(mirror.peers) == {"a", "c"}
    assert mirror.peers["a"].incarnation.start == 2
    assert not mirror.release(109)
    assert mirror.release(110)
    assert set(mirror.peers) == {"a"}
    assert mirror.held_until is None


def test_same_epoch_holds_nothing() -> None:
    mirror = DirectoryMirror()
    mirror.enter("one", 0, 10)
    mirror.apply(full("one", 1, "a", "b"))
    mirror.enter("one", 5, 10)
    assert set(mirror.peers) == {"a", "b"}, "until the snapshot comes"
    mirror.apply(full("one", 7, "b"))
    assert set(mirror.peers) == {"b"}


_directories = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 3)).map(
    lambda found: {name: peer(name, start) for name, start in found.items()}
)
_states = st.dictionaries(st.sampled_from("xy"), st.booleans()).map(
    lambda found: {name: ChannelState(ended=ended) for name, ended in found.items()}
)


@given(st.lists(st.tuples(_directories, _states), min_size=1, max_size=6))
def test_relayed_differences_add_up(steps: list[tuple[dict[str, Peer], dict[str, ChannelState]]]) -> None:
    mirror = DirectoryMirror()
    mirror.enter("e", 0, 10)
    old_peers, old_channels = steps[0]
    assert mirror.apply(Directory(epoch="e", seq=1, full=True, peers=list(old_peers.values()), channels=old_channels))
    for seq, (peers, channels) in enumerate(steps[1:], start=2):
        changed, gone, states = directory_delta(old_peers, peers, old_channels, channels)
        assert mirror.apply(Directory(epoch="e", seq=seq, full=False, peers=changed, gone=gone, channels=states))
        old_peers, old_channels = peers, channels
        assert dict(mirror.peers) == peers
        assert all(mirror.channels[name] == state for name, state in channels.items())
