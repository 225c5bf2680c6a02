"""The offline node image: a kind node whose every byte comes from Debian packages and Go modules."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hack.kind import debian, golang
from hack.kind.engine import Engine
from hack.kind.steps import HERE, cache_root, digest, locked, run, step

FILES = HERE / "node"
REPOSITORY = "localhost/ganglion-kind-node"
# Images that every node runs; the others belong to the control plane, which spares workers their import.
ON_EVERY_NODE = ("coredns", "kube-proxy", "pause")
GROUPS = ("apiserver", "node", "pause", "coredns")


def tag() -> str:
    """The node image's name; its tag is the hash of everything it is made of."""
    modules = [HERE / "go" / golang.GROUPS[group].module for group in GROUPS]
    inputs: list[str | Path] = [FILES, *modules, *debian.NODE_PACKAGES, *debian.UNREAD, golang.kubernetes_version()]
    return f"{REPOSITORY}:{golang.kubernetes_version()}-{digest(*inputs)}"


def ensure(engine: Engine) -> str:
    """Build the node image if the engine's store has not got it, and return its name.

    Raises:
        KindError: a program, a package or a build step is missing or failed.
    """
    image = tag()
    if engine.has_image(image):
        return image
    with locked("node-image"):
        if not engine.has_image(image):
            _build(engine, image)
    return image


def _build(engine: Engine, image: str) -> None:
    base = import_base(engine, "node", debian.NODE_PACKAGES, "about 50 s")
    directories = [golang.programs(group) for group in GROUPS]
    # Beside the cache, so that hard links to its programs do not cross file systems.
    with tempfile.TemporaryDirectory(prefix="node-", dir=cache_root()) as scratch, step(f"build node image {image}"):
        context = Path(scratch)
        for directory in directories:
            for program in directory.iterdir():
                os.link(program, context / program.name)
        for file in FILES.iterdir():
            shutil.copy2(file, context / file.name)
        names = control_plane_images(directories[GROUPS.index("node")] / "kubeadm")
        for target, name in names.items():
            engine.build(name, FILES / "Containerfile", context, target=target, arguments={"BASE": base})
        (context / "images").mkdir()
        (context / "version").write_text(golang.kubernetes_version())
        config = context / "containerd-config.toml"
        config.write_text(config.read_text().replace("@PAUSE_IMAGE@", names["pause"]))
        everywhere = [name for target, name in names.items() if target in ON_EVERY_NODE]
        engine.save(everywhere, context / "images" / "every-node.tar")
        rest = [name for target, name in names.items() if target not in ON_EVERY_NODE]
        engine.save(rest, context / "images" / "control-plane.tar")
        engine.build(image, FILES / "Containerfile", context, target="node", arguments={"BASE": base})
        engine.discard([*names.values(), *(old for old in engine.tags(REPOSITORY) if old != image)])


def control_plane_images(kubeadm: Path) -> dict[str, str]:
    """Short name (`kube-apiserver`) → the full image name under which kubeadm will ask for it."""
    listed = run([kubeadm, "config", "images", "list", "--kubernetes-version", golang.kubernetes_version()], timeout=60)
    return {name.rsplit("/", 1)[-1].split(":")[0]: name for name in listed.split()}


def import_base(engine: Engine, name: str, packages: tuple[str, ...], say_time: str) -> str:
    """A Debian root file system as an image of the engine's store; returns its name."""
    archive = debian.root_filesystem(name, packages, say_time)
    image = f"localhost/ganglion-base-{name}:{archive.parent.name.rsplit('-', 1)[-1]}"
    if not engine.has_image(image):
        with step(f"import {image}"):
            engine.run("import", "--quiet", archive, image, timeout=300)
    return image
