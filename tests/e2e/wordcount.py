"""The word count on the cluster: applying it, following it, and reading its report."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.cluster import KindCluster
from tests.support.wait import wait_for

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "wordcount"


class WordCount:
    """One run of `examples/wordcount` in a namespace.

    Args:
        passes: how often each file is sent: how long the run is.
        patches: strategic changes by agent name, merged into its spec.
    """

    def __init__(self, kind: KindCluster, namespace: str, *, passes: int = 1, patches: Mapping[str, Any] | None = None) -> None:
        self.kind = kind
        self.namespace = namespace
        self.passes = passes
        self.patches = patches or {}

    def apply(self) -> None:
        """`kubectl apply -k` of the example with the number of passes set."""
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder) / "base"
            shutil.copytree(EXAMPLE, base, ignore=shutil.ignore_patterns("__pycache__"))
            spec = {name: {"attributes": {"passes": self.passes}} for name in ("ventilator", "sink")}
            for name, patch in self.patches.items():
                spec[name] = {**spec.get(name, {}), **patch}
            patches = [
                {
                    "target": {"kind": "Agent", "name": name},
                    "patch": json.dumps(
                        {"apiVersion": "ganglion.dev/v1alpha1", "kind": "Agent", "metadata": {"name": name}, "spec": change}
                    ),
                }
                for name, change in spec.items()
            ]
            overlay = {"resources": ["base"], "patches": patches}
            (Path(folder) / "kustomization.yaml").write_text(json.dumps(overlay), encoding="utf-8")
            self.kubectl("apply", "-k", folder)

    def kubectl(self, *arguments: str, timeout: float = 120.0) -> str:
        """kubectl in the run's namespace."""
        return self.kind.kubectl("-n", self.namespace, *arguments, timeout=timeout)

    def get(self, *arguments: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "--output", "json"))
        return answer

    def condition(self, kind: str, name: str, condition: str) -> dict[str, Any]:
        """One condition of an object; empty when it is not there yet."""
        for found in self.get(kind, name).get("status", {}).get("conditions", []):
            if found["type"] == condition:
                return dict(found)
        return {}

    def accepted(self, channel: str = "tasks") -> int:
        """Messages accepted on a channel so far, as the Channel's status tells."""
        return int(self.get("channels.ganglion.dev", channel).get("status", {}).get("accepted", 0))

    def pods(self, agent: str, *, ready: bool = False) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("pods", "-l", f"ganglion.dev/agent={agent}")["items"]
        if not ready:
            return found
        return [p for p in found if any(c["type"] == "Ready" and c["status"] == "True" for c in p.get("status", {}).get("conditions", []))]

    def wait_complete(self, timeout: float = 300.0) -> None:
        """Wait until the sink has completed; a failed sink shows its log."""

        def done() -> bool:
            complete = self.condition("agents.ganglion.dev", "sink", "Complete")
            if complete.get("reason") == "Failed":
                raise AssertionError(f"the sink failed: {complete}\n{self.report()}")
            return complete.get("status") == "True"

        wait_for(done, timeout=timeout, interval=1.0, what="the sink completed")

    def report(self) -> str:
        """What the sink printed."""
        return self.kubectl("logs", "-l", "ganglion.dev/agent=sink", "-c", "agent", "--tail", "-1", "--ignore-errors")

    def diagnosis(self) -> str:
        """State of everything, for a failing test."""
        return "\n".join(
            self.kubectl(*words)
            for words in (
                ("get", "zns,zch,zag,pods,sts,jobs", "-o", "wide"),
                ("get", "events", "--sort-by", ".lastTimestamp"),
                ("logs", "-l", "ganglion.dev/nameserver", "--all-containers", "--prefix", "--tail", "20", "--ignore-errors"),
            )
        )
