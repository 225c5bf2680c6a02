"""A real kind cluster for the end-to-end tests, and the faults that they inject into its nodes."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from hack.kind import projectimages
from hack.kind.cluster import Cluster
from hack.kind.config import Options
from hack.kind.engine import Engine
from hack.kind.projectimages import base_image, default_images
from hack.kind.provider import Provider, select
from hack.kind.steps import KindError
from tests.support.kubeapi import KubeApi
from tests.support.wait import wait_for

_READING = {"get", "logs"}
SPARE = "ganglion.dev/spare"
"""Taint of the node that tests may break while others run; who tolerates it may go there."""


class _Unreachable(subprocess.CalledProcessError):
    """There was no answer at all."""


class KindCluster:
    """A running cluster with the project's images on its nodes.

    Attributes:
        agent_image, operator_image: names of the loaded images; pods use them with imagePullPolicy Never or IfNotPresent.
        api: reads what tests wait for.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._provider: Provider = cluster.provider()
        images = default_images()
        self.agent_image = images["agent"].name
        self.operator_image = images["operator"].name
        self.environment: Mapping[str, str] = {**os.environ, **cluster.environment()}
        self.api = KubeApi(cluster.kubeconfig)

    @property
    def nodes(self) -> list[str]:
        """Names of the real nodes, the control plane first."""
        return list(self._cluster.record["nodes"])

    @property
    def engine(self) -> Engine:
        """The container engine whose containers the nodes are."""
        return self._provider.engine

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 120.0) -> str:
        """Run kubectl as administrator and return its stdout.

        Reading is tried three times: an API server on a busy machine now and then takes longer for a TLS handshake than kubectl waits.

        Raises:
            subprocess.CalledProcessError: with the output of kubectl in its notes.
        """
        for _ in range(2 if _READING & set(arguments[:3]) else 0):
            with contextlib.suppress(_Unreachable):
                return self.command("kubectl", *arguments, stdin=stdin, timeout=timeout)
        return self.command("kubectl", *arguments, stdin=stdin, timeout=timeout)

    def helm(self, *arguments: str, timeout: float = 300.0) -> str:
        """Run helm as administrator and return its stdout; raises as `kubectl` does."""
        return self.command("helm", *arguments, timeout=timeout)

    def command(self, program: str, *arguments: str, stdin: str | None = None, timeout: float = 120.0) -> str:
        """Run a program with KUBECONFIG, PATH and the engine's variables set; `timeout` in seconds."""
        command = [str(self._provider.tool(program)), *arguments]
        try:
            done = subprocess.run(
                command,
                input=stdin or "",
                capture_output=True,
                text=True,
                timeout=timeout,
                check=True,
                env=dict(self.environment),
            )
        except subprocess.CalledProcessError as error:
            if "Unable to connect to the server" in error.stderr:
                error = _Unreachable(error.returncode, error.cmd, error.stdout, error.stderr)
            error.add_note(error.stdout + error.stderr)
            raise error from None
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get … -o json`, decoded."""
        answer = self.api.get(*arguments)
        if answer is None:
            answer = json.loads(self.kubectl("get", *arguments, "--output", "json"))
        return answer

    def apply(self, namespace: str, *objects: Mapping[str, Any]) -> None:
        """Apply objects to a namespace."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--namespace", namespace, "--filename", "-", stdin=json.dumps(listed))

    def build(self, tag: str, containerfile: Path, context: Path) -> None:
        """Build an image from what the project's images start from, and from the agents' image, and put it on the nodes.

        Arguments:
            tag: its name; pods use it with imagePullPolicy Never or IfNotPresent.
            containerfile: its arguments are BASE_IMAGE and AGENT_IMAGE.
            context: folder that it copies from.
        """
        base = base_image(self._provider)
        arguments = {"AGENT_IMAGE": self.agent_image, **({"BASE_IMAGE": base} if base else {})}
        self.engine.build(tag, containerfile, context, arguments=arguments)
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "image.tar"
            self.engine.save([tag], archive)
            self._cluster.load_archive(archive, self._cluster.schedulable())

    @contextlib.contextmanager
    def namespace(self, prefix: str = "test") -> Iterator[str]:
        """A fresh namespace whose pods may start at once; deleted, with all it holds, at the end."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        self.kubectl("create", "namespace", name)
        try:
            # Pods are refused until the controller has made their service account.
            wait_for(
                lambda: "default" in self.kubectl("get", "serviceaccounts", "-n", name, "-o", "name"),
                what=f"default service account of {name}",
            )
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")

    @property
    def spare(self) -> str:
        """The node that tests may break while others run.

        Raises:
            LookupError: there are fewer than three nodes.
        """
        if len(self.nodes) < 3:
            raise LookupError(f"{len(self.nodes)} nodes: none is spare; make three (GANGLION_KIND_NODES=3)")
        return self.nodes[-1]

    def on_node(self, node: str, *command: str, timeout: float = 60.0) -> str:
        """Run a command as root on a node, in its network namespace, and return its stdout."""
        return self.engine.run("exec", self._known(node), *command, timeout=timeout)

    def start_on_node(self, node: str, *command: str, stdout: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a command as root on a node; the caller ends it, best by closing its stdin."""
        return subprocess.Popen(
            [self.engine.name, "exec", "--interactive", self._known(node), *command],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self.engine.environment},
        )

    @contextlib.contextmanager
    def paused(self, node: str) -> Iterator[None]:
        """Freeze a node and everything on it, as a machine that hangs; thawed at the end."""
        self._known(node)

        def frozen() -> bool:
            # The freezer of control groups gives up when processes of the node keep starting others: then it runs on as before.
            try:
                self.engine.run("pause", node)
            except KindError as error:
                if "unable to freeze" not in str(error):
                    raise
                return False
            return True

        wait_for(frozen, timeout=60, interval=1.0, what=f"{node} is frozen")
        try:
            yield
        finally:
            self.engine.run("unpause", node)

    @contextlib.contextmanager
    def partitioned(self, node: str) -> Iterator[None]:
        """Cut a node off from the other nodes in both directions, pods included; healed at the end."""
        rules = """\
table inet ganglion_fault {
  chain in { type filter hook input priority -300; iifname "eth0" drop; }
  chain out { type filter hook output priority -300; oifname "eth0" drop; }
  chain through { type filter hook forward priority -300; iifname "eth0" drop; oifname "eth0" drop; }
}
"""
        self.on_node(self._known(node), "sh", "-c", f"nft -f - <<'RULES'\n{rules}RULES")
        try:
            yield
        finally:
            self.on_node(node, "nft", "delete", "table", "inet", "ganglion_fault")

    def _known(self, node: str) -> str:
        # Names from a test reach the engine, which may run containers that are none of ours.
        if node not in self.nodes:
            raise ValueError(f"node {node!r}: not one of {', '.join(self.nodes)}")
        return node


def kept() -> bool:
    """Whether KEEP_CLUSTER says that clusters stay."""
    return os.environ.get("KEEP_CLUSTER", "") not in {"", "0"}


@contextlib.contextmanager
def kind_cluster(*, nodes: int = 1, name: str = "", fast_restart: bool = True, keep: bool = False) -> Iterator[KindCluster]:
    """A cluster with the project's images loaded. Of three nodes the last is spare, and the control plane takes ordinary pods instead.

    Arguments:
        nodes: number of nodes, control plane included.
        name: cluster name; default GANGLION_KIND_CLUSTER or `ganglion`.
        fast_restart: lower kubelet's crash back-off to 1 s: a restart then takes at most about 16 s, however many went before.
        keep: leave it at the end.

    Raises:
        hack.kind.steps.KindError: the cluster cannot be made; says why and what to do.
    """
    chosen = name or os.environ.get("GANGLION_KIND_CLUSTER", "ganglion")
    cluster = Cluster(chosen)
    provider = os.environ.get("GANGLION_KIND_PROVIDER", "auto")
    image = os.environ.get("GANGLION_KIND_NODE_IMAGE", "")
    try:
        with _built(select(provider, image)):
            cluster.up(Options(name=chosen, nodes=nodes, fast_restart=fast_restart), provider, image=image)
        kind = KindCluster(cluster)
        if nodes >= 3:
            if kind.nodes[0] not in cluster.schedulable():
                kind.kubectl("taint", "nodes", kind.nodes[0], "node-role.kubernetes.io/control-plane:NoSchedule-")
            # With what runs there already: a name server of the cluster that hangs with the node would disturb everybody.
            kind.kubectl("taint", "nodes", kind.nodes[-1], f"{SPARE}:NoExecute", "--overwrite")
        # The operator's image is the larger one, and it never runs on the spare node.
        cluster.load(["operator"])
        cluster.load(["agent"], kind.nodes if nodes >= 3 else ())
        yield kind
    finally:
        if not keep:
            cluster.delete()


@contextlib.contextmanager
def _built(made_by: Provider) -> Iterator[None]:
    """The project's images are built in the background of the block: nodes that come up mostly wait."""
    with ThreadPoolExecutor(1, thread_name_prefix="images") as builder:
        built = builder.submit(build_images, made_by)
        yield
        built.result()


def build_images(made_by: Provider) -> None:
    """The project's images, where they are stale."""
    for short in default_images():
        projectimages.archive(made_by, short)
