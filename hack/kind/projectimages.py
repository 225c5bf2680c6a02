"""The project's own images, rebuilt when what they are made of has changed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hack.kind import debian, nodeimage
from hack.kind.provider import Provider
from hack.kind.steps import ROOT, KindError, cache_root, digest, locked, step

CONTEXT = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "agent_image", "operator")
AGENT_EXTRAS = "protobuf"
"""Of the agents' image on kind clusters: what codecs need that the default image is without."""
# Where the host keeps the authorities it trusts; build steps reach the package index with the same ones.
CA_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
INDEX_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")


@dataclass(frozen=True)
class ProjectImage:
    """An image of this project: its name and the file that builds it."""

    name: str
    containerfile: Path


def default_images() -> dict[str, ProjectImage]:
    """Short name → image; GANGLION_AGENT_IMAGE and GANGLION_OPERATOR_IMAGE rename them."""
    agent = os.environ.get("GANGLION_AGENT_IMAGE", "localhost/ganglion-agent:dev")
    operator = os.environ.get("GANGLION_OPERATOR_IMAGE", "localhost/ganglion-operator:dev")
    return {
        "agent": ProjectImage(agent, ROOT / "agent_image" / "Containerfile"),
        "operator": ProjectImage(operator, ROOT / "operator" / "Containerfile"),
    }


def archive(provider: Provider, short: str) -> tuple[Path, str]:
    """The archive of an image (`agent` or `operator`) and the hash of what it is made of; built if stale.

    Raises:
        KindError: unknown image, or the build failed.
    """
    images = default_images()
    if short not in images:
        raise KindError(f"image {short!r}: choose from {', '.join(images)}")
    image = images[short]
    base = base_image(provider)
    extras = AGENT_EXTRAS if short == "agent" else ""
    key = digest(image.name, base, provider.name, extras, *(ROOT / name for name in CONTEXT if (ROOT / name).exists()))
    directory = cache_root() / "images"
    directory.mkdir(exist_ok=True)
    path = directory / f"{short}-{key}.tar"
    with locked(f"image-{short}"):
        if not path.exists():
            arguments, mounts = _build_inputs(provider, base)
            if extras:
                arguments["EXTRAS"] = extras
            with step(f"build {image.name}"):
                provider.engine.build(image.name, image.containerfile, ROOT, arguments=arguments, mounts=mounts)
            with step(f"save {image.name}"):
                for old in directory.glob(f"{short}-????????????.tar"):
                    old.unlink(missing_ok=True)
                provider.engine.save([image.name], path)
    return path, key


def base_image(provider: Provider) -> str:
    """The image that both images start from offline, made if missing; empty where the default can be pulled."""
    if not provider.offline:
        return ""
    return nodeimage.import_base(provider.engine, "python", debian.PYTHON_PACKAGES, "about 45 s")


def _build_inputs(provider: Provider, base: str) -> tuple[dict[str, str], list[Path]]:
    arguments = {name: os.environ[name] for name in INDEX_VARIABLES if os.environ.get(name)}
    if base:
        arguments["BASE_IMAGE"] = base
    mounts: list[Path] = []
    bundle = next((os.environ[name] for name in CA_VARIABLES if Path(os.environ.get(name, "")).is_file()), "")
    if bundle and provider.engine.chroot:
        mounts.append(Path(bundle))
        arguments["PIP_CERT"] = bundle
    return arguments, mounts
