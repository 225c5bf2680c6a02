"""`run_agent(template=...)` in a pod: copies of an Agent, as many as the NameServer allows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.domain import Domain, agent, name_server
from tests.support.cluster import KindCluster
from tests.support.wait import wait_for

CASTING = """
import os

from ganglion import Agent, NSProxy, TemplateRefused, run_agent


class Actor(Agent):
    def who(self):
        return [self.name, os.environ["GANGLION_REPLICA"], self.get_attr("kept"), self.get_attr("wanted")]


class Director(Agent):
    def on_init(self):
        self.after(0.0, self.cast)

    def cast(self):
        for name in ("Alice", "Bob"):
            print("COPY", *run_agent(name, template="actor", attributes={"wanted": name.lower()}).who(), flush=True)
        for template in ("actor", "director"):
            try:
                run_agent("Carol", template=template)
            except TemplateRefused as error:
                print("REFUSED", error, flush=True)
        print("SEEN", sorted(NSProxy().agents()), flush=True)
"""


@pytest.fixture
def namespace(operator: KindCluster) -> Iterator[str]:
    with operator.namespace("copies") as name:
        yield name


@pytest.mark.timeout(420)
def test_programs_have_copies_of_a_template(operator: KindCluster, namespace: str) -> None:
    domain = Domain(operator, namespace)
    templates = [{"name": "actor", "maxCopies": 2}]
    domain.create(
        name_server("casting", adHoc="Allowed", shutdown={"timeoutSeconds": 20}, templates=templates),
        agent("director", "casting", [], class_="agents:Director", code=CASTING),
        agent("actor", "casting", [], class_="agents:Actor", code=CASTING, replicas=0, attributes={"kept": "template", "wanted": ""}),
    )

    def copies() -> dict[str, str]:
        found = domain.get("agents.ganglion.dev", "-l", "ganglion.dev/template=actor")["items"]
        return {item["metadata"]["name"]: item["metadata"]["uid"] for item in found}

    try:
        wait_for(lambda: "SEEN ['Alice', 'Bob']" in domain.log("director"), timeout=180, interval=1.0, what="the director has two actors")
        said = domain.log("director")
        made = copies()
        assert len(made) == 2
        for name in ("Alice", "Bob"):
            [line] = [line for line in said.splitlines() if line.startswith(f"COPY {name} ")]
            _, _, replica, kept, wanted = line.split()
            # A pod of the copy's Job.
            assert (replica.rsplit("-", 2)[0] in made, kept, wanted) == (True, "template", name.lower()), replica
        assert f"REFUSED NameServer {namespace}/casting: spec.templates allows 2 copies of 'actor', and as many exist" in said
        assert f"REFUSED NameServer {namespace}/casting: spec.templates does not list 'director'" in said
    except BaseException as error:
        error.add_note(domain.diagnosis() + domain.log("director"))
        raise
