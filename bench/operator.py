"""Operator: N Agents to Ready on fake nodes, against N plain StatefulSets with the same pods, created as concurrently in the same run.

    python -m bench.operator [--agents N] [--rounds N]

etcd, API server, controllers, scheduler, kwok and operator share this machine. A restart of the operator with all Agents in place is
measured, too: it must write nothing.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.report import RESULTS, render
from hack.kind import fakenodes, golang
from hack.kind.provider import by_name
from tests.support.apiserver import ApiServer
from tests.support.domain import Cluster, install_definitions
from tests.support.operator import OperatorProcess
from tests.support.wait import wait_for

CLIENTS = 8
DEADLINE_SECONDS = 600.0
MAX_RATIO = 1.2
MAX_MEGABYTES = 128

NAME_SERVER = {"apiVersion": "ganglion.dev/v1alpha1", "kind": "NameServer", "metadata": {"name": "zoo"}, "spec": {}}
CHANNEL = {
    "apiVersion": "ganglion.dev/v1alpha1",
    "kind": "Channel",
    "metadata": {"name": "tasks"},
    "spec": {"nameServerRef": {"name": "zoo"}, "pattern": "PushPull"},
}


def agent(number: int) -> dict[str, Any]:
    """One small agent; all share a channel, which is the expensive case."""
    entry = {"alias": "in", "channelRef": {"name": "tasks"}, "role": "Pull", "handler": "work"}
    toleration = {"key": "kwok", "operator": "Exists"}
    spec = {"nameServerRef": {"name": "zoo"}, "class": "demo:Worker", "channels": [entry], "tolerations": [toleration]}
    return {"apiVersion": "ganglion.dev/v1alpha1", "kind": "Agent", "metadata": {"name": f"agent-{number}"}, "spec": spec}


def plain(number: int, template: dict[str, Any]) -> dict[str, Any]:
    """A StatefulSet with an agent's pod, made by hand."""
    labels = {"app": f"plain-{number}"}
    pod = {"metadata": {"labels": labels}, "spec": template["spec"]}
    spec = {
        "replicas": 1,
        "serviceName": "plain",
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": labels},
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
    """Poll twice a second: listing thousands of objects is work for the API server, too."""
    wait_for(lambda: count() >= wanted, timeout=DEADLINE_SECONDS, what=what, interval=0.5)


def ready_statefulsets(cluster: Cluster) -> int:
    """StatefulSets with a ready pod, but the name server's."""
    _, body = cluster.server.request("GET", cluster.path("statefulsets"))
    return sum(item["status"].get("readyReplicas", 0) for item in body["items"] if item["metadata"]["name"] != "zoo")


def ready_agents(cluster: Cluster) -> int:
    """Agents whose Ready condition is True."""
    _, body = cluster.server.request("GET", cluster.path("agents"))
    conditions = (c for item in body["items"] for c in item.get("status", {}).get("conditions", ()))
    return sum(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def usage(process: OperatorProcess) -> tuple[float, float]:
    """(CPU seconds, most memory in MiB) of the operator."""
    assert process.child is not None
    fields = Path(f"/proc/{process.child.pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{process.child.pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(peak.split()[1]) / 1024


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
            fakenodes.start(by_name("offline"), server.kubeconfig, state, nodes)
            yield
        finally:
            fakenodes.stop(state)
            scheduler.send_signal(signal.SIGTERM)
            scheduler.wait(timeout=20)


def timed(work: Callable[[], None]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def round_of_agents(server: ApiServer, count: int) -> dict[str, Any]:
    """N Agents in a fresh namespace, then a restart of the operator."""
    with server.namespace("agents") as name:
        cluster = Cluster(server, name)
        with OperatorProcess(server.kubeconfig, (name,)) as process:
            process.wait_ready()
            cluster.apply(json.dumps(NAME_SERVER))
            cluster.apply(json.dumps(CHANNEL))
            wait_for(lambda: cluster.need("nameservers", "zoo").get("status", {}).get("publicKey"), timeout=60, what="keys")

            def work() -> None:
                post(cluster, "agents", [agent(number) for number in range(count)])
                await_count(lambda: ready_agents(cluster), count, "Agents Ready")

            seconds = timed(work)
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
                "seconds": seconds, "operator CPU s": cpu, "peak MiB": peak, "writes": writes,
                "restart writes": process.writes(), "restart CPU s": again, "restart peak MiB": again_peak,
            }  # fmt: skip
        cluster.server.kubectl("delete", "agents,nameservers", "--all", "-n", name, "--wait=false")
        wait_for(lambda: not cluster.names("pods"), timeout=DEADLINE_SECONDS, what="pods gone", interval=0.5)
        return out


def round_of_plain(server: ApiServer, count: int, template: dict[str, Any]) -> float:
    """N StatefulSets in a fresh namespace."""
    with server.namespace("plain") as name:
        cluster = Cluster(server, name)

        def work() -> None:
            post(cluster, "statefulsets", [plain(number, template) for number in range(count)])
            await_count(lambda: ready_statefulsets(cluster), count, "StatefulSets ready")

        seconds = timed(work)
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


def main() -> int:
    """Run the bench; returns 1 when a bound of the project is exceeded."""
    parser = argparse.ArgumentParser(prog="python -m bench.operator", description=__doc__)
    parser.add_argument("--agents", type=int, default=1000, help="objects of each kind (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, alternating (default: %(default)s)")
    arguments = parser.parse_args()
    agents: list[dict[str, Any]] = []
    plains: list[float] = []
    with ApiServer(controllers=True) as server:
        install_definitions(server)
        with scheduled(server, arguments.agents * 2 // fakenodes.PODS_PER_NODE + 2):
            template = pod_template(server)
            for number in range(arguments.rounds):
                plains.append(round_of_plain(server, arguments.agents, template))
                agents.append(round_of_agents(server, arguments.agents))
                print(f"round {number + 1}: plain {plains[-1]:.1f} s, agents {agents[-1]['seconds']:.1f} s", flush=True)
    seconds = [row["seconds"] for row in agents]
    ratio = statistics.median(seconds) / statistics.median(plains)
    peak = max(max(row["peak MiB"], row["restart peak MiB"]) for row in agents)
    restart_writes = max(row["restart writes"] for row in agents)
    rows = [
        {
            "case": f"{arguments.agents} plain StatefulSets Ready [s]",
            "median": statistics.median(plains),
            "low": min(plains),
            "high": max(plains),
        },
        {"case": f"{arguments.agents} Agents Ready [s]", "median": statistics.median(seconds), "low": min(seconds), "high": max(seconds)},
        {"case": "ratio", "median": ratio, "bound": f"≤ {MAX_RATIO}", "met": ratio <= MAX_RATIO},
        {"case": "operator CPU [s]", "median": statistics.median(row["operator CPU s"] for row in agents)},
        {"case": "operator writes", "median": statistics.median(row["writes"] for row in agents)},
        {"case": "writes after a restart", "median": restart_writes, "bound": "0", "met": restart_writes == 0},
        {"case": "restart CPU [s]", "median": statistics.median(row["restart CPU s"] for row in agents)},
        {"case": "operator peak memory [MiB]", "median": peak, "bound": f"≤ {MAX_MEGABYTES}", "met": peak <= MAX_MEGABYTES},
    ]
    render("Operator: Agents to Ready on fake nodes", rows, RESULTS / "operator.json", RESULTS / "operator.png")
    return 0 if all(row.get("met", True) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
