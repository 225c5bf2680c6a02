"""The container engine behind a cluster: Docker or podman, one small face for both."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hack.kind.steps import KindError, cache_root, run, succeeds

# A build that installs Python packages from a slow mirror; everything else takes seconds.
BUILD_SECONDS = 1800


@dataclass(frozen=True)
class Engine:
    """A container engine.

    Attributes:
        name: `docker` or `podman`, which is also the name of its program.
        environment: variables that every call of it (and of kind on top of it) needs.
        chroot: build without a container runtime, for machines where a nested one may not mount.
    """

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    chroot: bool = False

    def run(self, *arguments: str | Path, timeout: float = 120, stdin: str | None = None) -> str:
        """Call the engine and return its stdout; `timeout` in seconds.

        Raises:
            KindError: it failed or was too slow.
        """
        return run([self.name, *arguments], timeout=timeout, env=self.environment, stdin=stdin)

    def works(self) -> bool:
        """Whether the program is there and its daemon, if it has one, answers."""
        return shutil.which(self.name) is not None and succeeds([self.name, "info"], timeout=20, env=self.environment)

    def has_image(self, image: str) -> bool:
        """Whether an image is in the local store."""
        return succeeds([self.name, "image", "inspect", image], timeout=30, env=self.environment)

    def build(
        self,
        tag: str,
        containerfile: Path,
        context: Path,
        *,
        target: str = "",
        arguments: Mapping[str, str] | None = None,
        mounts: Sequence[Path] = (),
    ) -> None:
        """Build an image.

        Arguments:
            mounts: host files that build steps may read at the same path; podman only.

        Raises:
            KindError: a build step failed.
        """
        options = ["--tag", tag, "--file", str(containerfile)]
        options += ["--target", target] if target else []
        for name, value in (arguments or {}).items():
            options += ["--build-arg", f"{name}={value}"]
        if self.chroot:
            options += ["--isolation", "chroot", "--quiet"]
            for mount in mounts:
                options += ["--volume", f"{mount}:{mount}:ro"]
        self.run("build", *options, context, timeout=BUILD_SECONDS)

    def save(self, images: Sequence[str], archive: Path) -> None:
        """Write images, with the layers they share only once, into one archive that replaces `archive`."""
        partial = archive.with_name(f".{archive.name}.partial")
        partial.unlink(missing_ok=True)
        multiple = ["--multi-image-archive"] if self.name == "podman" and len(images) > 1 else []
        self.run("save", *multiple, "--output", partial, *images, timeout=600)
        partial.replace(archive)

    def tags(self, repository: str) -> list[str]:
        """The names with tag that the local store has of a repository."""
        return self.run("images", "--format", "{{.Repository}}:{{.Tag}}", repository).split()

    def discard(self, images: Sequence[str]) -> None:
        """Remove names of images; one that is absent or in use stays as it is."""
        for image in images:
            succeeds([self.name, "rmi", image], timeout=60, env=self.environment)


def docker() -> Engine:
    """Docker, as the user configured it."""
    return Engine("docker", {"KIND_EXPERIMENTAL_PROVIDER": "docker", "DOCKER_BUILDKIT": "1"})


def podman() -> Engine:
    """podman, as the user configured it."""
    return Engine("podman", {"KIND_EXPERIMENTAL_PROVIDER": "podman"})


def podman_offline() -> Engine:
    """podman with a configuration of the project's own, which works where the defaults ask for more than is allowed."""
    return Engine(
        "podman",
        {"KIND_EXPERIMENTAL_PROVIDER": "podman", "CONTAINERS_CONF": str(_containers_conf())},
        chroot=True,
    )


def _containers_conf() -> Path:
    # Without CAP_SYS_RESOURCE runc may not raise a limit, and sets nproc only to less than its hard limit.
    files = _capped(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1 << 20)
    processes = _capped(resource.getrlimit(resource.RLIMIT_NPROC)[1] - 1, 30000)
    if processes < 2000 or files < 2000:
        raise KindError(f"hard limits too low for a cluster: {files} open files, {processes} processes; raise both (ulimit -Hn, -Hu)")
    text = f"""\
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
    path = cache_root() / "containers.conf"
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return path


def _capped(limit: int, most: int) -> int:
    """A resource limit as a number; RLIM_INFINITY is negative (and stays so when one is taken off)."""
    return most if limit < 0 else min(limit, most)
