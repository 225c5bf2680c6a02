"""One kind cluster: made, checked, filled with images, and removed without a trace."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hack.kind import config, fakenodes, network, projectimages, provider
from hack.kind.config import MOST_NODES, Options
from hack.kind.engine import Engine
from hack.kind.provider import Provider
from hack.kind.steps import ROOT, KindError, digest, run, say, step, succeeds, wait_until

# kubeadm's own bounds add up to about five minutes per phase; a cluster that needs longer is not going to come.
CREATE_SECONDS = 900
READY_SECONDS = 300


SLOW_BOOT = "could not find a log line that matches"
"""kind gives systemd on a node 30 s to come up, which a machine that is busy for a moment exceeds."""
BOOT_TRIES = 3


@dataclass
class Cluster:
    """The cluster of one name. What is known of it lives in `.state/kind/<name>` of the work tree."""

    name: str = "ganglion"
    record: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Options(name=self.name)
        if self._record_file.exists():
            self.record = json.loads(self._record_file.read_text())

    @property
    def state(self) -> Path:
        """Directory of the kubeconfig, the generated configuration and the record of what was loaded."""
        return ROOT / ".state" / "kind" / self.name

    @property
    def kubeconfig(self) -> Path:
        """The cluster's own kubeconfig; the user's is never touched."""
        return self.state / "kubeconfig"

    @property
    def _record_file(self) -> Path:
        return self.state / "cluster.json"

    def provider(self) -> Provider:
        """The provider that made the cluster.

        Raises:
            KindError: there is no cluster.
        """
        if not self.record:
            raise KindError(f"no cluster {self.name!r}: `python -m hack.kind up` makes it")
        return provider.by_name(self.record["provider"], self.record["image"])

    def kubectl(self, made_by: Provider) -> list[str]:
        """The beginning of a kubectl command line for this cluster."""
        return [str(made_by.tool("kubectl")), "--kubeconfig", str(self.kubeconfig), "--request-timeout=20s"]

    def up(self, options: Options, wanted: str, *, image: str = "", kwok: int = 0, fresh: bool = False) -> None:
        """Make the cluster Ready: kept when it is already what is asked for and answers, else made anew.

        Arguments:
            wanted: provider, one of `provider.CHOICES`.
            image: a stock node image instead of kind's default.
            kwok: number of fake nodes; they come with raised request rates of the controllers.
            fresh: make it anew in any case.

        Raises:
            KindError: a step failed; what was made until then is removed.
        """
        chosen = provider.select(wanted, image)
        options = dataclasses.replace(options, offline=chosen.offline, scale=options.scale or kwok > 0)
        node_image = chosen.node_image()
        text = config.render((ROOT / "kind-config.yaml").read_text(), options)
        key = digest(text, node_image, chosen.name)
        if not fresh and self.record.get("key") == key and self.problem() is None:
            say(f"✓ cluster {self.name} is up already")
        else:
            self.delete()
            try:
                self._create(chosen, options, text, node_image)
            except BaseException:
                self.delete()
                raise
            self._remember(provider=chosen.name, image=node_image, key=key, nodes=options.node_names(), loaded={})
        if kwok:
            with step(f"start kwok with {kwok} fake nodes"):
                fakenodes.start(chosen, self.kubeconfig, self.state, kwok)

    def problem(self) -> str | None:
        """What keeps the cluster from being used, or None. Asks the API server: an engine's list may be out of date."""
        if not self.record or not self.kubeconfig.exists():
            return "there is none"
        kubectl = self.kubectl(self.provider())
        if not succeeds([*kubectl, "get", "--raw", "/readyz"], timeout=30):
            return "its API server is not ready"
        ready = self._ready_nodes(kubectl)
        missing = [name for name in self.record["nodes"] if name not in ready]
        return f"nodes not Ready: {', '.join(missing)}" if missing else None

    def load(self, shorts: Sequence[str], nodes: Sequence[str] = ()) -> None:
        """Build the project's images if stale and put them on the nodes that have not got them.

        Arguments:
            shorts: `agent`, `operator`.
            nodes: node names; none: every node that takes ordinary pods.
        """
        made_by = self.provider()
        targets = list(nodes) or self.schedulable()
        for short in shorts:
            archive, key = projectimages.archive(made_by, short)
            loaded: dict[str, dict[str, str]] = self.record["loaded"]
            missing = [node for node in targets if loaded.get(node, {}).get(short) != key]
            if not missing:
                say(f"✓ image {short} is on {', '.join(targets)} already")
                continue
            self.load_archive(archive, missing)
            for node in missing:
                loaded.setdefault(node, {})[short] = key
            self._remember(loaded=loaded)

    def load_archive(self, archive: Path, nodes: Sequence[str]) -> None:
        """Put the images of an archive (`docker save`, `podman save`) on nodes."""
        made_by = self.provider()
        with step(f"load {archive.name} ({archive.stat().st_size >> 20} MiB) on {', '.join(nodes)}"):
            kind: list[str | Path] = [made_by.tool("kind"), "load", "image-archive", archive, "--name", self.name]
            run([*kind, "--nodes", ",".join(nodes)], timeout=600, env=made_by.engine.environment)

    def delete(self) -> None:
        """Remove nodes, network, packet filter, kwok and state; absence is fine."""
        fakenodes.stop(self.state)
        names = [self.record["provider"]] if self.record else ["docker", "podman", "offline"]
        for name in names:
            candidate = provider.by_name(name)
            if shutil.which(candidate.engine.name) is not None and (self.record or candidate.engine.works()):
                self._remove_nodes(candidate.engine)
                if candidate.offline:
                    network.remove(candidate.engine)
        shutil.rmtree(self.state, ignore_errors=True)
        self.record = {}

    def environment(self) -> dict[str, str]:
        """What a shell needs to use the cluster: KUBECONFIG, PATH, and the engine's variables."""
        made_by = self.provider()
        tools = dict.fromkeys(str(made_by.tool(tool).parent) for tool in ("kubectl", "helm", "kind"))
        path = os.pathsep.join([*tools, os.environ.get("PATH", os.defpath)])
        return {**made_by.engine.environment, "KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def _create(self, chosen: Provider, options: Options, text: str, node_image: str) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        written = self.state / "kind-config.yaml"
        written.write_text(text)
        environment = dict(chosen.engine.environment)
        if chosen.offline:
            network.ensure(chosen.engine)
            environment["KIND_EXPERIMENTAL_PODMAN_NETWORK"] = network.NAME
        create: list[str | Path] = [chosen.tool("kind"), "create", "cluster", "--name", options.name, "--image", node_image]
        kubectl = self.kubectl(chosen)
        create += ["--config", written, "--kubeconfig", self.kubeconfig]
        with step(f"create {options.nodes} node(s) with {chosen.name}"):
            for left in reversed(range(BOOT_TRIES)):
                try:
                    run(create, timeout=CREATE_SECONDS, env=environment)
                    break
                except KindError as error:
                    if SLOW_BOOT not in str(error):
                        raise
                    if not left:
                        busy = f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} CPUs"
                        text = f"kind gives a node 30 s to boot, which was too short {BOOT_TRIES} times ({busy}); try again when this machine is less busy"
                        raise KindError(f"{error}\n{text}") from error
                    say("the nodes booted too slowly for kind; trying once more")
                    self._remove_nodes(chosen.engine)
        with step("wait for Ready nodes and cluster DNS"):
            if chosen.offline:
                network.close_dns(kubectl)
                network.connect_pods(chosen.engine, kubectl, options.nodes, timeout=READY_SECONDS)
            wait_until("nodes Ready", lambda: self._ready_nodes(kubectl) >= set(options.node_names()), timeout=READY_SECONDS)
            rollout = ["rollout", "status", "deployment/coredns", "-n", "kube-system"]
            # The watch behind `rollout status` must outlive the request timeout of ordinary calls.
            run([*kubectl, "--request-timeout=0", *rollout, f"--timeout={READY_SECONDS}s"], timeout=READY_SECONDS + 30)

    def _remove_nodes(self, engine: Engine) -> None:
        label = f"label=io.x-k8s.kind.cluster={self.name}"
        nodes = engine.run("ps", "--all", "--filter", label, "--format", "{{.Names}}").split()
        if nodes:
            with step(f"delete {len(nodes)} node(s) of cluster {self.name}"):
                for node in nodes:
                    # A paused node cannot be signalled; that it is not paused is fine. Nothing on it is worth an orderly end.
                    succeeds([engine.name, "unpause", node], timeout=60, env=engine.environment)
                    succeeds([engine.name, "kill", node], timeout=60, env=engine.environment)
                engine.run("rm", "--force", "--volumes", *nodes, timeout=300)
        if engine.name == "podman":
            # kind names these volumes itself, so that the removal of their container leaves them.
            for node in Options(name=self.name, nodes=MOST_NODES).node_names():
                volumes = engine.run("volume", "ls", "--quiet", "--filter", f"label={node}").split()
                if volumes:
                    engine.run("volume", "rm", "--force", *volumes)

    def _ready_nodes(self, kubectl: Sequence[str]) -> set[str]:
        try:
            listed = json.loads(run([*kubectl, "get", "nodes", "--output", "json"], timeout=60))["items"]
        except KindError:
            # The API server of a cluster that is coming up, or going down, refuses now and then.
            return set()
        return {
            item["metadata"]["name"]
            for item in listed
            for condition in item["status"].get("conditions", [])
            if condition["type"] == "Ready" and condition["status"] == "True"
        }

    def schedulable(self) -> list[str]:
        """Names of the nodes that take ordinary pods."""
        listed = json.loads(run([*self.kubectl(self.provider()), "get", "nodes", "--output", "json"], timeout=60))["items"]
        return [
            item["metadata"]["name"]
            for item in listed
            if not any(taint["effect"] in {"NoSchedule", "NoExecute"} for taint in item["spec"].get("taints", []))
        ]

    def _remember(self, **changes: Any) -> None:
        self.record.update(changes)
        self._record_file.write_text(json.dumps(self.record, indent=2))
