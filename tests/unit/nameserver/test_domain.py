"""Channels that are part of a loop."""

from __future__ import annotations

import pytest

from ganglion.nameserver.domain import DomainIndex
from ganglion.wire.admin import DeclaredAgent, Domain


def index(**agents: dict[str, list[str]]) -> DomainIndex:
    return DomainIndex(Domain(agents={name: DeclaredAgent(name=name, replicas=1, roles=roles) for name, roles in agents.items()}))


@pytest.mark.parametrize(
    ("agents", "loops"),
    [
        ({}, set()),
        ({"source": {"a": ["Push"]}, "worker": {"a": ["Pull"], "b": ["Push"]}, "sink": {"b": ["Pull"]}}, set()),
        ({"left": {"a": ["Push"], "b": ["Pull"]}, "right": {"a": ["Pull"], "b": ["Push"]}}, {"a", "b"}),
        ({"alone": {"a": ["Push", "Pull"]}}, {"a"}),
        ({"manager": {"a": ["Req"], "b": ["Rep"]}, "worker": {"a": ["Rep"], "b": ["Req"]}}, {"a", "b"}),
        # Into a loop, out of it, and from one loop to another: not round.
        (
            {
                "source": {"in": ["Push"]},
                "left": {"in": ["Pull"], "a": ["Push"], "b": ["Pull"], "between": ["Push"]},
                "right": {"a": ["Pull"], "b": ["Push"], "out": ["Push"]},
                "third": {"between": ["Pull"], "c": ["Push", "Pull"]},
                "sink": {"out": ["Pull"]},
            },
            {"a", "b", "c"},
        ),
    ],
)
def test_loops(agents: dict[str, dict[str, list[str]]], loops: set[str]) -> None:
    assert index(**agents).loops == loops
