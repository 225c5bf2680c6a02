"""Scenarios in a cluster: every second agent of each in another pod. It travels to the pods with what it plays, without pytest.

Each pod's agent runs `serve`; in one of them `python -m tests.differential.pods SCENARIO…` plays, and prints a JSON line for each.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from ganglion import Agent, NSProxy, Proxy, run_agent, run_logger
from tests.differential.catalogue import catalogue
from tests.differential.host import play
from tests.differential.stage import Stage
from tests.support.wait import wait_for

CHOSEN = (
    "aliases.addresses_travel_in_messages",
    "asyncrep.many_outstanding",
    "asyncrep.several_clients",
    "handling.handler_sends_on",
    "lifecycle.shutdown_from_a_handler",
    "logging.several_agents",
    "proxies.a_proxy_in_a_message",
    "pubsub.a_topic_is_a_prefix",
    "pubsub.sub_binds_and_publishers_connect",
    "pushpull.pull_binds",
    "pushpull.push_binds",
    "pushpull.round_robin",
    "pushpull.values_of_all_kinds",
    "requestreply.early_reply",
    "requestreply.req_binds",
    "requestreply.several_clients_of_one_server",
    "serializers.json_requests",
    "subscriptions.subscribe_at_run_time",
    "syncpub.a_request",
    "syncpub.the_reply_keeps_its_place",
    "timers.a_timer_from_a_handler",
)
"""Over all patterns, with either end binding; each has agents that talk to each other, and none looks at files or at its own machine."""
PREFIX = "host-"
PARTS = ("tests/__init__.py", "tests/support/__init__.py", "tests/support/wait.py", "tests/differential/scenarios")
MODULES = ("__init__", "canonical", "catalogue", "handlers", "host", "pods", "stage")


def archive() -> bytes:
    """What the pods need, as a zip file that Python imports from."""
    root = Path(__file__).resolve().parents[2]
    paths = [root / part for part in (*PARTS, *(f"tests/differential/{name}.py" for name in MODULES))]
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
            for path in (inner for part in paths for inner in (sorted(part.glob("*.py")) if part.is_dir() else [part])):
                made.write(path, str(path.relative_to(root)))
        file.seek(0)
        return file.read()


class Spawner(Agent):
    """Makes agents in its pod."""

    def spawn(self, logger: bool, name: str, nameserver: Any, options: dict[str, Any]) -> Proxy:
        """`run_logger` or `run_agent`, here."""
        return (run_logger if logger else run_agent)(name, nameserver, **options)


def serve(_agent: Any) -> None:
    """Code of the pods' agent: have a spawner in the domain's directory."""
    run_agent(PREFIX + os.environ["GANGLION_REPLICA"], base=Spawner)


class PodStage(Stage):
    """A stage whose every second agent is in another pod.

    Args:
        log: as of `Stage`.
        elsewhere: the spawner of another pod.
    """

    def __init__(self, log: Path, elsewhere: Proxy) -> None:
        super().__init__("ganglion", log)
        self._elsewhere = elsewhere
        self.made = [0, 0]
        """Agents here and elsewhere."""

    def _run(self, logger: bool, name: str, options: dict[str, Any]) -> Any:
        nameserver = self.ns.addr()
        place = sum(self.made) % 2
        self.made[place] += 1
        if place == 0:
            return (run_logger if logger else run_agent)(name, nameserver, **options)
        return self._elsewhere.spawn(logger, name, nameserver, options)

    def agent(self, name: str = "", **options: Any) -> Any:
        """As of `Stage`."""
        return self._run(False, name, options)

    def logger(self, name: str = "logger", **options: Any) -> Any:
        """As of `Stage`."""
        return self._run(True, name, options)


def main(names: list[str]) -> int:
    """Play, and tell of each."""
    here = PREFIX + os.environ["GANGLION_REPLICA"]
    directory = NSProxy(timeout=30)
    others = wait_for(lambda: [name for name in directory.agents() if name.startswith(PREFIX) and name != here], timeout=60)
    elsewhere = directory.proxy(others[0], timeout=30)
    scenarios = catalogue()
    with tempfile.NamedTemporaryFile() as log:
        for name in names:
            environment = dict(os.environ)
            stage = PodStage(Path(log.name), elsewhere)
            print(json.dumps({"scenario": name, "made": stage.made, **play(stage, scenarios[name][0])}), flush=True)
            os.environ.clear()
            os.environ.update(environment)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
