"""Clusters of kind with engine, kind and kubectl replaced: nodes that boot too slowly, and clusters that share a network."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hack.kind import cluster, debian, golang
from hack.kind.cluster import Cluster
from hack.kind.config import Options
from hack.kind.steps import ROOT, KindError

# Every program of the machine under its own name. What a cluster is made of are files: nodes/CLUSTER/NODE, volumes/NODE, network, filter.
PROGRAM = """\
#!/bin/sh
PATH=/usr/bin:/bin
cd "$(dirname "$0")/.." || exit 9
program=$(basename "$0")
echo "$program $*" >>calls
nodes_of() { ls "nodes/${1##*=}" 2>/dev/null; true; }

kind() {
  for word; do case "$last" in --name) name=$word ;; --kubeconfig) kubeconfig=$word ;; esac; last=$word; done
  if [ -n "$(nodes_of "$name")" ]; then echo "ERROR: node(s) already exist for a cluster with the name $name" >&2; exit 1; fi
  mkdir -p "nodes/$name" volumes
  for node in "$name-control-plane" "$name-worker"; do echo >"nodes/$name/$node"; echo >"volumes/$node"; done
  if [ -s faults ]; then
    head -n 1 faults >&2
    sed -i 1d faults
    exit 1
  fi
  echo "$name" >"$kubeconfig"
}

podman() {
  case "$*" in
  "ps --all --filter label"*) nodes_of "$4" ;;
  "ps --all --filter network"*) ls nodes/* 2>/dev/null; true ;;
  "rm --force --volumes "*) shift 3; for node; do rm nodes/*/"$node" || exit 1; done; rmdir nodes/* 2>/dev/null; true ;;
  "volume ls "*) ls volumes | grep -x "${5##*=}"; true ;;
  "volume rm --force "*) shift 3; for volume; do rm "volumes/$volume" || exit 1; done ;;
  "network exists "*) [ -e network ] ;;
  "network create "*) [ ! -e network ] && echo >network ;;
  "network inspect "*) echo '[{"network_interface": "bridge7"}]' ;;
  "network rm "*) [ ! -e raced ] && [ -z "$(ls nodes 2>/dev/null)" ] && rm network ;;
  "info"* | "image inspect"* | "unpause"* | "kill"* | "exec"*) ;;
  *) echo "podman: unexpected: $*" >&2; exit 9 ;;
  esac
}

nft() { rules=$(cat); case "$rules" in *hook*) echo "$rules" >filter ;; *) rm -f filter ;; esac; }

kubectl() {
  case "$*" in
  *"get --raw"* | *rollout* | *replace*) ;;
  *"get nodes"*)
    name=$(cat "$2") && separator= && echo '{"items": ['
    for node in $(nodes_of "$name"); do
      echo "$separator"'{"metadata": {"name": "'"$node"'"}, "spec": {"podCIDR": "10.244.0.0/24"}, "status":
        {"addresses": [{"type": "InternalIP", "address": "10.89.7.2"}], "conditions": [{"type": "Ready", "status": "True"}]}}'
      separator=,
    done
    echo ']}' ;;
  *) exit 9 ;;
  esac
}

umount() { :; }

"$program" "$@"
"""
SLOW = f"ERROR: failed to create cluster: {cluster.SLOW_BOOT} 'Reached target'\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on PATH but the replaced programs, and a work tree without clusters."""
    programs = tmp_path / "machine" / "bin"
    programs.mkdir(parents=True)
    for name in ("kind", "podman", "nft", "kubectl", "umount"):
        program = programs / name
        program.write_text(PROGRAM)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    tree = tmp_path / "tree"
    tree.mkdir()
    shutil.copy(ROOT / "kind-config.yaml", tree)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cluster, "ROOT", tree)
    monkeypatch.setattr(debian, "ensure_host_packages", lambda: None)
    monkeypatch.setattr(golang, "program", lambda name: programs / name)
    return programs.parent


def _up(name: str) -> Cluster:
    made = Cluster(name)
    made.up(Options(name=name, nodes=2), "offline")
    return made


def _left(machine: Path) -> set[str]:
    """What there is of clusters."""
    return {str(path.relative_to(machine)) for path in machine.rglob("*") if path.is_file() and path.parent.name != "bin"} - {
        "calls",
        "faults",
    }


def _parts(*names: str) -> set[str]:
    nodes = {f"{name}-{role}": name for name in names for role in ("control-plane", "worker")}
    return {f"nodes/{name}/{node}" for node, name in nodes.items()} | {f"volumes/{node}" for node in nodes} | {"network", "filter"}


def _said(machine: Path, *beginnings: str) -> list[str]:
    """Calls that begin so, in order, their first two words."""
    calls = (machine / "calls").read_text().splitlines()
    return [" ".join(call.split()[:2]) for call in calls if call.startswith(beginnings)]


def test_nodes_that_booted_too_slowly_are_removed_and_made_once_more(machine: Path) -> None:
    (machine / "faults").write_text(SLOW)
    made = _up("slow")
    assert _said(machine, "kind create", "podman rm") == ["kind create", "podman rm", "kind create"]
    assert _left(machine) == _parts("slow")
    assert made.problem() is None
    assert Cluster("slow").record == made.record


@pytest.mark.parametrize(
    ("faults", "tries"), [(SLOW * 3, 3), ("ERROR: no space left on device\n", 1)], ids=["always-slow", "another-fault"]
)
def test_nothing_is_left_of_a_cluster_that_could_not_be_made(machine: Path, faults: str, tries: int) -> None:
    (machine / "faults").write_text(faults)
    with pytest.raises(KindError, match=faults.splitlines()[-1].removeprefix("ERROR: ")) as caught:
        _up("lost")
    assert ("less busy" in str(caught.value)) == (tries > 1)
    assert len(_said(machine, "kind create")) == tries
    assert _left(machine) == set()
    assert not Cluster("lost").state.exists()


def test_network_and_filter_go_with_the_last_cluster(machine: Path) -> None:
    first, second = _up("one"), _up("two")
    assert _left(machine) == _parts("one", "two")
    first.delete()
    assert _left(machine) == _parts("two")
    assert second.problem() is None
    assert "bridge7" in (machine / "filter").read_text()
    second.delete()
    assert _left(machine) == set()


def _make_nodes(machine: Path) -> None:
    (machine / "nodes" / "late").mkdir(parents=True)
    (machine / "nodes" / "late" / "late-worker").touch()


def _refuse(machine: Path) -> None:
    (machine / "raced").touch()


@pytest.mark.parametrize("come", [_make_nodes, _refuse], ids=["before-it-is-listed", "after-it-was-listed"])
def test_a_cluster_that_comes_while_another_goes_keeps_the_network(machine: Path, come: Callable[[Path], None]) -> None:
    first = _up("one")
    come(machine)
    first.delete()
    assert {"network", "filter"} <= _left(machine)
    assert "--force" not in " ".join(line for line in (machine / "calls").read_text().splitlines() if line.startswith("podman network"))
