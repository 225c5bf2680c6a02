"""Programs that make agents in a domain that `ganglion up` runs: they find each other as in a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.local.domain import agent, desk, server, write

CODE = """
import os
from ganglion import CommunicationError, NamingError, Proxy, run_agent


def pair(agent):
    mine = os.environ["GANGLION_REPLICA"]
    theirs = "pair-1" if mine == "pair-0" else "pair-0"
    me = run_agent(f"of-{mine}", attributes={"heard": False})
    other = Proxy(f"of-{theirs}", timeout=30)
    print("HEARS", other.ping(), "in", os.environ["GANGLION_DOMAIN"], flush=True)
    me.set_attr(heard=True)
    try:
        # What this one has made ends with it, so the other must have heard it before. It may be gone then.
        while not other.get_attr("heard"):
            pass
    except (CommunicationError, NamingError):
        pass
"""


@pytest.mark.parametrize("plane", ["Sidecar", "InProcess"])
def test_replicas_make_agents_that_hear_each_other(tmp_path: Path, plane: str) -> None:
    objects = [server(adHoc="Allowed"), agent("pair", "agents:pair", [], run="Once", replicas=2, dataPlane=plane)]
    with desk(tmp_path) as here:
        process = here.up(write(tmp_path / "domain", objects, CODE))
        assert process.wait(60) == 0, here.output()
        assert here.output().count("HEARS pong in default/shop") == 2, here.output()
        here.assert_nothing_left(None)
