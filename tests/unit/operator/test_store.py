"""The cache: whatever the order of pictures, the newest stays."""

from __future__ import annotations

import copy
import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ganglion_operator.core.kinds import AGENT, CONFIGMAP, POD, STATEFULSET, Key
from ganglion_operator.core.trim import spec_of
from ganglion_operator.engine.store import Store
from tests.support.objects import agent, pod


def at(body: dict[str, Any], version: int, **spec: Any) -> dict[str, Any]:
    out = copy.deepcopy(body)
    out["metadata"]["resourceVersion"] = str(version)
    out["spec"] = {**out["spec"], **spec}
    return out


KEY = Key("Agent", "default", "worker")


def test_stale_pictures_are_ignored() -> None:
    store = Store()
    body = agent()
    assert store.apply(AGENT, at(body, 10, replicas=2)) is not None
    assert store.apply(AGENT, at(body, 9, replicas=1)) is None
    assert store.apply(AGENT, at(body, 10, replicas=2)) is None
    entry = store.get(KEY)
    assert entry is not None
    assert entry.body["spec"]["replicas"] == 2


def test_a_workload_keeps_one_text_of_its_spec_until_the_spec_changes() -> None:
    store = Store()
    key = Key("StatefulSet", "default", "worker")

    def picture(version: int, generation: int | None, replicas: int, uid: str = "u") -> dict[str, Any]:
        metadata = {"name": "worker", "namespace": "default", "uid": uid, "resourceVersion": str(version), "generation": generation}
        return {"metadata": metadata, "spec": {"replicas": replicas}, "status": {"replicas": version}}

    def stored(body: dict[str, Any]) -> dict[str, Any]:
        assert store.apply(STATEFULSET, body) is not None
        entry = store.get(key)
        assert entry is not None
        return entry.body

    first = stored(picture(1, 1, 2))
    again = stored(picture(2, 1, 2))
    assert again["status"] == {"replicas": 2}
    assert again["specText"] is first["specText"]
    assert spec_of(stored(picture(3, 2, 5))) == {"replicas": 5}
    # Another life begins to count anew, and not every kind counts.
    assert spec_of(stored(picture(4, 2, 6, uid="other"))) == {"replicas": 6}
    assert spec_of(stored(picture(5, None, 7, uid="other"))) == {"replicas": 7}
    assert spec_of(stored(picture(6, None, 8, uid="other"))) == {"replicas": 8}


def test_a_deletion_is_not_undone_by_an_older_picture() -> None:
    store = Store()
    body = agent()
    store.apply(AGENT, at(body, 10))
    assert store.apply(AGENT, at(body, 12), deleted=True) is not None
    assert store.apply(AGENT, at(body, 11)) is None
    assert store.get(KEY) is None


def test_a_new_life_replaces_the_old_and_its_late_end_is_ignored() -> None:
    store = Store()
    old, new = agent(), agent(uid="second")
    store.apply(AGENT, at(old, 10))
    change = store.apply(AGENT, at(new, 20))
    assert change is not None
    assert change.old is not None
    assert store.apply(AGENT, at(old, 15), deleted=True) is None
    entry = store.get(KEY)
    assert entry is not None
    assert entry.uid == "second"


def test_a_list_prunes_ghosts_and_adds_what_is_missing() -> None:
    store = Store()
    ghost, kept, younger, missing = agent("ghost"), agent("kept"), agent("younger"), agent("missing")
    store.apply(AGENT, at(ghost, 5))
    store.apply(AGENT, at(kept, 6))
    store.apply(AGENT, at(younger, 30))
    listed = [at(kept, 6), at(missing, 7)]
    assert store.differs(AGENT, "default", listed, 20)
    changes = store.replace(AGENT, "default", listed, 20)
    assert {(change.key.name, change.new is None) for change in changes} == {("ghost", True), ("missing", False)}
    assert {entry.key.name for entry in store.all(AGENT)} == {"kept", "younger", "missing"}
    assert not store.differs(AGENT, "default", listed, 20)
    # A watch that is late does not bring the ghost back.
    assert store.apply(AGENT, at(ghost, 4)) is None


def test_other_namespaces_are_not_pruned() -> None:
    store = Store()
    store.apply(AGENT, agent("far", namespace="other"))
    assert store.replace(AGENT, "default", [], 10**9) == []


def test_looked_up_objects_outlive_a_list_that_does_not_select_them() -> None:
    store = Store()
    body = {"metadata": {"name": "keys", "namespace": "default", "uid": "u", "resourceVersion": "1"}, "data": {"a": "b"}}
    store.apply(CONFIGMAP, body, looked_up=1.0)
    assert store.replace(CONFIGMAP, None, [], 10**9) == []


def test_children_are_found_by_owner() -> None:
    store = Store()
    for name in ("worker-1", "worker-0"):
        store.apply(POD, pod(name))
    store.apply(POD, pod("other-0", owner="other"))
    assert [body["metadata"]["name"] for body in store.children(KEY, POD)] == ["worker-0", "worker-1"]
    store.apply(POD, at(pod("worker-0"), 10**9), deleted=True)
    assert [body["metadata"]["name"] for body in store.children(KEY, POD)] == ["worker-1"]


@given(st.permutations(list(range(6))), st.data())
def test_any_order_of_events_ends_the_same(order: list[int], data: st.DataObject) -> None:
    """A watch, a list and answers to writes tell the same history in any order, with repetitions: the end is the history's end."""
    body = agent()
    versions = itertools.count(1)
    history = [(at(body, next(versions), replicas=n), False) for n in range(5)]
    history.append((at(body, next(versions)), True))
    cut = data.draw(st.integers(1, 6))
    known = history[:cut]
    events = [known[i] for i in order if i < cut]
    events += data.draw(st.lists(st.sampled_from(known), max_size=4))
    store = Store()
    for raw, deleted in events:
        store.apply(AGENT, raw, deleted=deleted)
    last, gone = known[-1]
    entry = store.get(KEY)
    if gone:
        assert entry is None
    else:
        assert entry is not None
        assert entry.body["spec"] == last["spec"]
