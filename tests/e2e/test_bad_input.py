"""What is wrong in a pod becomes one clear line of its Agent, as the kubelet tells it, and a correction heals."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.e2e.domain import Domain, agent, name_server
from tests.support.cluster import KindCluster
from tests.support.wait import wait_for

CODE = """
    from ganglion import Agent

    class Plain(Agent):
        pass

    class Broken(Agent):
        def __init__(self):
            raise ValueError("made to fail")
"""
NOWHERE = "localhost/no-such-image:1"
BAD: dict[str, tuple[dict[str, Any], str, str, dict[str, Any]]] = {
    # name: (spec, reason, what the message names, correction)
    "ghost": ({"class_": "agents:Plain", "image": NOWHERE}, "ImagePullBackOff", NOWHERE, {"image": None}),
    "missing": ({"class_": "nowhere:Plain"}, "ClassNotLoadable", "nowhere", {"class": "agents:Plain"}),
    "broken": ({"class_": "agents:Broken"}, "ClassNotLoadable", "__init__ raised ValueError: made to fail", {"class": "agents:Plain"}),
}


def test_what_is_wrong_in_pods_is_told_and_heals(operator: KindCluster) -> None:
    with operator.namespace("bad") as namespace:
        here = Domain(operator, namespace)
        bad = [agent(name, "demo", [], code=CODE, **spec) for name, (spec, *_) in BAD.items()]
        here.create(name_server("demo", shutdown={"timeoutSeconds": 10}), *bad)

        def told(name: str, reason: str, text: str) -> Callable[[], bool]:
            def looks() -> bool:
                ready = here.condition("zag", name, "Ready")
                return ready.get("reason") == reason and text in ready.get("message", "")

            return looks

        try:
            for name, (_, reason, text, _) in BAD.items():
                wait_for(told(name, reason, text), timeout=120, interval=0.5, what=f"{name}: {reason}: {text}")
            for name, (*_, correction) in BAD.items():
                here.kubectl("patch", "agents.ganglion.dev", name, "--type=merge", "-p", json.dumps({"spec": correction}))
            here.wait_ready(*BAD, timeout=120)
        except BaseException as error:
            error.add_note(here.diagnosis())
            raise
