"""Small wiring documents for tests."""

from __future__ import annotations

from typing import Any

from ganglion.wiring import AgentWiring, ChannelWiring, NameServerWiring, WiringDocument

_PEER = {"Push": "Pull", "Pull": "Push", "Pub": "Sub", "Sub": "Pub", "Req": "Rep", "Rep": "Req"}
_PATTERN = {"Push": "PushPull", "Pull": "PushPull", "Pub": "PubSub", "Sub": "PubSub", "Req": "RequestReply", "Rep": "RequestReply"}


def channel(alias: str, name: str, role: str, *, bind: bool, **other: Any) -> ChannelWiring:
    """One alias: AtLeastOnce is the default of PushPull, everything else is BestEffort."""
    pattern = _PATTERN[role]
    delivery = other.pop("delivery", "AtLeastOnce" if pattern == "PushPull" else "BestEffort")
    endpoint = pattern == "RequestReply" or delivery == "AtLeastOnce"
    fields: dict[str, Any] = {
        "alias": alias,
        "channel": name,
        "pattern": pattern,
        "role": role,
        "peer_role": _PEER[role],
        "bind": bind,
        "carrier": "Endpoint" if endpoint else "Proxy",
        "frames": "Ganglion",
        "speaks": "Sdk",
        "delivery": delivery,
        "ack": "Causal",
        "codec": "MsgPack",
        "high_water_mark": 1024,
        "max_message_bytes": 1 << 20,
        "linger_seconds": 1.0,
        "overflow": "Block",
    }
    return ChannelWiring(**(fields | other))


def wiring(*channels: ChannelWiring, name: str = "agent", endpoint: str = "tcp://127.0.0.1:7500", **agent: Any) -> WiringDocument:
    """A document with these channels."""
    fields: dict[str, Any] = {"name": name, "namespace": "default", "run": "Always", "data_plane": "Sidecar"}
    return WiringDocument(
        name_server=NameServerWiring(name="zoo", namespace="default", uid="ns-uid", endpoint=endpoint, public_key=""),
        agent=AgentWiring(**(fields | agent)),
        channels=channels,
    )
