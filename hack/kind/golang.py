"""The Go programs of the clusters, built from the pinned modules under `go/`: `go.mod` names the version, `go.sum` its hash."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hack.kind.steps import HERE, KindError, cached, digest, run

# Building kube-apiserver alone takes minutes on two cores; an hour bounds the slowest machine worth waiting for.
BUILD_SECONDS = 3600


@dataclass(frozen=True)
class Group:
    """Programs that are built together.

    Attributes:
        module: directory under `go/` that pins the version.
        programs: name of the program → its Go package.
        cold: what a build from nothing takes on two cores, for the announcement.
    """

    module: str
    programs: dict[str, str]
    cold: str


GROUPS: dict[str, Group] = {
    # All that a real API server needs; no container engine, no root.
    "apiserver": Group(
        "kubernetes",
        {
            "etcd": "go.etcd.io/etcd/server/v3",
            "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
            "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
            "kubectl": "k8s.io/kubernetes/cmd/kubectl",
        },
        "about 5 minutes",
    ),
    "node": Group(
        "kubernetes",
        {
            "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
            "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
            "kubeadm": "k8s.io/kubernetes/cmd/kubeadm",
            "kubelet": "k8s.io/kubernetes/cmd/kubelet",
        },
        "about 2 minutes",
    ),
    "pause": Group("pause", {"pause": "."}, "seconds"),
    "kind": Group("kind", {"kind": "sigs.k8s.io/kind"}, "seconds"),
    "coredns": Group("coredns", {"coredns": "github.com/coredns/coredns"}, "about 2 minutes"),
    "helm": Group("helm", {"helm": "helm.sh/helm/v3/cmd/helm"}, "about 3 minutes"),
    "kwok": Group("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}, "about 1 minute"),
}


def module_version(module: str, path: str) -> str:
    """The version (`v1.34.4`) that `go/<module>/go.mod` pins for a Go module path."""
    text = (HERE / "go" / module / "go.mod").read_text()
    found = re.search(rf"^\s*(?:require )?{re.escape(path)} (v\S+)", text, re.MULTILINE)
    if found is None:
        raise KindError(f"hack/kind/go/{module}/go.mod: no version of {path}; run `go mod tidy` there")
    return found[1]


def kubernetes_version() -> str:
    """The Kubernetes version of the offline clusters and of the API server under test."""
    return module_version("kubernetes", "k8s.io/kubernetes")


def programs(group: str) -> Path:
    """The directory with a group's programs, built if the cache has not got them.

    Raises:
        KindError: Go is missing or too old, or the build failed.
    """
    what = GROUPS[group]
    module = HERE / "go" / what.module
    flags = _linker_flags(what.module)
    key = digest(module, flags, *(f"{name}={package}" for name, package in what.programs.items()))

    def build(target: Path) -> None:
        _check_go(module / "go.mod")
        environment = {"CGO_ENABLED": "0", "GOBIN": str(target), "GOFLAGS": "-trimpath -buildvcs=false -mod=readonly"}
        command = ["go", "install", "-ldflags", flags, *what.programs.values()]
        run(command, cwd=module, env=environment, timeout=BUILD_SECONDS)
        if "etcd" in what.programs:
            # `go install` names a program after its package, and etcd's is called server.
            (target / "server").rename(target / "etcd")

    title = f"build {', '.join(what.programs)} from Go modules ({what.cold} when Go's cache is cold)"
    return cached("bin", group, key, title, build)


def program(name: str) -> Path:
    """One program by name, built if the cache has not got it."""
    for group, what in GROUPS.items():
        if name in what.programs:
            return programs(group) / name
    raise KindError(f"{name}: no such program; known: {', '.join(sorted(p for g in GROUPS.values() for p in g.programs))}")


def search_path(groups: Iterable[str]) -> str:
    """A PATH value with the directories of these groups in front of the present one."""
    return os.pathsep.join([*(str(programs(group)) for group in groups), os.environ.get("PATH", os.defpath)])


def _linker_flags(module: str) -> str:
    flags = "-s -w"
    if module != "kubernetes":
        return flags
    version = kubernetes_version()
    major, minor = version.removeprefix("v").split(".")[:2]
    stamp = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join([flags, *(f"-X k8s.io/component-base/version.{field}={value}" for field, value in stamp.items())])


def _check_go(go_mod: Path) -> None:
    wanted = re.search(r"^go (\d+)\.(\d+)", go_mod.read_text(), re.MULTILINE)
    if wanted is None:
        raise KindError(f"{go_mod}: no `go` line")
    if shutil.which("go") is None:
        raise KindError(
            f"go: not found. The cluster's programs are built from Go modules: install Go ≥ {wanted[1]}.{wanted[2]}"
            " and put it on PATH, or use Docker or podman with a node image (GANGLION_KIND_PROVIDER=docker|podman)"
        )
    # Outside a module, so that a newer toolchain is not fetched just to be asked for its version.
    found = re.search(r"go(\d+)\.(\d+)", run(["go", "version"], cwd=Path("/"), timeout=120))
    if found is None:
        raise KindError("go version: answer not understood; install an official Go release")
    have, need = (int(found[1]), int(found[2])), (int(wanted[1]), int(wanted[2]))
    can_switch = have >= (1, 21) and run(["go", "env", "GOTOOLCHAIN"], cwd=Path("/"), timeout=60).strip() != "local"
    if have < need and not can_switch:
        raise KindError(
            f"Go {have[0]}.{have[1]} is too old for {go_mod.parent.name}: install Go ≥ {need[0]}.{need[1]},"
            " or allow toolchain switching (GOTOOLCHAIN=auto)"
        )
