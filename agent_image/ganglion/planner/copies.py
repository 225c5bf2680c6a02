"""Copies of templates: which of those that a name server's status asks for are made. Only the NameServer's spec decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ganglion.api import Agent, NameServer
from ganglion.api.agent import AgentSpec
from ganglion.api.base import Metadata
from ganglion.api.names import LABEL_TEMPLATE
from ganglion.api.nameserver import Copy, NameServerSpec, Template
from ganglion.wiring.copies import is_copy_name

COPY_CLASS = "ganglion.imperative.copied:serve"
"""What runs in a copy's pod: it makes the agent of the template's class that a program has asked for."""
_NOT_COPIED = ("channels", "timers", "minAvailable")


@dataclass(frozen=True, slots=True)
class CopiesPlan:
    """What to do about the copies of one NameServer.

    Attributes:
        make: new Agents.
        end: names of copies that nobody asks for any more, or that the spec does not allow any more.
        refused: why something that is asked for is not made, for people.
    """

    make: tuple[Agent, ...] = ()
    end: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def allowed_templates(spec: NameServerSpec) -> dict[str, Template]:
    """The templates that programs may name."""
    return {entry.name: entry for entry in spec.templates} if spec.ad_hoc == "Allowed" else {}


def template_problem(server: str, name: str, agent: Agent | None, *, is_copy: bool) -> str:
    """Why no copy can be made of a template that the spec lists; empty if one can.

    Args:
        server: name of the NameServer.
        agent: the Agent of that name, if there is one.
        is_copy: whether that is itself a copy.
    """
    if agent is None or agent.deleting:
        return f"template {name!r}: NameServer {server!r} has no Agent of this name; create it, or correct spec.templates"
    if agent.spec.name_server_ref.name != server:
        return f"template {name!r}: found an Agent of NameServer {agent.spec.name_server_ref.name!r}; must be one of {server!r}"
    if is_copy:
        return f"template {name!r}: found a copy; name the Agent that it was made from"
    if agent.spec.class_ is None:
        return f"template {name!r}: found an Agent with a `container`; must have a `class`, which the copies run"
    return ""


def copy_of(template: Agent, name: str) -> Agent:
    """The Agent to make: the template's spec as it is now, for one run of one agent that programs know."""
    spec: dict[str, Any] = {key: value for key, value in template.spec.to_dict().items() if key not in _NOT_COPIED}
    spec |= {
        "replicas": 1,
        "run": "Once",
        "suspend": False,
        # As with run_agent anywhere: an agent that fails is gone, and its caller is told.
        "backoffLimit": 0,
        "class": COPY_CLASS,
        "attributes": {"target": template.spec.class_, "attributes": template.spec.attributes or {}},
    }
    metadata = Metadata(name=name, namespace=template.namespace, labels={LABEL_TEMPLATE: template.name})
    return Agent(metadata=metadata, spec=AgentSpec.model_validate(spec))


def plan_copies(
    server: NameServer,
    wanted: Sequence[Copy],
    copies: Mapping[str, str],
    find: Callable[[str], Agent | None],
    taken: Callable[[str], bool],
) -> CopiesPlan:
    """Compare what is asked for with what the spec allows and with what there is.

    Args:
        wanted: as the name server asks for. Whatever it says, no more is made than the spec allows.
        copies: name → template of the copies that exist.
        find: an Agent of the namespace by name.
        taken: whether there is any Agent of a name.
    """
    allowed = allowed_templates(server.spec)
    room = {name: entry.max_copies for name, entry in allowed.items()}
    make: list[Agent] = []
    kept: set[str] = set()
    refused: list[str] = []
    # What runs already goes first: a list in another order must not end one copy to make another.
    for asked in sorted(wanted, key=lambda one: copies.get(one.name) != one.template):
        name, template = asked.name, asked.template
        if template not in allowed:
            refused.append(f"copy {name!r}: template {template!r} is not in spec.templates; add it there")
        elif not is_copy_name(name, template):
            refused.append(f"copy {name!r}: no name of a copy of {template!r}")
        elif room[template] == 0:
            most = allowed[template].max_copies
            refused.append(f"copy {name!r}: found more than {most} of template {template!r}; raise its maxCopies, or shut one down")
        elif copies.get(name) == template:
            room[template] -= 1
            kept.add(name)
        elif taken(name):
            refused.append(f"copy {name!r}: an Agent of this name exists and is no copy of {template!r}; delete it")
        else:
            agent = find(template)
            problem = template_problem(server.name, template, agent, is_copy=template in copies)
            if problem:
                refused.append(f"copy {name!r}: {problem}")
            elif agent is not None:
                room[template] -= 1
                make.append(copy_of(agent, name))
    return CopiesPlan(tuple(make), tuple(sorted(copies.keys() - kept)), tuple(refused))
