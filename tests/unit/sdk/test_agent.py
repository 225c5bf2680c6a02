"""The Agent class on its own, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ganglion
from ganglion.sdk.agent import Agent
from ganglion.sdk.errors import AgentNotRunning, AttributeTaken


class Own(Agent):
    colour = "red"

    def method(self) -> None: ...


def test_attributes() -> None:
    agent = Own()
    agent.set_attr(size=1, shape=None)
    assert (agent.get_attr("size"), agent.get_attr("shape"), agent.get_attr("colour")) == (1, None, "red")
    agent.set_attr(size=2)
    assert agent.get_attr("size") == 2
    with pytest.raises(AttributeError):
        agent.get_attr("missing")


@pytest.mark.parametrize("name", ["send", "on_init", "method", "colour", "name", "_core", "__class__", "stopping"])
def test_attributes_never_hide_members(name: str) -> None:
    agent = Own()
    with pytest.raises(AttributeTaken, match=f"attribute '{name}': Own has a member"):
        agent.set_attr(other=1, **{name: 2})
    assert not hasattr(agent, "other"), "all or nothing"


@pytest.mark.parametrize(
    "call",
    [
        lambda a: a.name,
        lambda a: a.send("x", 1),
        lambda a: a.each(1, print),
        lambda a: a.recv("x"),
        lambda a: a.shutdown(),
        lambda a: a.log_info("x"),
    ],
)
def test_an_agent_made_by_hand_says_so(call: object) -> None:
    with pytest.raises(AgentNotRunning, match="Own: made by hand"):
        call(Own())  # type: ignore[operator]


def test_everything_exported_is_there() -> None:
    for name in ganglion.__all__:
        assert getattr(getattr(ganglion, name), "__name__", name) == name
    assert set(ganglion.__all__) <= set(dir(ganglion))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = ganglion.Nothing


def _imported(program: str) -> set[str]:
    program += "; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_an_agent_process_stays_lean() -> None:
    """Each agent pays for what its process imports."""
    modules = _imported("import ganglion.sdk.main")
    heavy = {"pydantic", "yaml", "rich", "click", "jwt", "cryptography", "prometheus_client", "dill", "kubernetes", "kopf", "hypothesis"}
    assert not modules & heavy


def test_importing_the_package_imports_no_sdk() -> None:
    assert not {name for name in _imported("import ganglion") if name.startswith("ganglion.")}
    assert "zmq" not in _imported("from ganglion import Agent")
