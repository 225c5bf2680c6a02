"""The generated kind configuration: the stock file plus exactly what was asked for."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from hack.kind.config import Options, render
from hack.kind.steps import ROOT, KindError

STOCK = (ROOT / "kind-config.yaml").read_text()


def rendered(options: Options, stock: str = STOCK) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(render(stock, options))
    return document


def patches(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [yaml.safe_load(patch) for patch in document.get("kubeadmConfigPatches", [])]


def test_plain_options_give_the_stock_cluster() -> None:
    assert rendered(Options()) == yaml.safe_load(STOCK)


def test_offline_keeps_the_stock_networking_and_adds_its_own() -> None:
    document = rendered(Options(offline=True))
    assert document["networking"] == {
        **yaml.safe_load(STOCK)["networking"],
        "disableDefaultCNI": True,
        "kubeProxyMode": "nftables",
    }
    (kubelet,) = patches(document)
    assert kubelet["cgroupDriver"] == "cgroupfs"
    assert kubelet["featureGates"] == {"KubeletInUserNamespace": True}


def test_workers_are_added_and_named_as_kind_names_them() -> None:
    options = Options(name="three", nodes=3)
    assert [node["role"] for node in rendered(options)["nodes"]] == ["control-plane", "worker", "worker"]
    assert options.node_names() == ["three-control-plane", "three-worker", "three-worker2"]
    assert rendered(options)["name"] == "three"


def test_nodes_of_the_stock_file_keep_their_settings() -> None:
    stock = STOCK + "  extraPortMappings:\n  - containerPort: 80\n    hostPort: 8080\n- role: worker\n"
    control_plane, worker = rendered(Options(nodes=2), stock)["nodes"]
    assert control_plane["extraPortMappings"] == [{"containerPort": 80, "hostPort": 8080}]
    assert worker == {"role": "worker"}


def test_fast_restart_is_a_patch_of_its_own() -> None:
    (kubelet,) = patches(rendered(Options(fast_restart=True)))
    assert kubelet["crashLoopBackOff"] == {"maxContainerRestartPeriod": "1s"}
    assert kubelet["featureGates"] == {"KubeletCrashLoopBackOffMax": True}


def test_scale_speaks_both_versions_of_kubeadm() -> None:
    old, new = patches(rendered(Options(scale=True)))
    flags = old["controllerManager"]["extraArgs"]
    assert (old["apiVersion"], new["apiVersion"]) == ("kubeadm.k8s.io/v1beta3", "kubeadm.k8s.io/v1beta4")
    assert flags["kube-api-qps"] == "500"
    assert {entry["name"]: entry["value"] for entry in new["controllerManager"]["extraArgs"]} == flags


def test_patches_join_those_of_the_stock_file() -> None:
    stock = STOCK + "kubeadmConfigPatches:\n- |\n  kind: KubeletConfiguration\n  maxPods: 50\n"
    own, added = patches(rendered(Options(fast_restart=True), stock))
    assert own == {"kind": "KubeletConfiguration", "maxPods": 50}
    assert "crashLoopBackOff" in added


@pytest.mark.parametrize(
    ("stock", "said"),
    [
        (STOCK + "featureGates: {A: true}\n", "block style"),
        (STOCK.replace("networking:\n", "networking:\n  disableDefaultCNI: false\n"), "disableDefaultCNI is set"),
        (STOCK + "- role: worker\n", "2 nodes are written there"),
        (STOCK + "---\nkind: Cluster\n", "is not understood"),
        ("{kind: Cluster}\n", "is not understood"),
        (STOCK + "kind: Cluster\n", "kind is there twice"),
    ],
)
def test_what_cannot_be_merged_is_refused(stock: str, said: str) -> None:
    with pytest.raises(KindError, match=said):
        render(stock, Options(offline=True))


@pytest.mark.parametrize(("name", "nodes"), [("", 1), ("UPPER", 1), ("a" * 40, 1), ("x; rm", 1), ("ok", 0), ("ok", 9)])
def test_absurd_options_are_refused(name: str, nodes: int) -> None:
    with pytest.raises(KindError):
        Options(name=name, nodes=nodes)


def test_stock_file_has_no_trace_of_the_offline_provider() -> None:
    assert set(yaml.safe_load(STOCK)) == {"kind", "apiVersion", "name", "networking", "nodes"}
