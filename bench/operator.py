"""Operator: N Agents to Ready on fake nodes, against N plain StatefulSets with the same pods, created as concurrently in the same run.

    python -m bench.operator [--agents N] [--rounds N]

etcd, API server, controllers, scheduler, kwok and operator share this machine. The plain ones
have what a StatefulSet needs and an Agent gets from its NameServer: one governing headless Service for all. A restart of the operator
with all Agents in place is measured, too: it must write nothing.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.report import RESULTS, render
from hack.kind import fakenodes, golang
from hack.kind.provider import by_name
from hack.kind.steps import KindError
from tests.support.apiserver import ApiServer
from tests.support.domain import Cluster, install_definitions
from tests.support.operator import OperatorProcess
from tests.support.wait import wait_for

CLIENTS = 8
DEADLINE_SECONDS = 600.0
MAX_RATIO = 1.2
MAX_MEGABYTES = 128

NAME_SERVER: dict[str, Any] = {"apiVersion": "ganglion.dev/v1alpha1", "kind": "NameServer", "metadata": {"name": "zoo"}, "spec": {}}
CHANNEL = {
    "apiVersion": "ganglion.dev/v1alpha1",
    "kind": "Channel",
    "metadata": {"name": "tasks"},
    "spec": {"nameServerRef": {"name": "zoo"}, "pattern": "PushPull"},
}
PLAIN_SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "plain"},
    "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"governed-by": "plain"}},
}


def agent(number: int) -> dict[str, Any]:
    """One small agent; all share a channel, which is the expensive case."""
    entry = {"alias": "in", "channelRef": {"name": "tasks"}, "role": "Pull", "handler": "work"}
    # Of every taint: no controller here takes `not-ready` from new nodes.
    toleration = {"operator": "Exists"}
    spec = {"nameServerRef": {"name": "zoo"}, "class": "demo:Worker", "channels": [entry], "tolerations": [toleration]}
    return {"apiVersion": "ganglion.dev/v1alpha1", "kind": "Agent", "metadata": {"name": f"agent-{number}"}, "spec": spec}


def plain(number: int, template: dict[str, Any]) -> dict[str, Any]:
    """A StatefulSet with an agent's pod, made by hand."""
    labels = {"app": f"plain-{number}", "governed-by": PLAIN_SERVICE["metadata"]["name"]}
    pod = {"metadata": {"labels": labels}, "spec": template["spec"]}
    spec = {
        "replicas": 1,
        "serviceName": PLAIN_SERVICE["metadata"]["name"],
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {"app": labels["app"]}},
        "template": pod,
    }
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": f"plain-{number}"}, "spec": spec}


def post(cluster: Cluster, plural: str, bodies: list[dict[str, Any]]) -> None:
    """Create all, a few at a time."""

    def one(body: dict[str, Any]) -> None:
        status, answer = cluster.server.request("POST", cluster.path(plural), body)
        if status != 201:
            raise RuntimeError(f"{plural}: {status} {answer}")

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(one, bodies))


def await_count(count: Callable[[], int], wanted: int, what: str) -> None:
    """Poll twice a second."""
    wait_for(lambda: count() >= wanted, timeout=DEADLINE_SECONDS, what=what, interval=0.5)


