"""The offline cluster's networks: the bridge between nodes, its closed door to the outside, and the pods' routes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from hack.kind.engine import Engine
from hack.kind.steps import HERE, KindError, run, succeeds, wait_until

NAME = "ganglion-kind"
SUBNET = "10.89.7.0/24"
TABLE = "ganglion_kind"


@dataclass(frozen=True)
class Node:
    """Name, address inside the kind network, and pod CIDR of a node."""

    name: str
    address: str
    pods: str


def ensure(engine: Engine) -> None:
    """Create the nodes' network, where workers find the control plane by name, and close it to the outside.

    Raises:
        KindError: no network could be created, or no packet filter installed.
    """
    # kind mounts it into every node; kernels without modules have no such directory.
    Path("/lib/modules").mkdir(parents=True, exist_ok=True)
    if not succeeds(["podman", "network", "exists", NAME], timeout=30, env=engine.environment):
        engine.run("network", "create", "--subnet", SUBNET, NAME)
    described = json.loads(engine.run("network", "inspect", NAME))[0]
    bridge = described["network_interface"]
    run(["nft", "--file", "-"], stdin=_closed_door(bridge), timeout=30)


def remove(engine: Engine) -> None:
    """Remove the network and its packet filter; absence is fine. Both stay while another cluster's nodes use them."""
    if succeeds(["podman", "network", "exists", NAME], timeout=30, env=engine.environment):
        if engine.run("ps", "--all", "--filter", f"network={NAME}", "--format", "{{.Names}}").strip():
            return
        # Not by force, which would remove the nodes of a cluster that has come in between.
        if not succeeds(["podman", "network", "rm", NAME], timeout=60, env=engine.environment):
            return
    run(["nft", "--file", "-"], stdin=f"table inet {TABLE}\ndelete table inet {TABLE}\n", timeout=30)
    shared = Path("/run/netns")
    mounted = f" {shared} " in Path("/proc/self/mounts").read_text()
    if mounted and not any(shared.iterdir()):
        # podman mounts this directory onto itself for its first container; busy, or not ours to unmount, is fine.
        succeeds(["umount", shared], timeout=30)


def _closed_door(bridge: str) -> str:
    """nft rules: whatever the nodes or their pods send, nothing is forwarded past the bridge."""
    return f"""\
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  chain forward {{
    type filter hook forward priority -10; policy accept;
    iifname "{bridge}" oifname != "{bridge}" counter drop
  }}
}}
"""


def nodes(kubectl: list[str]) -> list[Node]:
    """The cluster's real nodes, as the API server knows them (fake ones have no pod CIDR of their own)."""
    listed = json.loads(run([*kubectl, "get", "nodes", "--output", "json"], timeout=60))["items"]
    found = []
    for item in listed:
        if item["metadata"].get("annotations", {}).get("kwok.x-k8s.io/node"):
            continue
        addresses = {entry["type"]: entry["address"] for entry in item["status"].get("addresses", [])}
        found.append(Node(item["metadata"]["name"], addresses.get("InternalIP", ""), item["spec"].get("podCIDR", "")))
    return found


def connect_pods(engine: Engine, kubectl: list[str], expected: int, *, timeout: float) -> None:
    """Give every node a bridge for its pods and a route to the pods of each other node.

    Arguments:
        expected: number of real nodes.
        timeout: seconds to wait until all of them are registered and have a pod CIDR.
    """

    def registered() -> bool:
        found = nodes(kubectl)
        return len(found) == expected and all(node.address and node.pods for node in found)

    wait_until(f"{expected} nodes registered with a pod CIDR", registered, timeout=timeout)
    known = nodes(kubectl)
    for node in known:
        if not re.fullmatch(r"[0-9./]+", node.pods):
            raise KindError(f"node {node.name}: pod CIDR {node.pods!r}; only IPv4 is supported offline")
        lines = [f"ip route replace {peer.pods} via {peer.address}" for peer in known if peer is not node]
        lines += ["cat >/etc/cni/net.d/10-ganglion.conflist"]
        script = "set -eu; mkdir -p /etc/cni/net.d; " + "; ".join(lines)
        engine.run("exec", "--interactive", node.name, "sh", "-c", script, stdin=_conflist(node.pods))


def close_dns(kubectl: list[str]) -> None:
    """Let the cluster's DNS answer at once for names outside the cluster. Its pods wait for their network: call it before."""
    corefile = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "coredns", "namespace": "kube-system"},
        "data": {"Corefile": (HERE / "node" / "Corefile").read_text()},
    }
    run([*kubectl, "replace", "--filename", "-"], stdin=json.dumps(corefile), timeout=60)


def _conflist(pods: str) -> str:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        # Pods keep their addresses between nodes, and have no way out of the cluster.
        "ipMasq": False,
        # A pod must reach itself through its own Service.
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": pods}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]})
