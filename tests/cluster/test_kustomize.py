"""The shipped kustomizeconfig.yaml, through the real kubectl: no reference is left behind."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ganglion.api import load_object
from hack.kind import golang
from tests.support.manifests import agent, channel, link, name_server

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CONFIG = EXAMPLES / "kustomizeconfig.yaml"


def build(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """`kubectl kustomize`: (kind, original or new name) → object."""
    done = subprocess.run(
        [str(golang.program("kubectl")), "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return {(item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load_all(done.stdout)}


@pytest.fixture
def built(tmp_path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Objects with every kind of reference, built with a prefix, a suffix and content hashes."""
    reader = agent(
        "reader",
        code={"configMapRef": {"name": "code"}},
        channels=[link(), link("out", "Push", channel="results")],
        env=[
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "code", "key": "workers.py"}}},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "token", "key": "t"}}},
        ],
        envFrom=[{"configMapRef": {"name": "code"}}, {"secretRef": {"name": "token"}}],
        volumes=[
            {"name": "a", "configMap": {"name": "code"}},
            {"name": "b", "secret": {"secretName": "token"}},
            {"name": "c", "persistentVolumeClaim": {"claimName": "data"}},
        ],
        imagePullSecrets=[{"name": "token"}],
        extraContainers=[
            {"name": "x", "image": "busybox", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "token", "key": "t"}}}]}
        ],
        serviceAccountName="robot",
        image="example.com/reader",
    )
    objects = [
        name_server(
            allowedServiceAccounts=["robot"], agentDefaults={"imagePullSecrets": [{"name": "token"}], "image": "example.com/reader"}
        ),
        channel(deadLetter={"name": "letters"}),
        channel("results"),
        channel("letters"),
        reader,
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        },
    ]
    (tmp_path / "objects.yaml").write_text("\n---\n".join(map(json.dumps, objects)))
    (tmp_path / "workers.py").write_text("class Worker: ...\n")
    shutil.copy(CONFIG, tmp_path)
    kustomization = {
        "resources": ["objects.yaml"],
        "configurations": [CONFIG.name],
        "namePrefix": "a-",
        "nameSuffix": "-z",
        "configMapGenerator": [{"name": "code", "files": ["workers.py"]}],
        "secretGenerator": [{"name": "token", "literals": ["t=secret"]}],
        "images": [{"name": "example.com/reader", "newTag": "v2"}, {"name": "busybox", "newTag": "1"}],
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
    return build(tmp_path)


def test_names_are_rewritten_in_references(built: dict[tuple[str, str], dict[str, Any]]) -> None:
    def generated(kind: str) -> str:
        return next(name for found, name in built if found == kind)

    code, token = generated("ConfigMap"), generated("Secret")
    assert code.startswith("a-code-z-")
    reader = built["Agent", "a-reader-z"]["spec"]
    assert reader["nameServerRef"]["name"] == "a-demo-z"
    assert [entry["channelRef"]["name"] for entry in reader["channels"]] == ["a-tasks-z", "a-results-z"]
    assert reader["code"]["configMapRef"]["name"] == code
    assert [entry["valueFrom"] for entry in reader["env"]] == [
        {"configMapKeyRef": {"name": code, "key": "workers.py"}},
        {"secretKeyRef": {"name": token, "key": "t"}},
    ]
    assert reader["envFrom"] == [{"configMapRef": {"name": code}}, {"secretRef": {"name": token}}]
    assert reader["volumes"] == [
        {"name": "a", "configMap": {"name": code}},
        {"name": "b", "secret": {"secretName": token}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "a-data-z"}},
    ]
    assert reader["imagePullSecrets"] == [{"name": token}]
    assert reader["extraContainers"][0]["env"][0]["valueFrom"]["secretKeyRef"]["name"] == token
    assert reader["serviceAccountName"] == "a-robot-z"
    tasks = built["Channel", "a-tasks-z"]["spec"]
    assert (tasks["nameServerRef"]["name"], tasks["deadLetter"]["name"]) == ("a-demo-z", "a-letters-z")
    server = built["NameServer", "a-demo-z"]["spec"]
    assert server["allowedServiceAccounts"] == ["a-robot-z"]
    assert server["agentDefaults"]["imagePullSecrets"] == [{"name": token}]


def test_images_are_rewritten(built: dict[tuple[str, str], dict[str, Any]]) -> None:
    reader = built["Agent", "a-reader-z"]["spec"]
    assert (reader["image"], reader["extraContainers"][0]["image"]) == ("example.com/reader:v2", "busybox:1")
    assert built["NameServer", "a-demo-z"]["spec"]["agentDefaults"]["image"] == "example.com/reader:v2"


@pytest.mark.parametrize("folder", sorted(path.parent for path in EXAMPLES.glob("*/kustomization.yaml")), ids=lambda path: path.name)
def test_example_builds_and_refers_to_what_it_holds(folder: Path) -> None:
    objects = build(folder)
    for (kind, _), item in objects.items():
        if not item["apiVersion"].startswith("ganglion.dev/"):
            continue
        load_object(item)
        spec = item.get("spec", {})
        if kind != "NameServer":
            assert ("NameServer", spec["nameServerRef"]["name"]) in objects
        for entry in spec.get("channels", ()):
            assert ("Channel", entry["channelRef"]["name"]) in objects
        if "code" in spec and "configMapRef" in spec["code"]:
            source = objects["ConfigMap", spec["code"]["configMapRef"]["name"]]
            assert source["metadata"]["labels"]["ganglion.dev/code"] == "true"
