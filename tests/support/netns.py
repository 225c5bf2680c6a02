"""Two network namespaces, joined by one cable, that stand for two hosts with names. Root on Linux only."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ETC = Path("/etc/netns")


def missing() -> str:
    """Why there can be none here; empty when there can."""
    if not hasattr(os, "setns") and not Path("/proc/self/ns/net").exists():
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "the program `ip` (package iproute2) is not installed"
    name = f"gnl-{uuid.uuid4().hex[:8]}"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"network namespaces cannot be made here: {done.stderr.strip()}"
    _ip("netns", "del", name)
    return ""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=10)


@dataclass(frozen=True)
class Host:
    """One of the two.

    Attributes:
        name: its host name, known to both.
        namespace: its network namespace.
        interface: its end of the cable.
    """

    name: str
    namespace: str
    interface: str

    def command(self, *arguments: str) -> list[str]:
        """A command line that runs on this host."""
        return ["ip", "netns", "exec", self.namespace, *arguments]

    def cable(self, *, plugged: bool) -> None:
        """Pull the cable, or put it back."""
        _ip("-n", self.namespace, "link", "set", self.interface, "up" if plugged else "down")


@contextlib.contextmanager
def two_hosts(*names: str) -> Iterator[tuple[Host, Host]]:
    """Two hosts with these names. Nothing of them is left behind."""
    mark = uuid.uuid4().hex[:8]
    first, second = (Host(name, f"gnl-{mark}-{end}", f"gnl{mark}{end}") for name, end in zip(names, "ab", strict=True))
    hosts = "127.0.0.1 localhost\n" + f"10.231.77.1 {first.name}\n10.231.77.2 {second.name}\n"
    try:
        for host in (first, second):
            _ip("netns", "add", host.namespace)
            # `ip netns exec` puts the files of this folder over those of /etc.
            (ETC / host.namespace).mkdir(parents=True)
            (ETC / host.namespace / "hosts").write_text(hosts)
        # Made inside: this machine never sees the cable.
        _ip(
            "-n",
            first.namespace,
            "link",
            "add",
            first.interface,
            "type",
            "veth",
            "peer",
            "name",
            second.interface,
            "netns",
            second.namespace,
        )
        for number, host in enumerate((first, second), 1):
            _ip("-n", host.namespace, "addr", "add", f"10.231.77.{number}/24", "dev", host.interface)
            for interface in ("lo", host.interface):
                _ip("-n", host.namespace, "link", "set", interface, "up")
        yield first, second
    finally:
        for host in (first, second):
            subprocess.run(["ip", "netns", "del", host.namespace], check=False, capture_output=True, timeout=10)
            shutil.rmtree(ETC / host.namespace, ignore_errors=True)
        with contextlib.suppress(OSError):
            # Only when it was we who made it, or it is empty anyway.
            ETC.rmdir()
