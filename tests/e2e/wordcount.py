"""The word count on the cluster: applying it, following it, and reading its report."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.domain import API, Domain
from tests.support.cluster import KindCluster
from tests.support.wait import wait_for

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "wordcount"
ENDLESS = Path(__file__).with_name("endless.py")
ENOUGH = "/tmp/enough"
CLASSES: dict[str, dict[str, Any]] = {
    "ventilator": {"class": "endless:ventilate", "attributes": {"enough": ENOUGH}},
    "worker": {"class": "endless:Worker"},
    "sink": {"class": "endless:Sink"},
}
PROOF = re.compile(r"PROOF: equal to the plain single-process count: (\d+) files")


class WordCount(Domain):
    """One run of `examples/wordcount` in a namespace.

    Args:
        passes: how often each file is sent; 0: `endless`, until `enough`.
        patches: merged into the spec of agents, by name.
        channels: merged into the spec of channels, by name.
    """

    def __init__(
        self,
        kind: KindCluster,
        namespace: str,
        *,
        passes: int = 0,
        patches: Mapping[str, Any] | None = None,
        channels: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(kind, namespace)
        self.passes = passes
        self.patches = patches or {}
        self.channels = channels or {}

    def apply(self) -> None:
        """`kubectl apply -k` of the example with the number of passes set, or with the classes of `endless` in their place."""
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder) / "base"
            shutil.copytree(EXAMPLE, base, ignore=shutil.ignore_patterns("__pycache__"))
            agents: dict[str, dict[str, Any]] = {name: {"attributes": {"passes": self.passes}} for name in ("ventilator", "sink")}
            overlay: dict[str, Any] = {"resources": ["base"]}
            if not self.passes:
                agents = dict(CLASSES)
                shutil.copy(ENDLESS, folder)
                overlay["configMapGenerator"] = [{"name": "wordcount-code", "behavior": "merge", "files": [ENDLESS.name]}]
            for name, patch in self.patches.items():
                own = agents.get(name, {})
                both = {"attributes": {**own.get("attributes", {}), **patch["attributes"]}} if "attributes" in patch else {}
                agents[name] = {**own, **patch, **both}
            every = [("Agent", *entry) for entry in agents.items()] + [("Channel", *entry) for entry in self.channels.items()]
            overlay["patches"] = [_patch(*one) for one in every]
            (Path(folder) / "kustomization.yaml").write_text(json.dumps(overlay), encoding="utf-8")
            self.kubectl("apply", "-k", folder)

    def enough(self) -> None:
        """Let an endless run come to its end."""
        [pod] = self.pods("ventilator")

        def told() -> bool:
            # A kubelet on a machine that is busy for a moment refuses to exec, and once more does no harm.
            with contextlib.suppress(subprocess.CalledProcessError):
                self.kubectl("exec", pod["metadata"]["name"], "-c", "agent", "--", "touch", ENOUGH)
                return True
            return False

        wait_for(told, timeout=60, interval=1.0, what="the ventilator to hear that this is enough")

    def sent(self) -> int:
        """How many files the ventilator of an endless run says that it sent."""
        [count] = re.findall(r"SENT (\d+) files", self.log("ventilator"))
        return int(count)

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
        return self.log("sink")

    def finish(self, timeout: float = 300.0) -> str:
        """Let the run end and wait for the report, which must be exact, and return it; a failure shows the state of everything."""
        try:
            if not self.passes:
                self.enough()
            self.wait_complete(timeout)
            report = self.report()
            proof = PROOF.search(report)
            assert proof, report
            assert self.passes or int(proof[1]) == self.sent(), report
        except (TimeoutError, AssertionError, subprocess.CalledProcessError) as error:
            error.add_note(self.diagnosis())
            raise
        return report


def _patch(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    body = {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}
    return {"target": {"kind": kind, "name": name}, "patch": json.dumps(body)}
