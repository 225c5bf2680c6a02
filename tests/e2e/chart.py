"""The chart on the cluster."""

from __future__ import annotations

from pathlib import Path

from tests.support.cluster import KindCluster

CHART = Path(__file__).resolve().parents[2] / "charts" / "ganglion"
SYSTEM = "ganglion-system"
"""Namespace of the operator that serves the whole cluster."""


def install(kind: KindCluster, release: str, namespace: str, *more: str) -> None:
    """Install or upgrade the chart as a user would; helm waits for the operator."""
    values = []
    for name, image in (("operator", kind.operator_image), ("agent", kind.agent_image)):
        repository, _, tag = image.rpartition(":")
        values += ["--set", f"image.{name}.repository={repository},image.{name}.tag={tag}"]
    where = ["--namespace", namespace, "--create-namespace", "--wait", "--timeout", "3m"]
    kind.helm("upgrade", "--install", release, str(CHART), *where, *values, *more)
