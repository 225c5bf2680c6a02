"""The kind configuration of a run: the stock `kind-config.yaml` plus what the options and the provider add. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hack.kind.steps import KindError

# More do not fit beside the tests on a small machine, and no scenario needs them.
MOST_NODES = 5
# kind's patches merge into kubeadm's documents; one that matches no document (another kubeadm version) is ignored.
_OFFLINE_NETWORKING = {"disableDefaultCNI": "true", "kubeProxyMode": "nftables"}
_OFFLINE_KUBELET = """\
kind: KubeletConfiguration
cgroupDriver: cgroupfs
failCgroupV1: false
featureGates:
  # No CAP_SYS_RESOURCE: kubelet must live without the sysctls and the oom scores that it may not set.
  KubeletInUserNamespace: true
"""
_FAST_RESTART = """\
kind: KubeletConfiguration
featureGates:
  KubeletCrashLoopBackOffMax: true
crashLoopBackOff:
  maxContainerRestartPeriod: 1s
"""
# Measured on two cores: 1,000 StatefulSets of one pod ran after 183 s with the defaults, after 33 s with these.
# The long grace period is for fake nodes whose heartbeats a busy machine delays.
_MANAGER_FLAGS = {
    "concurrent-statefulset-syncs": "20",
    "kube-api-burst": "1000",
    "kube-api-qps": "500",
    "node-monitor-grace-period": "300s",
}
_SCHEDULER_FLAGS = {"kube-api-burst": "1000", "kube-api-qps": "500"}


@dataclass(frozen=True)
class Options:
    """What a cluster is asked to be.

    Attributes:
        name: cluster name, which prefixes the nodes' names.
        nodes: total number of nodes; the first is the control plane.
        fast_restart: lower kubelet's crash back-off from 10 s … 5 min to 1 s. A container then restarts within about 16 s of
            every crash: kubelet looks again at a pod that it held back after 10 to 15 s (its backOffPeriod, a constant).
        scale: raise the request rates of controller manager and scheduler, for benches on fake nodes.
        offline: add what the offline node image needs.
    """

    name: str = "ganglion"
    nodes: int = 1
    fast_restart: bool = False
    scale: bool = False
    offline: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", self.name):
            raise KindError(f"cluster name {self.name!r}: use at most 32 lower-case letters, digits and dashes")
        if not 1 <= self.nodes <= MOST_NODES:
            raise KindError(f"nodes: {self.nodes}; a cluster of this project has 1 to {MOST_NODES}")

    def node_names(self) -> list[str]:
        """The names that kind gives the nodes: control plane first, then workers."""
        workers = [f"{self.name}-worker{number if number > 1 else ''}" for number in range(1, self.nodes)]
        return [f"{self.name}-control-plane", *workers]


def render(stock: str, options: Options) -> str:
    """The configuration for `kind create cluster`.

    Arguments:
        stock: text of `kind-config.yaml`: block style at the top level, as kind's own examples are.

    Raises:
        KindError: the stock file is not written so, already sets what must be added, or asks for more nodes.
    """
    sections = _sections(stock)
    sections["name"] = [f"name: {options.name}"]
    if options.offline:
        networking = sections.setdefault("networking", ["networking:"])
        for key, value in _OFFLINE_NETWORKING.items():
            if any(re.match(rf"\s+{key}\s*:", line) for line in networking):
                raise KindError(f"kind-config.yaml: networking.{key} is set, but the offline provider must set it itself")
            networking.append(f"  {key}: {value}")
    nodes = sections.setdefault("nodes", ["nodes:", "- role: control-plane"])
    present = sum(bool(re.match(r"\s*- ", line)) for line in nodes if "role:" in line)
    if present > options.nodes:
        raise KindError(f"kind-config.yaml: {present} nodes are written there; ask for as many with --nodes")
    nodes.extend(["- role: worker"] * (options.nodes - present))
    patches = sections.setdefault("kubeadmConfigPatches", ["kubeadmConfigPatches:"])
    for patch in _patches(options):
        patches.append("- |")
        patches.extend(f"  {line}" for line in patch.splitlines())
    if len(patches) == 1:
        del sections["kubeadmConfigPatches"]
    return "\n".join(line for lines in sections.values() for line in lines) + "\n"


def _patches(options: Options) -> list[str]:
    patches = [_OFFLINE_KUBELET] if options.offline else []
    patches += [_FAST_RESTART] if options.fast_restart else []
    if options.scale:
        # Extra flags are a map up to v1beta3 of kubeadm's configuration and a list from v1beta4 on.
        for version, flags in (("v1beta3", _flag_map), ("v1beta4", _flag_list)):
            patches.append(
                f"apiVersion: kubeadm.k8s.io/{version}\nkind: ClusterConfiguration\n"
                f"controllerManager:\n  extraArgs:\n{flags(_MANAGER_FLAGS)}"
                f"scheduler:\n  extraArgs:\n{flags(_SCHEDULER_FLAGS)}"
            )
    return patches


def _flag_map(flags: dict[str, str]) -> str:
    return "".join(f'    {name}: "{value}"\n' for name, value in flags.items())


def _flag_list(flags: dict[str, str]) -> str:
    return "".join(f'    - name: {name}\n      value: "{value}"\n' for name, value in flags.items())


def _sections(text: str) -> dict[str, list[str]]:
    """Lines by top-level key, comments dropped: enough of YAML for a file of our own, without a YAML library."""
    sections: dict[str, list[str]] = {}
    current: list[str] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key = re.match(r"([A-Za-z]\w*):(.*)$", line)
        if key is not None:
            if key[2].strip().startswith(("{", "[")):
                raise KindError(f"kind-config.yaml:{number}: write {key[1]} in block style, one entry a line")
            if key[1] in sections:
                raise KindError(f"kind-config.yaml:{number}: {key[1]} is there twice; the file holds one document")
            current = sections[key[1]] = []
        elif current is None or not line.startswith((" ", "- ")):
            raise KindError(f"kind-config.yaml:{number}: {line!r} is not understood; use block style and one document")
        current.append(line)
    return sections
