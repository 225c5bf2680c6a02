"""Debian: the host packages that the offline cluster needs, and the root file systems that its images start from."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hack.kind.steps import KindError, cached, digest, locked, run, step

# The program that proves a package is there → the package. crun is not among them: it refuses hybrid cgroups.
HOST_PACKAGES = {
    "podman": "podman",
    "runc": "runc",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "nft": "nftables",
    "/usr/lib/podman/aardvark-dns": "aardvark-dns",
}
# systemd 252 of this release still boots where the host mounts cgroup v1; 256 and later refuse.
SUITE = "bookworm"
NODE_PACKAGES = (
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "dbus",
    "ethtool",
    "iproute2",
    "iptables",
    "jq",
    "kmod",
    "mount",
    "nftables",
    "procps",
    "runc",
    "socat",
    "systemd",
    "util-linux",
)
# python3-venv brings the wheels of pip without pip itself, its compilers or its headers.
PYTHON_PACKAGES = ("ca-certificates", "python3-minimal", "python3", "python3-venv")
# What neither a node nor an agent reads; a third of the archive otherwise. The licences in /usr/share/doc stay.
UNREAD = (
    "var/cache/apt/archives",
    "var/cache/apt/pkgcache.bin",
    "var/cache/apt/srcpkgcache.bin",
    "var/cache/debconf",
    "var/lib/apt/lists",
    "var/log",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
)


def ensure_host_packages() -> None:
    """Install what is missing of `HOST_PACKAGES`.

    Raises:
        KindError: something is missing and this is not root on a system with apt.
    """
    missing = [package for proof, package in HOST_PACKAGES.items() if shutil.which(proof) is None]
    if not missing:
        return
    wanted = " ".join(missing)
    if shutil.which("apt-get") is None:
        raise KindError(f"missing programs of the Debian packages {wanted}, and there is no apt-get: install them by hand")
    if os.geteuid() != 0:
        raise KindError(f"missing packages, and only root may install them: sudo apt-get install --no-install-recommends {wanted}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with locked("apt"), step(f"install Debian packages: {wanted}"):
        run(["apt-get", "update", "-q"], timeout=300, env=quiet)
        run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing], timeout=900, env=quiet)


def root_filesystem(name: str, packages: tuple[str, ...], say_time: str) -> Path:
    """A Debian root file system as a tar archive, bootstrapped if the cache has not got it.

    The mirror is debootstrap's default, or GANGLION_DEBIAN_MIRROR.

    Raises:
        KindError: not root, or debootstrap failed.
    """
    mirror = [os.environ["GANGLION_DEBIAN_MIRROR"]] if os.environ.get("GANGLION_DEBIAN_MIRROR") else []

    def build(target: Path) -> None:
        if os.geteuid() != 0:
            raise KindError("debootstrap needs root (it makes device nodes and chroots): run as root, or use Docker")
        root = target / "root"
        included = f"--include={','.join(packages)}"
        run(["debootstrap", "--variant=minbase", included, SUITE, root, *mirror], timeout=1200)
        for unread in UNREAD:
            _empty(root / unread)
        run(["tar", "--create", "--numeric-owner", "--file", target / "root.tar", "--directory", root, "."], timeout=300)
        shutil.rmtree(root)

    key = digest(SUITE, *packages, *UNREAD)
    return cached("rootfs", name, key, f"bootstrap Debian {SUITE} for {name} ({say_time})", build) / "root.tar"


def _empty(path: Path) -> None:
    if path.is_dir():
        for child in path.iterdir():
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                child.unlink()
    elif path.exists():
        path.unlink()
