"""Which engine and which node image make the cluster: the stock ones where they can be had, else the offline ones."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from hack.kind import debian, engine, golang, nodeimage
from hack.kind.engine import Engine
from hack.kind.steps import KindError, say, succeeds

# The default of kind v0.33.0 (its pkg/apis/config/defaults/image.go).
STOCK_NODE_IMAGE = "docker.io/kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5"
CHOICES = ("auto", "docker", "podman", "offline")
# A registry that has not said in this time whether it has the image is as good as none.
REGISTRY_SECONDS = 20


@dataclass(frozen=True)
class Provider:
    """A way to make a cluster.

    Attributes:
        name: `docker`, `podman` or `offline`.
        engine: the container engine that runs the nodes and builds the images.
        stock_image: the node image to use; empty when the offline one is built.
    """

    name: str
    engine: Engine
    stock_image: str = ""

    @property
    def offline(self) -> bool:
        """Whether nothing can be pulled, so that images come from Debian packages and Go modules."""
        return self.name == "offline"

    def node_image(self) -> str:
        """The node image's name; the offline one is built when the store has not got it."""
        return nodeimage.ensure(self.engine) if self.offline else self.stock_image

    def tool(self, name: str) -> Path:
        """kind, kubectl, helm or kwok: what is on PATH beside a stock image, else the pinned build.

        kubectl stays within its supported skew of the offline cluster only as the pinned build.
        """
        found = shutil.which(name)
        return Path(found) if found and not self.offline else golang.program(name)


def by_name(name: str, image: str = "") -> Provider:
    """A provider without looking whether it works; for clusters that exist already."""
    if name == "docker":
        return Provider(name, engine.docker(), image or STOCK_NODE_IMAGE)
    if name == "podman":
        return Provider(name, engine.podman(), image or STOCK_NODE_IMAGE)
    return Provider("offline", engine.podman_offline())


def select(wanted: str, image: str = "") -> Provider:
    """The provider that is asked for, or with `auto` the first that works.

    Arguments:
        wanted: one of `CHOICES`.
        image: a stock node image instead of kind's default.

    Raises:
        KindError: unknown name, or the engine that is asked for does not answer.
    """
    if wanted not in CHOICES:
        raise KindError(f"GANGLION_KIND_PROVIDER={wanted!r}: choose one of {', '.join(CHOICES)}")
    if wanted == "offline":
        return _offline()
    if wanted != "auto":
        chosen = by_name(wanted, image)
        if not chosen.engine.works():
            raise KindError(f"{wanted}: not installed or its daemon does not answer (`{wanted} info`); start it, or use offline")
        return chosen
    working = [stock for stock in (by_name("docker", image), by_name("podman", image)) if stock.engine.works()]
    for stock in working:
        if stock.engine.has_image(stock.stock_image):
            return stock
    # One look at the local store is cheaper than a registry that may never answer.
    if shutil.which("podman") and by_name("offline").engine.has_image(nodeimage.tag()):
        return _offline()
    for stock in working:
        if _pullable(stock):
            return stock
    say("· no Docker or podman with a node image at hand: the offline provider builds one")
    return _offline()


def _offline() -> Provider:
    debian.ensure_host_packages()
    return by_name("offline")


def _pullable(stock: Provider) -> bool:
    say(f"· {stock.name}: asking the registry for {stock.stock_image.split('@')[0]} ({REGISTRY_SECONDS} s at most)")
    command = [stock.engine.name, "manifest", "inspect", stock.stock_image]
    return succeeds(command, timeout=REGISTRY_SECONDS, env=stock.engine.environment)
