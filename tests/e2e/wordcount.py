"""The word count on the cluster: applying it, following it, and reading its report."""

from __future__ import annotations

import json
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
PROOF = "PROOF: equal to the plain single-process count"


class WordCount(Domain):
    """One run of `examples/wordcount` in a namespace.

    Args:
        passes: how often each file is sent: how long the run is.
        patches: merged into the spec of agents, by name.
        channels: merged into the spec of channels, by name.
    """

    def __init__(
        self,
        kind: KindCluster,
        namespace: str,
        *,
        passes: int = 1,
        patches: Mapping[str, Any] | None = None,
        channels: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(kind, namespace)
        self.passes = passes
        self.patches = patches or {}
        self.channels = channels or {}

    def apply(self) -> None:
        """`kubectl apply -k` of the example with the number of passes set."""
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder) / "base"
            shutil.copytree(EXAMPLE, base, ignore=shutil.ignore_patterns("__pycache__"))
            agents = {name: {"attributes": {"passes": self.passes}} for name in ("ventilator", "sink")}
            for name, patch in self.patches.items():
                own = {**agents.get(name, {}), **patch}
                if "attributes" in patch and name in agents:
                    own["attributes"] = {**agents[name]["attributes"], **patch["attributes"]}
                agents[name] = own
            patches = [_patch("Agent", *entry) for entry in agents.items()] + [_patch("Channel", *entry) for entry in self.channels.items()]
            overlay = {"resources": ["base"], "patches": patches}
            (Path(folder) / "kustomization.yaml").write_text(json.dumps(overlay), encoding="utf-8")
            self.kubectl("apply", "-k", folder)

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
        """Wait for the report, which must be exact, and return it; a failure shows the state of everything."""
        try:
            self.wait_complete(timeout)
            report = self.report()
            assert PROOF in report, report
        except (TimeoutError, AssertionError, subprocess.CalledProcessError) as error:
            error.add_note(self.diagnosis())
            raise
        return report


def _patch(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    body = {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}
    return {"target": {"kind": kind, "name": name}, "patch": json.dumps(body)}