class Arrivals:
    """A watch that counts objects whose column Ready says `wanted`.

    Rows as `kubectl get --watch` would print them: lists of a thousand whole objects, twice a second, would cost the API server as much as
    some of the work that is measured, and more for custom resources than for StatefulSets.

    Arguments:
        wanted: `1/1` for StatefulSets, `True` for Agents.
        count: objects to wait for.
    """

    def __init__(self, cluster: Cluster, plural: str, wanted: str, count: int) -> None:
        self._wanted, self._count, self._plural = wanted, count, plural
        self._ready: set[str] = set()
        self._ended = threading.Event()
        self._error: Exception | None = None
        _, listed = cluster.server.request("GET", cluster.path(plural) + "?limit=1")
        query = f"?watch=1&includeObject=None&timeoutSeconds={DEADLINE_SECONDS:.0f}&resourceVersion={listed['metadata']['resourceVersion']}"
        request = urllib.request.Request(cluster.server.url + cluster.path(plural) + query)
        request.add_header("Authorization", f"Bearer {cluster.server.token}")
        request.add_header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        context = ssl.create_default_context(cafile=str(cluster.server.ca))
        self._answer = urllib.request.urlopen(request, timeout=DEADLINE_SECONDS, context=context)
        threading.Thread(target=self._read, name=f"watch of {plural}", daemon=True).start()

    def _read(self) -> None:
        try:
            with self._answer as answer:
                self._error = self._follow(answer)
        except (OSError, ValueError, LookupError) as error:
            self._error = error
        finally:
            self._ended.set()

    def _follow(self, lines: Iterable[bytes]) -> Exception | None:
        """Read until all are Ready; returns what went wrong."""
        column = 0
        for line in lines:
            event = json.loads(line)
            if event["type"] == "ERROR":
                return RuntimeError(f"watch of {self._plural}: {event['object']}")
            # Only the first table has a header.
            header = [definition["name"] for definition in event["object"].get("columnDefinitions") or ()]
            column = header.index("Ready") if header else column
            self._ready.update(row["cells"][0] for row in event["object"]["rows"] if row["cells"][column] == self._wanted)
            if len(self._ready) >= self._count:
                return None
        return RuntimeError(f"the watch of {self._plural} ended with {len(self._ready)} of {self._count} Ready")

    def wait(self) -> None:
        """Return when all are Ready."""
        if not self._ended.wait(DEADLINE_SECONDS):
            raise TimeoutError(f"{self._plural}: {len(self._ready)} of {self._count} Ready after {DEADLINE_SECONDS:.0f} s")
        if self._error is not None:
            raise self._error


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def usage(process: OperatorProcess) -> tuple[float, float]:
    """(CPU seconds, most memory in MiB) of the operator."""
    assert process.child is not None
    status = Path(f"/proc/{process.child.pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return cpu_seconds(process.child.pid), int(peak.split()[1]) / 1024


@contextlib.contextmanager
def scheduled(server: ApiServer, nodes: int) -> Iterator[None]:
    """A scheduler, and kwok with so many fake nodes."""
    with tempfile.TemporaryDirectory(prefix="ganglion-bench-") as name:
        state = Path(name)
        scheduler = subprocess.Popen(
            [
                "setpriv", "--pdeathsig", "KILL", "--", str(golang.program("kube-scheduler")), f"--kubeconfig={server.kubeconfig}",
                "--leader-elect=false", "--secure-port=0", "--kube-api-qps=200", "--kube-api-burst=400",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            fakenodes.start(by_name("offline"), server.kubeconfig, state, nodes, guarded=True)
            yield
        finally:
            fakenodes.stop(state)
            scheduler.send_signal(signal.SIGTERM)
            scheduler.wait(timeout=20)


def timed(server: ApiServer, work: Callable[[], None]) -> tuple[float, float]:
    """(seconds, CPU seconds of the API server) of `work`."""
    started, busy = time.monotonic(), cpu_seconds(server.pid)
    work()
    return time.monotonic() - started, cpu_seconds(server.pid) - busy


def round_of_agents(server: ApiServer, count: int) -> dict[str, Any]:
    """N Agents in a fresh namespace, then a restart of the operator."""
    with server.namespace("agents") as name:
        cluster = Cluster(server, name)
        with OperatorProcess(server.kubeconfig, (name,)) as process:
            process.wait_ready()
            cluster.apply(json.dumps(NAME_SERVER))
            cluster.apply(json.dumps(CHANNEL))
            wait_for(lambda: cluster.need("nameservers", "zoo").get("status", {}).get("publicKey"), timeout=60, what="keys")

            arrivals = Arrivals(cluster, "agents", "True", count)

            def work() -> None:
                post(cluster, "agents", [agent(number) for number in range(count)])
                arrivals.wait()

            seconds, busy = timed(server, work)
            cpu, peak = usage(process)
            wait_for(lambda: process.quiet() and process.quiet(), timeout=60, what="operator quiet")
            writes = process.writes()
            process.stop()
            process.start()
            process.wait_ready()
            await_count(lambda: int(process.metric("controller_runtime_reconcile_total", controller="Agent")), count, "all looked at")
            wait_for(lambda: process.quiet() and process.quiet(), timeout=60, what="operator quiet")
            again, again_peak = usage(process)
            out = {
                "seconds": seconds, "API server CPU s": busy, "operator CPU s": cpu, "peak MiB": peak, "writes": writes,
                "restart writes": process.writes(), "restart CPU s": again, "restart peak MiB": again_peak,
            }  # fmt: skip
        cluster.server.kubectl("delete", "agents,nameservers", "--all", "-n", name, "--wait=false")
        wait_for(lambda: not cluster.names("pods"), timeout=DEADLINE_SECONDS, what="pods gone", interval=0.5)
        return out


def round_of_plain(server: ApiServer, count: int, template: dict[str, Any]) -> tuple[float, float]:
    """N StatefulSets in a fresh namespace; see `timed`."""
    with server.namespace("plain") as name:
        cluster = Cluster(server, name)
        cluster.apply(json.dumps(PLAIN_SERVICE))
        arrivals = Arrivals(cluster, "statefulsets", "1/1", count)

        def work() -> None:
            post(cluster, "statefulsets", [plain(number, template) for number in range(count)])
            arrivals.wait()

        seconds = timed(server, work)
        cluster.server.kubectl("delete", "statefulsets", "--all", "-n", name, "--wait=false")
        wait_for(lambda: not cluster.names("pods"), timeout=DEADLINE_SECONDS, what="pods gone", interval=0.5)
        return seconds


def pod_template(server: ApiServer) -> dict[str, Any]:
    """The pod that the operator makes for one agent, to give the plain StatefulSets the same."""
    with server.namespace("template") as name, OperatorProcess(server.kubeconfig, (name,)) as process:
        process.wait_ready()
        cluster = Cluster(server, name)
        for body in (NAME_SERVER, CHANNEL, agent(0)):
            cluster.apply(json.dumps(body))
        template: dict[str, Any] = cluster.need("statefulsets", "agent-0")["spec"]["template"]
        return template


def spread(case: str, values: list[float]) -> dict[str, Any]:
    """One row of the table."""
    return {"case": case, "median": statistics.median(values), "low": min(values), "high": max(values)}


def main() -> int:
    """Run the bench; returns 1 when a bound of the project is exceeded."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.operator", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", type=int, default=1000, help="objects of each kind (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, alternating (default: %(default)s)")
    arguments = parser.parse_args()
    agents: list[dict[str, Any]] = []
    plains: list[tuple[float, float]] = []
    with ApiServer(controllers=True) as server:
        install_definitions(server)
        with scheduled(server, arguments.agents * 2 // fakenodes.PODS_PER_NODE + 2):
            template = pod_template(server)
            for number in range(arguments.rounds):
                plains.append(round_of_plain(server, arguments.agents, template))
                agents.append(round_of_agents(server, arguments.agents))
                print(f"round {number + 1}: plain {plains[-1][0]:.1f} s, agents {agents[-1]['seconds']:.1f} s", flush=True)
    seconds, seconds_plain = [row["seconds"] for row in agents], [row[0] for row in plains]
    ratio = statistics.median(seconds) / statistics.median(seconds_plain)
    peak = max(max(row["peak MiB"], row["restart peak MiB"]) for row in agents)
    restart_writes = max(row["restart writes"] for row in agents)
    rows = [
        spread(f"{arguments.agents} plain StatefulSets Ready [s]", seconds_plain),
        spread(f"{arguments.agents} Agents Ready [s]", seconds),
        {"case": "ratio", "median": ratio, "bound": f"≤ {MAX_RATIO}", "met": ratio <= MAX_RATIO},
        spread("API server CPU, plain [s]", [row[1] for row in plains]),
        spread("API server CPU, Agents [s]", [row["API server CPU s"] for row in agents]),
        spread("operator CPU [s]", [row["operator CPU s"] for row in agents]),
        spread("operator writes", [row["writes"] for row in agents]),
        {"case": "writes after a restart", "median": restart_writes, "bound": "0", "met": restart_writes == 0},
        spread("restart CPU [s]", [row["restart CPU s"] for row in agents]),
        {"case": "operator peak memory [MiB]", "median": peak, "bound": f"≤ {MAX_MEGABYTES}", "met": peak <= MAX_MEGABYTES},
    ]
    render("Operator: Agents to Ready on fake nodes", rows, RESULTS / "operator.json", RESULTS / "operator.png")
    return 0 if all(row.get("met", True) for row in rows) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KindError as error:
        sys.exit(f"the tools of this bench are missing: {error}")
